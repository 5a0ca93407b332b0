"""RegNet and AnyNet (Radosavovic et al., Designing Network Design Spaces, CVPR 2020)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any

from mindspore import nn

from ..design_space import (
    SETTINGS,
    Complexity,
    NetworkPlan,
    complexity,
    plan_anynet,
    plan_regnet,
)
from .blocks import Head, Stem, build_stages, initialize_weights, zero_last_gammas
from .features import FeatureInfo
from .registry import create_model, register_model


class AnyNet(nn.Cell):
    """The paper's general network (section 3.1): a stem, stages of equal blocks and a head.

    `plan` holds all that shapes it, and `num_features` the channels of the classifier's input.

    Args:
        depths, widths, strides: blocks, output channels and stride of each stage; no strides: 2.
        stem_type: simple_stem_in (3x3), res_stem_in (7x7 and pooling) or res_stem_cifar (3x3,
            stride 1).
        block_type: vanilla_block, res_basic_block, res_bottleneck_block or
            res_bottleneck_linear_block.
        stem_w, head_w: channels of the stem, and of a 1x1 convolution before pooling (0: none).
        bot_muls: bottleneck width / output width of each stage; None: 1.
        group_ws: channels per group of each stage; None: no groups.
        num_classes: 0: no classifier; the output is the pooled vector.
        se_r: squeeze-and-excitation width / input width of a block; 0: none.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 at the first, as
            in timm (pycls and torchvision have none for RegNet).
        activation: relu or silu, everywhere in the network.
        global_pool: avg, max, or none (also ""), which returns the feature map and needs
            num_classes=0.
        zero_init_last: start the last gamma of each residual branch at zero, so that the block
            starts as its shortcut (pycls' `BN.ZERO_INIT_FINAL_GAMMA`).

    Raises:
        ValueError: an unknown name, sequences of unequal length, a group width that does not divide
            its bottleneck width, or drop_path_rate or zero_init_last with vanilla blocks, which
            have no shortcut.
    """

    def __init__(
        self,
        depths: Sequence[int],
        stem_type: str = "simple_stem_in",
        stem_w: int = 32,
        block_type: str = "res_bottleneck_block",
        widths: Sequence[int] = (),
        strides: Sequence[int] = (),
        bot_muls: Sequence[float] | None = None,
        group_ws: Sequence[int] | None = None,
        head_w: int = 0,
        num_classes: int = 1000,
        se_r: float = 0.0,
        in_channels: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        activation: str = "relu",
        global_pool: str = "avg",
        zero_init_last: bool = False,
    ):
        given = dict(locals())
        super().__init__()
        plan = _plan(plan_anynet, given)
        self._build(plan, drop_rate, drop_path_rate, global_pool, zero_init_last=zero_init_last)

    def _build(
        self,
        plan: NetworkPlan,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
        zero_init_last: bool = False,
    ) -> None:
        if plan.block_type == "vanilla_block" and (drop_path_rate or zero_init_last):
            raise ValueError("drop_path_rate and zero_init_last need blocks with a shortcut")
        self.plan = plan
        self.num_classes = plan.num_classes
        self.stem = Stem(plan)
        self.stages = nn.CellList(build_stages(plan, drop_path_rate))
        self.head = Head(plan, drop_rate, global_pool)
        self.num_features = self.head.num_features
        initialize_weights(self)
        if zero_init_last:
            zero_last_gammas(self.stages)

    def forward_features(self, x):
        """Return the last stage's feature map, (N, C, H / 32, W / 32) for strides of 2."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, x, pre_logits: bool = False):
        """Return a feature map's logits or, with `pre_logits`, the classifier's input, (N, C)."""
        return self.head.features(x) if pre_logits else self.head(x)

    def construct(self, x):
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Cell:
        """Return the last layer: a Dense, or an Identity if num_classes is 0."""
        return self.head.fc

    def layer_groups(self) -> list[list[nn.Cell]]:
        """Return the layers below the head, from the image on: stem, then each stage's blocks."""
        return [[self.stem], *(list(stage.blocks) for stage in self.stages)]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a freshly initialised one.

        Reset before building an optimizer or a train step, which would keep the old classifier.

        Args:
            num_classes: 0: no classifier; the output is the pooled vector.
            global_pool: avg, max or none; None: unchanged.

        Raises:
            ValueError: num_classes is negative, or the pooling is unknown or does not fit.
        """
        plan = replace(self.plan, num_classes=num_classes)
        self.head.reset(num_classes, self.head.pool if global_pool is None else global_pool)
        self.plan, self.num_classes = plan, num_classes
        initialize_weights(self.head.fc)
        # Inside another network, parameter names have a prefix: the stem's name shows it.
        prefix = self.stem.conv.weight.name.removesuffix("stem.conv.weight")
        self.head.fc.update_parameters_name(f"{prefix}head.fc.")
        self.compile_cache.clear()  # its graphs hold the old classifier

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """The feature maps that `features_only` offers, stem first."""
        names = ["stem", *(f"stages.{stage}" for stage in range(len(self.stages)))]
        channels = (self.plan.stem_width, *self.plan.widths)
        rows = zip(channels, self.plan.reductions, names)
        return tuple(FeatureInfo(index, *row) for index, row in enumerate(rows))

    def complexity(self, image_size: int = 224) -> Complexity:
        """Count the costs for a square image of `image_size` pixels."""
        return complexity(self.plan, image_size)


class RegNet(AnyNet):
    """The AnyNet whose stages follow the quantized-linear rule (paper, section 3.3).

    The order of the arguments is MindCV's; those not listed here are `AnyNet`'s.

    Args:
        w_a, w_0, w_m, d: slope, first width, width ratio and depth; see `generate_regnet`.
        group_w, bot_mul: channels per group, and bottleneck width / output width, of every stage.
        stride: stride of each stage's first block.
        rounding: pycls or torchvision; see `adjust_block_compatibility`.
    """

    def __init__(
        self,
        w_a: float,
        w_0: int,
        w_m: float,
        d: int,
        group_w: int,
        stride: int = 2,
        bot_mul: float = 1.0,
        stem_type: str = "simple_stem_in",
        stem_w: int = 32,
        block_type: str = "res_bottleneck_block",
        head_w: int = 0,
        num_classes: int = 1000,
        se_r: float = 0.0,
        in_channels: int = 3,
        *,
        activation: str = "relu",
        rounding: str = "pycls",
        **options,
    ):
        given = dict(locals())
        super(AnyNet, self).__init__()
        self._build(_plan(plan_regnet, given), **options)


def _plan(planner: Callable[..., NetworkPlan], given: Mapping[str, Any]) -> NetworkPlan:
    """Return the plan by those of a network's arguments that the planner takes."""
    return planner(**{name: given[name] for name in signature(planner).parameters})


def _register(name: str, network: type[AnyNet], **setting) -> Callable[..., nn.Cell]:
    """Register a builder, and return the function of MindCV's parameters that stands for it.

    Args:
        setting: arguments of the network; none: its caller shapes it.
    """

    def build(num_classes: int = 1000, in_channels: int = 3, **options) -> AnyNet:
        sizes = {"num_classes": num_classes, "in_channels": in_channels}
        return network(**setting | sizes | options)

    def create(
        pretrained: bool | str = False, num_classes: int = 1000, in_channels: int = 3, **options
    ) -> nn.Cell:
        return create_model(name, num_classes, pretrained, in_channels, **options)

    for function in (build, create):
        function.__name__ = function.__qualname__ = name
    create.__doc__ = f"Build {name}; the arguments are those of `create_model` and `RegNet`."
    register_model(build, entrypoint=create if setting else None)
    return create


_register("anynet", AnyNet)
_register("regnet", RegNet)
_FAMILY = {name: _register(name, RegNet, **vars(setting)) for name, setting in SETTINGS.items()}
globals().update(_FAMILY)
__all__ = ["AnyNet", "RegNet", *_FAMILY]

"""RegNet and AnyNet (Radosavovic et al., Designing Network Design Spaces, CVPR 2020).

A network is stem, stages of equal blocks and head. RegNet is the AnyNet whose stage widths and
depths follow the quantized-linear rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mindspore import nn

from ..design_space import (
    Complexity,
    NetworkPlan,
    adjust_block_compatibility,
    complexity,
    generate_regnet,
)
from .blocks import STEMS, Head, build_stages
from .layers import initialize_weights
from .registry import register_model


@dataclass(frozen=True)
class Setting:
    """One published RegNet (paper, figures 15 and 16); see `generate_regnet` for the names."""

    w_a: float
    w_0: int
    w_m: float
    depth: int
    group_width: int


_SETTINGS = {
    "regnet_x_200mf": Setting(36.44, 24, 2.49, 13, 8),
    "regnet_x_400mf": Setting(24.48, 24, 2.54, 22, 16),
    "regnet_x_600mf": Setting(36.97, 48, 2.24, 16, 24),
    "regnet_x_800mf": Setting(35.73, 56, 2.28, 16, 16),
    "regnet_x_1_6gf": Setting(34.01, 80, 2.25, 18, 24),
    "regnet_x_3_2gf": Setting(26.31, 88, 2.25, 25, 48),
    "regnet_x_4_0gf": Setting(38.65, 96, 2.43, 23, 40),
    "regnet_x_6_4gf": Setting(60.83, 184, 2.07, 17, 56),
    "regnet_x_8_0gf": Setting(49.56, 80, 2.88, 23, 120),
    "regnet_x_12gf": Setting(73.36, 168, 2.37, 19, 112),
    "regnet_x_16gf": Setting(55.59, 216, 2.1, 22, 128),
    "regnet_x_32gf": Setting(69.86, 320, 2.0, 23, 168),
    "regnet_y_200mf": Setting(36.44, 24, 2.49, 13, 8),
    "regnet_y_400mf": Setting(27.89, 48, 2.09, 16, 8),
    "regnet_y_600mf": Setting(32.54, 48, 2.32, 15, 16),
    "regnet_y_800mf": Setting(38.84, 56, 2.4, 14, 16),
    "regnet_y_1_6gf": Setting(20.71, 48, 2.65, 27, 24),
    "regnet_y_3_2gf": Setting(42.63, 80, 2.66, 21, 24),
    "regnet_y_4_0gf": Setting(31.41, 96, 2.24, 22, 64),
    "regnet_y_6_4gf": Setting(33.22, 112, 2.27, 25, 72),
    "regnet_y_8_0gf": Setting(76.82, 192, 2.19, 17, 56),
    "regnet_y_12gf": Setting(73.36, 168, 2.37, 19, 112),
    "regnet_y_16gf": Setting(106.23, 200, 2.48, 18, 112),
    "regnet_y_32gf": Setting(115.89, 232, 2.53, 20, 232),
}


class AnyNet(nn.Cell):
    """The general network of the paper's section 3.1: any width and depth in each stage.

    Args:
        depths, widths, strides: blocks, output channels and stride of each stage.
        bot_muls: bottleneck width / output width of each stage; None: 1.
        group_ws: channels of one group of each stage; None: no groups.
        stem_type: simple_stem_in (3x3), res_stem_in (7x7 and pooling) or res_stem_cifar (3x3,
            stride 1).
        stem_w: channels of the stem.
        block_type: vanilla_block, res_basic_block, res_bottleneck_block or
            res_bottleneck_linear_block.
        head_w: channels of a 1x1 convolution before pooling; 0: none.
        num_classes: classes.
        se_r: squeeze-and-excitation width / input width of a block; 0: none.
        in_channels: channels of the image.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.

    Raises:
        ValueError: unknown stem or block type, sequences of unequal length, or a group width that
            does not divide its bottleneck width.
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
    ):
        super().__init__()
        ratios = tuple(bot_muls or [1.0] * len(depths))
        self.plan = NetworkPlan(
            widths=tuple(widths),
            depths=tuple(depths),
            strides=tuple(strides),
            bottleneck_ratios=ratios,
            group_widths=tuple(group_ws or [round(w * r) for w, r in zip(widths, ratios)]),
            stem_type=stem_type,
            stem_width=stem_w,
            block_type=block_type,
            se_ratio=se_r or 0.0,
            head_width=head_w,
            num_classes=num_classes,
            in_channels=in_channels,
        )
        self.num_classes = num_classes
        self.stem = STEMS[stem_type](in_channels, stem_w)
        self.stages = nn.CellList(build_stages(self.plan, drop_path_rate))
        self.num_features = head_w or widths[-1]
        self.head = Head(widths[-1], head_w, num_classes, drop_rate)
        initialize_weights(self)

    def forward_features(self, x):
        """Return the last stage's feature map, (N, C, H / 32, W / 32) for strides of 2."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, x):
        """Return the logits, (N, num_classes), of a feature map."""
        return self.head(x)

    def construct(self, x):
        return self.forward_head(self.forward_features(x))

    def complexity(self, image_size: int = 224) -> Complexity:
        """Count parameters, multiply-accumulates and activations for a square image."""
        return complexity(self.plan, image_size)


class RegNet(AnyNet):
    """The AnyNet whose widths follow the quantized-linear rule (paper, section 3.3).

    Args:
        w_a, w_0, w_m, d: slope, first width, width ratio and depth; see `generate_regnet`.
        group_w: channels of one group of the 3x3 convolutions.
        stride: stride of each stage's first block.
        bot_mul: bottleneck width / output width.

    The other arguments are `AnyNet`'s.
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
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        widths, depths = generate_regnet(w_a, w_0, w_m, d)
        ratios = [bot_mul] * len(widths)
        widths, group_ws = adjust_block_compatibility(widths, ratios, [group_w] * len(widths))
        super().__init__(
            depths=depths,
            stem_type=stem_type,
            stem_w=stem_w,
            block_type=block_type,
            widths=widths,
            strides=[stride] * len(widths),
            bot_muls=ratios,
            group_ws=group_ws,
            head_w=head_w,
            num_classes=num_classes,
            se_r=se_r,
            in_channels=in_channels,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )


def _register(name: str, setting: Setting) -> None:
    se_ratio = 0.25 if name.startswith("regnet_y") else 0.0

    def build(num_classes: int = 1000, in_channels: int = 3, **kwargs) -> RegNet:
        options = {"se_r": se_ratio, **kwargs}
        s = setting
        return RegNet(
            s.w_a,
            s.w_0,
            s.w_m,
            s.depth,
            s.group_width,
            num_classes=num_classes,
            in_channels=in_channels,
            **options,
        )

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"Build {name}; keyword arguments are `RegNet`'s."
    globals()[name] = register_model(build)


for _name, _setting in _SETTINGS.items():
    _register(_name, _setting)

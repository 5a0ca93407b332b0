"""The published RegNets as settings, and the network plan of a setting."""

from dataclasses import dataclass

from .complexity import NetworkPlan
from .quantized_linear import adjust_block_compatibility, generate_regnet

# Field of a setting or plan -> argument of `RegNet`, named as in MindCV.
ARGUMENTS = {
    "depth": "d",
    "group_width": "group_w",
    "bottleneck_ratio": "bot_mul",
    "stem_width": "stem_w",
    "head_width": "head_w",
    "se_ratio": "se_r",
}


@dataclass(frozen=True)
class Setting:
    """One published RegNet: the arguments of `plan_regnet`."""

    w_a: float
    w_0: int
    w_m: float
    depth: int
    group_width: int
    se_ratio: float = 0.0
    bottleneck_ratio: float = 1.0
    block_type: str = "res_bottleneck_block"
    head_width: int = 0
    activation: str = "relu"
    rounding: str = "pycls"

    def plan(self, num_classes: int = 1000, in_channels: int = 3) -> NetworkPlan:
        """Return the plan of the network; nothing is built."""
        return plan_regnet(**vars(self), num_classes=num_classes, in_channels=in_channels)


def plan_regnet(
    w_a: float,
    w_0: int,
    w_m: float,
    depth: int,
    group_width: int,
    bottleneck_ratio: float = 1.0,
    stride: int = 2,
    rounding: str = "pycls",
    **rest,
) -> NetworkPlan:
    """Return the plan of a RegNet: widths by the quantized-linear rule, adjusted to the groups.

    `generate_regnet` and `adjust_block_compatibility` explain the parameters and raise ValueError
    for those out of range; `rest` holds further fields of `NetworkPlan`.
    """
    widths, depths = generate_regnet(w_a, w_0, w_m, depth)
    ratios = [bottleneck_ratio] * len(widths)
    groups = [group_width] * len(widths)
    widths, groups = adjust_block_compatibility(widths, ratios, groups, rounding)
    return NetworkPlan(
        widths=tuple(widths),
        depths=tuple(depths),
        strides=(stride,) * len(widths),
        bottleneck_ratios=tuple(ratios),
        group_widths=tuple(groups),
        **rest,
    )


def _inverted(*row, head_width: int) -> Setting:
    """Return a RegNetZ: linear blocks, four times as wide inside as outside, and SiLU."""
    return Setting(
        *row,
        se_ratio=0.25,
        bottleneck_ratio=4.0,
        block_type="res_bottleneck_linear_block",
        head_width=head_width,
        activation="silu",
    )


# X and Y: figures 15 and 16 of Designing Network Design Spaces, as in pycls. Y-128GF: SWAG and
# torchvision. `_tv`: the same settings with torchvision's rounding, which gives other networks.
# Z (Dollar et al., Fast and Accurate Model Scaling, CVPR 2021): ClassyVision `models/regnet.py`,
# with the head widths of timm's regnetz_005 and regnetz_040_h, since ClassyVision leaves them open;
# timm trains regnetz_040_h with 256-pixel images.
SETTINGS = {
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
    "regnet_y_200mf": Setting(36.44, 24, 2.49, 13, 8, se_ratio=0.25),
    "regnet_y_400mf": Setting(27.89, 48, 2.09, 16, 8, se_ratio=0.25),
    "regnet_y_600mf": Setting(32.54, 48, 2.32, 15, 16, se_ratio=0.25),
    "regnet_y_800mf": Setting(38.84, 56, 2.4, 14, 16, se_ratio=0.25),
    "regnet_y_1_6gf": Setting(20.71, 48, 2.65, 27, 24, se_ratio=0.25),
    "regnet_y_3_2gf": Setting(42.63, 80, 2.66, 21, 24, se_ratio=0.25),
    "regnet_y_4_0gf": Setting(31.41, 96, 2.24, 22, 64, se_ratio=0.25),
    "regnet_y_6_4gf": Setting(33.22, 112, 2.27, 25, 72, se_ratio=0.25),
    "regnet_y_8_0gf": Setting(76.82, 192, 2.19, 17, 56, se_ratio=0.25),
    "regnet_y_12gf": Setting(73.36, 168, 2.37, 19, 112, se_ratio=0.25),
    "regnet_y_16gf": Setting(106.23, 200, 2.48, 18, 112, se_ratio=0.25),
    "regnet_y_32gf": Setting(115.89, 232, 2.53, 20, 232, se_ratio=0.25),
    "regnet_y_128gf": Setting(160.83, 456, 2.52, 27, 264, se_ratio=0.25),
    "regnet_x_400mf_tv": Setting(24.48, 24, 2.54, 22, 16, rounding="torchvision"),
    "regnet_y_800mf_tv": Setting(38.84, 56, 2.4, 14, 16, se_ratio=0.25, rounding="torchvision"),
    "regnet_y_8_0gf_tv": Setting(76.82, 192, 2.19, 17, 56, se_ratio=0.25, rounding="torchvision"),
    "regnet_z_500mf": _inverted(10.7, 16, 2.51, 21, 4, head_width=1024),
    "regnet_z_4_0gf": _inverted(14.5, 48, 2.226, 28, 8, head_width=1536),
}

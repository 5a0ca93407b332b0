"""The published RegNets: their settings, and their names here and in other libraries."""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from .plan import NetworkPlan, plan_anynet, plan_regnet


@dataclass(frozen=True)
class Setting:
    """One published RegNet: the arguments of `RegNet` that shape it."""

    w_a: float
    w_0: int
    w_m: float
    d: int
    group_w: int
    se_r: float = 0.0
    bot_mul: float = 1.0
    block_type: str = "res_bottleneck_block"
    head_w: int = 0
    activation: str = "relu"
    rounding: str = "pycls"

    def plan(self, **changes) -> NetworkPlan:
        """Return the plan of the network, with other arguments of `RegNet`; nothing is built."""
        return plan_regnet(**(vars(self) | changes))


def _inverted(*row, head_w: int) -> Setting:
    """Return a RegNetZ: linear blocks, four times as wide inside as outside, and SiLU."""
    return Setting(
        *row,
        se_r=0.25,
        bot_mul=4.0,
        block_type="res_bottleneck_linear_block",
        head_w=head_w,
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
    "regnet_y_200mf": Setting(36.44, 24, 2.49, 13, 8, se_r=0.25),
    "regnet_y_400mf": Setting(27.89, 48, 2.09, 16, 8, se_r=0.25),
    "regnet_y_600mf": Setting(32.54, 48, 2.32, 15, 16, se_r=0.25),
    "regnet_y_800mf": Setting(38.84, 56, 2.4, 14, 16, se_r=0.25),
    "regnet_y_1_6gf": Setting(20.71, 48, 2.65, 27, 24, se_r=0.25),
    "regnet_y_3_2gf": Setting(42.63, 80, 2.66, 21, 24, se_r=0.25),
    "regnet_y_4_0gf": Setting(31.41, 96, 2.24, 22, 64, se_r=0.25),
    "regnet_y_6_4gf": Setting(33.22, 112, 2.27, 25, 72, se_r=0.25),
    "regnet_y_8_0gf": Setting(76.82, 192, 2.19, 17, 56, se_r=0.25),
    "regnet_y_12gf": Setting(73.36, 168, 2.37, 19, 112, se_r=0.25),
    "regnet_y_16gf": Setting(106.23, 200, 2.48, 18, 112, se_r=0.25),
    "regnet_y_32gf": Setting(115.89, 232, 2.53, 20, 232, se_r=0.25),
    "regnet_y_128gf": Setting(160.83, 456, 2.52, 27, 264, se_r=0.25),
    "regnet_x_400mf_tv": Setting(24.48, 24, 2.54, 22, 16, rounding="torchvision"),
    "regnet_y_800mf_tv": Setting(38.84, 56, 2.4, 14, 16, se_r=0.25, rounding="torchvision"),
    "regnet_y_8_0gf_tv": Setting(76.82, 192, 2.19, 17, 56, se_r=0.25, rounding="torchvision"),
    "regnet_z_500mf": _inverted(10.7, 16, 2.51, 21, 4, head_w=1024),
    "regnet_z_4_0gf": _inverted(14.5, 48, 2.226, 28, 8, head_w=1536),
}

# Models without a published setting: name -> the function that plans one of its arguments.
GENERAL = {"regnet": plan_regnet, "anynet": plan_anynet}


def plan_model(name: str, global_pool: str = "avg", **options) -> NetworkPlan | None:
    """Return the plan of a model with these arguments of its builder; None: not of this library.

    Args:
        global_pool: has no parameters, and so no place in a plan.

    Raises:
        ValueError, TypeError: the arguments make no network, or one is unknown or missing.
    """
    if name in SETTINGS:
        return SETTINGS[name].plan(**options)
    return GENERAL[name](**options) if name in GENERAL else None


# Names that follow no rule. torchvision rounds the widths of its regnet_y_8gf differently. timm's
# regnetz_040 is not one of ours: its head has an activation instead of a convolution.
_OTHERS = {
    "regnet_x_8_0gf": ("regnet_x_8gf",),
    "regnet_y_8_0gf_tv": ("regnet_y_8gf",),
    "regnet_z_4_0gf": ("regnet_z_4gf", "regnetz_040_h"),
}
_TIMM_TAGS = {
    "tv_in1k": "torchvision_v1",
    "tv2_in1k": "torchvision_v2",
    "swag_ft_in1k": "torchvision_swag",
    "swag_lc_in1k": "torchvision_swag_linear",
    "deit_in1k": "deit",
}


def aliases_of(name: str) -> tuple[str, ...]:
    """Return other libraries' names of a model in lower case: regnetx_016 of regnet_x_1_6gf."""
    family, size, unit, variant = re.fullmatch(
        r"regnet_([xyz])_(\d+(?:_\d)?)([mg]f)(_tv)?", name
    ).groups()
    number = size.replace("_", ".")
    hundreds = round(float(number) * (10 if unit == "gf" else 0.01))
    timm = f"regnet{family}_{hundreds:03d}{variant or ''}"
    others = _OTHERS.get(name, ())
    if any(other.startswith(timm) for other in others):
        timm = ""
    pycls = "" if variant else f"regnet{family}-{number}{unit}"
    return tuple(alias for alias in (timm, pycls, *others) if alias)


def split_tag(name: str) -> tuple[str, str]:
    """Split timm's `regnety_032.ra_in1k` into model and tag; pycls' RegNetX-1.6GF has no tag."""
    match = re.fullmatch(r"(regnet[xyz]_\w+)\.(\w+)", name)
    return match.groups() if match else (name, "")


def source_of_tag(tag: str) -> str:
    """Return the source of published weights that timm's tag names, e.g. timm_ra for ra_in1k."""
    return _TIMM_TAGS.get(tag, f"timm_{tag.removesuffix('_in1k')}")


def family_name(name: str) -> str | None:
    """Return the model that a name of any library means, or None if it is not of the family."""
    if name in SETTINGS or name in GENERAL:
        return name
    return _aliases().get(split_tag(name)[0].lower())


def unknown_model(name: str, others: Collection[str] = (), takes_own: bool = True) -> str:
    """Return the error message for an unknown name, with similar ones.

    Args:
        others: names that are valid too.
        takes_own: the command has the option --import_module.
    """
    known = [*SETTINGS, *GENERAL, *_aliases(), *others]
    # resnet50 is spelt like a RegNet, but is another network.
    is_resnet = "resne" in name.lower()
    close = [] if is_resnet else difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = (
        f"did you mean {', '.join(close)}?" if close else f"this library has only RegNets: {_all()}"
    )
    own = " (your own comes with --import_module)" if takes_own else ""
    return f"model {name!r} is not registered; {hint}{own}"


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name in SETTINGS for alias in aliases_of(name)}


def _all() -> str:
    """Return all names of the family in a shell's notation: regnet_x_{200mf,400mf,…}, …."""
    families: dict[str, list[str]] = {}
    for name in SETTINGS:
        families.setdefault(name[: len("regnet_x_")], []).append(name[len("regnet_x_") :])
    return ", ".join(f"{family}{{{','.join(sizes)}}}" for family, sizes in families.items())

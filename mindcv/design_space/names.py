"""The names of the family: ours, those that other libraries give to models and to trainings.

torchvision's regnet_x_400mf and regnet_y_800mf are named like pycls' networks and are others: such
a name means pycls' here, and torchvision's network is the one with `_tv`.
"""

import difflib
import re
from collections.abc import Collection
from functools import cache

from .published import SETTINGS

# Names that follow no rule. torchvision rounds its regnet_y_8gf in a way of its own; timm's
# regnetz_040 has an activation instead of a convolution in its head and is none of ours.
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
    """Return other libraries' names of one of the family's models, in small letters.

    regnet_x_1_6gf is timm's regnetx_016 and pycls' RegNetX-1.6GF.
    """
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
    """Split timm's `regnety_032.ra_in1k` into model and tag; pycls' 1.6GF is no tag."""
    match = re.fullmatch(r"(regnet[xyz]_\w+)\.(\w+)", name)
    return match.groups() if match else (name, "")


def source_of_tag(tag: str) -> str:
    """Return the source of published weights that timm's tag names: ra_in1k is timm_ra."""
    return _TIMM_TAGS.get(tag, f"timm_{tag.removesuffix('_in1k')}")


def family_name(name: str) -> str | None:
    """Return the model of the family that a name of any library means; None: it is none."""
    if name in SETTINGS:
        return name
    return _aliases().get(split_tag(name)[0].lower())


def unknown_model(name: str, others: Collection[str] = ()) -> str:
    """Say that a name is of no model here, and which is meant, or which there are.

    Args:
        others: further names that would do.
    """
    known = [*SETTINGS, *_aliases(), *others]
    # A resnet50 is near in letters and another network.
    is_resnet = "resne" in name.lower()
    close = [] if is_resnet else difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"here are only RegNets: {_all()}"
    return f"model {name!r} is not registered; {hint} (your own comes with --import_module)"


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name in SETTINGS for alias in aliases_of(name)}


def _all() -> str:
    """Return the names of the family, shortened as a shell would write them."""
    families: dict[str, list[str]] = {}
    for name in SETTINGS:
        families.setdefault(name[: len("regnet_x_")], []).append(name[len("regnet_x_") :])
    return ", ".join(f"{family}{{{','.join(sizes)}}}" for family, sizes in families.items())

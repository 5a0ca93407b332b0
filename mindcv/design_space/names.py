"""Model names: ours, and those that other libraries give to models and their training runs.

torchvision's regnet_x_400mf and regnet_y_800mf are not pycls' networks of these names. Here, the
names mean pycls' networks; torchvision's are regnet_x_400mf_tv and regnet_y_800mf_tv.
"""

import difflib
import re
from collections.abc import Collection
from functools import cache

from .published import SETTINGS

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
    if name in SETTINGS:
        return name
    return _aliases().get(split_tag(name)[0].lower())


def unknown_model(name: str, others: Collection[str] = ()) -> str:
    """Return the error message for an unknown name, with similar ones; `others` are valid too."""
    known = [*SETTINGS, *_aliases(), *others]
    # resnet50 is spelt like a RegNet, but is another network.
    is_resnet = "resne" in name.lower()
    close = [] if is_resnet else difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = (
        f"did you mean {', '.join(close)}?" if close else f"this library has only RegNets: {_all()}"
    )
    return f"model {name!r} is not registered; {hint} (your own comes with --import_module)"


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name in SETTINGS for alias in aliases_of(name)}


def _all() -> str:
    """Return all names of the family in a shell's notation: regnet_x_{200mf,400mf,…}, …."""
    families: dict[str, list[str]] = {}
    for name in SETTINGS:
        families.setdefault(name[: len("regnet_x_")], []).append(name[len("regnet_x_") :])
    return ", ".join(f"{family}{{{','.join(sizes)}}}" for family, sizes in families.items())

"""The names that libraries give a RegNet's parameters: one table, read in both directions.

A parameter's name consists of a place (stem, block or head), a part and a tail. The tables hold
places and parts; tails differ only for batch normalisation.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

OWN = "mindcv"
FIRST_CONV, CLASSIFIER = "stem.conv.weight", "head.fc.weight"  # of a RegNet, by our names

_LIBRARIES = ("pycls", "timm", "torchvision", "transformers", "classyvision", "vissl")
# Our part -> its names in the libraries above; None: the library has no such part.
_OUTSIDE = {
    "stem.conv": (
        "stem.conv",
        "stem.conv",
        "stem.0",
        "embedder.embedder.convolution",
        "stem.stem.0",
        "_feature_blocks.conv1.stem.0",
    ),
    "stem.bn": (
        "stem.bn",
        "stem.bn",
        "stem.1",
        "embedder.embedder.normalization",
        "stem.stem.1",
        "_feature_blocks.conv1.stem.1",
    ),
    "head.conv": ("head.conv", "final_conv.conv", None, None, "head.conv", None),
    "head.bn": ("head.bn", "final_conv.bn", None, None, "head.bn", None),
    "head.fc": ("head.fc", "head.fc", "fc", "classifier.1", "head.fc", None),
}
_INSIDE = {
    "proj": ("proj", "downsample.conv", "proj.0", "shortcut.convolution", "proj", "proj"),
    "bn": ("bn", "downsample.bn", "proj.1", "shortcut.normalization", "bn", "bn"),
    "f.a": ("f.a", "conv1.conv", "f.a.0", "layer.0.convolution", "f.a.0", "f.a.0"),
    "f.a_bn": ("f.a_bn", "conv1.bn", "f.a.1", "layer.0.normalization", "f.a.1", "f.a.1"),
    "f.b": ("f.b", "conv2.conv", "f.b.0", "layer.1.convolution", "f.b.0", "f.b.0"),
    "f.b_bn": ("f.b_bn", "conv2.bn", "f.b.1", "layer.1.normalization", "f.b.1", "f.b.1"),
    "f.se.conv_reduce": (
        "f.se.f_ex.0",
        "se.fc1",
        "f.se.fc1",
        "layer.2.attention.0",
        "f.se.excitation.0",
        "f.se.excitation.0",
    ),
    "f.se.conv_expand": (
        "f.se.f_ex.2",
        "se.fc2",
        "f.se.fc2",
        "layer.2.attention.2",
        "f.se.excitation.2",
        "f.se.excitation.2",
    ),
    # {c}: 3 with squeeze-and-excitation, which transformers counts as a layer, else 2.
    "f.c": ("f.c", "conv3.conv", "f.c.0", "layer.{c}.convolution", "f.c", "f.c"),
    "f.c_bn": (
        "f.c_bn",
        "conv3.bn",
        "f.c.1",
        "layer.{c}.normalization",
        "f.final_bn",
        "f.final_bn",
    ),
}
# Stage and block counted from 1 ({s}, {b}) or 0 ({s0}, {b0}); {k}: stage + 1, vissl's stem is res1.
_BLOCKS = (
    "s{s}.b{b}.",
    "s{s}.b{b}.",
    "trunk_output.block{s}.block{s}-{b0}.",
    "encoder.stages.{s0}.layers.{b0}.",
    "trunk_output.block{s}.block{s}-{b0}.",
    "_feature_blocks.res{k}.block{s}-{b0}.",
)
_TAILS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_TORCH_TAILS = {ours: theirs for theirs, ours in _TAILS.items()}
# Names under which libraries and users nest the backbone in a network with a classifier.
_BODIES = ("regnet.", "trunk.", "backbone.")
# ClassyVision attaches heads to blocks, vissl numbers them; the last part is the classifier.
_CLASSIFIER_OF_HEADS = re.compile(r"(?P<prefix>(?:.*\.)?)heads\.(?:.*\.)?(?:fc|clf\.0)")
# MindCV nests its stages by accident: the first has no number.
_MINDCV_BLOCKS = ("0.blocks.{s0}.blocks.{b0}.", "0.blocks.{b0}.")
_OWN_NAME = re.compile(r"(?P<prefix>(?:.*?\.)?)(?P<ours>(?:stem|stages\.\d+|head)\..+)")


@dataclass(frozen=True)
class Scheme:
    """The parameter names of a library."""

    name: str
    blocks: tuple[str, ...]  # patterns of a block's place; see `_BLOCKS`
    inside: dict[str, str]  # the library's parts of a block -> ours; empty: they are ours
    outside: dict[str, str]  # all other parts -> ours
    is_bgr: bool = False  # the library reads images as BGR
    uses_pillow: bool = False  # pycls resizes images with OpenCV, MindCV with MindSpore

    def to_ours(self, name: str) -> tuple[str, str] | None:
        """Split a name into the prefix before the network and our name; None: not a parameter."""
        found = self.block_parameter(name)
        if found:
            return found
        if not self.outside:
            return own_name(name)
        part, _, tail = name.rpartition(".")
        heads = _CLASSIFIER_OF_HEADS.fullmatch(part)
        if heads and self.name in ("classyvision", "vissl"):
            return _without_body(heads["prefix"]), f"head.fc.{tail}"
        for theirs, ours in self.outside.items():
            if part == theirs or part.endswith(f".{theirs}"):
                our_tail = _our_tail(ours, tail)
                return our_tail and (_without_body(part.removesuffix(theirs)), f"{ours}.{our_tail}")
        return None

    def block_parameter(self, name: str) -> tuple[str, str] | None:
        """Do what `to_ours` does, for parameters of blocks only."""
        for block in self.blocks:
            match = _pattern(block).fullmatch(name)
            if not match:
                continue
            places = match.groupdict()
            stage = int(places["s"]) - 1 if "s" in places else int(places.get("s0", 0))
            number = int(places["b"]) - 1 if "b" in places else int(places["b0"])
            part, _, tail = match["rest"].rpartition(".")
            if self.inside:
                part = self.inside.get(part)
                tail = part and _our_tail(part, tail)
            if part and tail:
                place = f"stages.{stage}.blocks.{number}"
                return _without_body(match["prefix"]), f"{place}.{part}.{tail}"
        return None

    def from_ours(self, name: str, has_se: bool) -> str | None:
        """Return the library's name of our parameter; None: the library has no such part."""
        body = "regnet." if self.name == "transformers" and not name.startswith("head.") else ""
        path, _, tail = name.rpartition(".")
        tail = _TORCH_TAILS.get(tail, tail)
        block = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(.+)", path)
        if not block:
            found = [theirs for theirs, ours in self.outside.items() if ours == path]
            return f"{body}{found[0]}.{tail}" if found else None
        stage, number = int(block[1]), int(block[2])
        found = [theirs for theirs, ours in self.inside.items() if ours == block[3]]
        # transformers has two names for the last convolution; the later one counts the SE layer.
        if not found:
            return None
        place = self.blocks[0].format(s=stage + 1, s0=stage, b=number + 1, b0=number, k=stage + 2)
        return f"{body}{place}{found[-1] if has_se else found[0]}.{tail}"


def recognise(names: Iterable[str]) -> Scheme | None:
    """Return the scheme that most block names follow; None: our own or an unknown scheme."""
    names = list(names)
    scores = {
        scheme.name: sum(scheme.block_parameter(name) is not None for name in names)
        for scheme in _READABLE
    }
    best = max(_READABLE, key=lambda scheme: scores[scheme.name])
    return best if scores[best.name] else None


def own_name(name: str) -> tuple[str, str] | None:
    """Do what `Scheme.to_ours` does, for our own names."""
    match = _OWN_NAME.fullmatch(name)
    return (_without_body(match["prefix"]), match["ours"]) if match else None


def _column(index: int) -> Scheme:
    inside = {}
    for ours, names in _INSIDE.items():
        for layer in (2, 3):
            inside[names[index].format(c=layer)] = ours
    outside = {names[index]: ours for ours, names in _OUTSIDE.items() if names[index]}
    library = _LIBRARIES[index]
    is_pycls = library == "pycls"
    return Scheme(
        library, (_BLOCKS[index],), inside, outside, is_bgr=is_pycls, uses_pillow=not is_pycls
    )


def _our_tail(part: str, tail: str) -> str | None:
    if part.endswith("bn"):
        return _TAILS.get(tail)
    return tail if tail in ("weight", "bias") else None


def _without_body(prefix: str) -> str:
    for body in _BODIES:
        prefix = prefix.removesuffix(body)
    return prefix


@functools.cache
def _pattern(block: str) -> re.Pattern:
    """Compile `{s}` and the like to groups; a repeated place must match the first."""
    pattern = re.escape(block).replace(r"\{", "{").replace(r"\}", "}")
    for place in ("s", "b", "s0", "b0"):
        pattern = pattern.replace(f"{{{place}}}", rf"(?P<{place}>\d{{1,3}})", 1)
        pattern = pattern.replace(f"{{{place}}}", f"(?P={place})")
    pattern = pattern.replace("{k}", r"\d+")
    # The lookbehind excludes our own `stages.0.blocks.1.`, which ends like MindCV's `0.blocks.1.`.
    return re.compile(rf"(?P<prefix>(?:.*?\.)?)(?<!stages\.){pattern}(?P<rest>.+)")


SCHEMES = {scheme.name: scheme for scheme in map(_column, range(len(_LIBRARIES)))}
WRITABLE = (OWN, *(name for name in SCHEMES if name != "vissl"))
_MINDCV = Scheme("mindcv 0.blocks", _MINDCV_BLOCKS, {}, {})
_READABLE = (*SCHEMES.values(), _MINDCV)

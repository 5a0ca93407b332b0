"""The names that libraries give a RegNet's parameters: a row each, read in both directions.

A parameter's name consists of a place (stem, block or head), a part and a tail. The rows hold
places and parts; tails differ only for batch normalisation.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

NATIVE = "native"  # the names of this library's networks
FIRST_CONV, CLASSIFIER = "stem.conv.weight", "head.fc.weight"  # of a RegNet, by native names

_OUTSIDE = "stem.conv stem.bn head.conv head.bn head.fc".split()
_INSIDE = "proj bn f.a f.a_bn f.b f.b_bn f.se.conv_reduce f.se.conv_expand f.c f.c_bn".split()
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
_NATIVE_NAME = re.compile(r"(?P<prefix>(?:.*?\.)?)(?P<ours>(?:stem|stages\.\d+|head)\..+)")


@dataclass(frozen=True)
class Scheme:
    """The parameter names of a library.

    Attributes:
        blocks: patterns of a block's place: stage and block counted from 1 ({s}, {b}) or 0 ({s0},
            {b0}); {k}: stage + 1. A second pattern is that of the first stage.
        outside, inside: the library's names of `_OUTSIDE` and `_INSIDE`, in their order; -: it has
            no such part; {c}: 3 with squeeze-and-excitation, else 2. Empty: parts and tails are
            native.
        is_bgr: the library reads images as BGR.
        uses_pillow: pycls resizes images with OpenCV, MindCV with MindSpore.
        is_writable: files with these names can be written.
    """

    name: str
    blocks: tuple[str, ...]
    outside: str = ""
    inside: str = ""
    is_bgr: bool = False
    uses_pillow: bool = True
    is_writable: bool = True

    def to_native(self, name: str) -> tuple[str, str] | None:
        """Split a name into the prefix before the network and the native name.

        None: it is not a parameter.
        """
        found = self.block_parameter(name)
        if found or not self.outside:
            return found or native_name(name)
        part, _, tail = name.rpartition(".")
        heads = _CLASSIFIER_OF_HEADS.fullmatch(part)
        if heads and self.name in ("classyvision", "vissl"):
            return _without_body(heads["prefix"]), f"head.fc.{tail}"
        for ours, theirs in zip(_OUTSIDE, self.outside.split()):
            if part == theirs or part.endswith(f".{theirs}"):
                our_tail = _native_tail(ours, tail)
                return our_tail and (_without_body(part.removesuffix(theirs)), f"{ours}.{our_tail}")
        return None

    def block_parameter(self, name: str) -> tuple[str, str] | None:
        """Do what `to_native` does, for parameters of blocks only."""
        for block in self.blocks:
            match = _pattern(block).fullmatch(name)
            if not match:
                continue
            places = match.groupdict()
            stage = int(places["s"]) - 1 if "s" in places else int(places.get("s0", 0))
            number = int(places["b"]) - 1 if "b" in places else int(places["b0"])
            part, _, tail = match["rest"].rpartition(".")
            if self.inside:
                part = _native_parts(self.inside).get(part)
                tail = part and _native_tail(part, tail)
            if part and tail:
                place = f"stages.{stage}.blocks.{number}"
                return _without_body(match["prefix"]), f"{place}.{part}.{tail}"
        return None

    def from_native(self, name: str, has_se: bool) -> str | None:
        """Return the library's name of a parameter; None: the library has no such part."""
        path, _, tail = name.rpartition(".")
        block = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(.+)", path)
        body = "regnet." if self.name == "transformers" and not name.startswith("head.") else ""
        part = block[3] if block else path
        if self.inside:
            ours, theirs = (_INSIDE, self.inside) if block else (_OUTSIDE, self.outside)
            part = dict(zip(ours, theirs.format(c=3 if has_se else 2).split())).get(part, "-")
            tail = _TORCH_TAILS.get(tail, tail)
        if part == "-" or not native_name(name):
            return None
        if block:
            stage, number = int(block[1]), int(block[2])
            place = self.blocks[0 if stage else -1]
            body += place.format(s=stage + 1, s0=stage, b=number + 1, b0=number, k=stage + 2)
        return f"{body}{part}.{tail}"


def recognise(names: Iterable[str]) -> Scheme | None:
    """Return the scheme that most block names follow; None: native or unknown names."""
    names = list(names)

    def score(scheme: Scheme) -> int:
        return sum(scheme.block_parameter(name) is not None for name in names)

    best = max(SCHEMES.values(), key=score)
    return best if score(best) else None


def native_name(name: str) -> tuple[str, str] | None:
    """Do what `Scheme.to_native` does, for native names."""
    match = _NATIVE_NAME.fullmatch(name)
    return (_without_body(match["prefix"]), match["ours"]) if match else None


def names_of(library: str) -> str:
    """Return the words for a library's names in messages."""
    if library == NATIVE:
        return "native names"
    return f"names of {library}" if library else "the network's own names"


@functools.cache
def _native_parts(inside: str) -> dict[str, str]:
    names = [inside.format(c=layer).split() for layer in (2, 3)]
    return {theirs: ours for each in names for ours, theirs in zip(_INSIDE, each)}


def _native_tail(part: str, tail: str) -> str | None:
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
    # The lookbehind excludes the native `stages.0.blocks.1.`, which ends like MindCV's names.
    return re.compile(rf"(?P<prefix>(?:.*?\.)?)(?<!stages\.){pattern}(?P<rest>.+)")


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "pycls",
            ("s{s}.b{b}.",),
            "stem.conv stem.bn head.conv head.bn head.fc",
            "proj bn f.a f.a_bn f.b f.b_bn f.se.f_ex.0 f.se.f_ex.2 f.c f.c_bn",
            is_bgr=True,
            uses_pillow=False,
        ),
        Scheme(
            "timm",
            ("s{s}.b{b}.",),
            "stem.conv stem.bn final_conv.conv final_conv.bn head.fc",
            "downsample.conv downsample.bn conv1.conv conv1.bn conv2.conv conv2.bn se.fc1 se.fc2 "
            "conv3.conv conv3.bn",
        ),
        Scheme(
            "torchvision",
            ("trunk_output.block{s}.block{s}-{b0}.",),
            "stem.0 stem.1 - - fc",
            "proj.0 proj.1 f.a.0 f.a.1 f.b.0 f.b.1 f.se.fc1 f.se.fc2 f.c.0 f.c.1",
        ),
        Scheme(
            "transformers",
            ("encoder.stages.{s0}.layers.{b0}.",),
            "embedder.embedder.convolution embedder.embedder.normalization - - classifier.1",
            "shortcut.convolution shortcut.normalization layer.0.convolution layer.0.normalization "
            "layer.1.convolution layer.1.normalization layer.2.attention.0 layer.2.attention.2 "
            "layer.{c}.convolution layer.{c}.normalization",
        ),
        Scheme(
            "classyvision",
            ("trunk_output.block{s}.block{s}-{b0}.",),
            "stem.stem.0 stem.stem.1 head.conv head.bn head.fc",
            "proj bn f.a.0 f.a.1 f.b.0 f.b.1 f.se.excitation.0 f.se.excitation.2 f.c f.final_bn",
        ),
        Scheme(
            "vissl",  # its stem is res1
            ("_feature_blocks.res{k}.block{s}-{b0}.",),
            "_feature_blocks.conv1.stem.0 _feature_blocks.conv1.stem.1 - - -",
            "proj bn f.a.0 f.a.1 f.b.0 f.b.1 f.se.excitation.0 f.se.excitation.2 f.c f.final_bn",
            is_writable=False,
        ),
        # It nests its stages by accident: the first has no number.
        Scheme("mindcv", ("0.blocks.{s0}.blocks.{b0}.", "0.blocks.{b0}."), uses_pillow=False),
    )
}
WRITABLE = (NATIVE, *(scheme.name for scheme in SCHEMES.values() if scheme.is_writable))

"""The string syntax of augmentation policies, as timm defines it: `randaug-m9-mstd0.5-inc1`.

Source of the syntax: timm, `data/auto_augment.py`. MindCV's names also work: randaug is timm's
rand, autoaug its original, autoaugr its originalr, each with MindCV's default mstd0.5.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Union


@dataclass(frozen=True)
class RandAugmentPolicy:
    """RandAugment's settings (Cubuk et al., 2019)."""

    magnitude: float = 10.0  # m: strength of every operation on a scale of 0 to 10
    num_ops: int = 2  # n: operations applied to an image
    # mstd: standard deviation of the strength; infinite: uniform between 0 and `magnitude`.
    magnitude_std: float = 0.0
    magnitude_max: float = 10.0  # mmax: upper clip of the drawn strength
    increasing: bool = False  # inc: use operations whose severity grows with the magnitude
    prob: float = 0.5  # p: probability of applying each drawn operation
    weighted: bool = False  # w0: draw operations with timm's weight set 0, not uniformly


@dataclass(frozen=True)
class AutoAugmentPolicy:
    """AutoAugment's settings (Cubuk et al., 2018): a table of pairs of operations."""

    # original: the paper's; v0: from EfficientNet's TPU code; either with a final r, which makes
    # posterize remove more bits the stronger it is; 3a: 3-Augment (Touvron et al., 2022), which is
    # solarize, grey or blur.
    table: str
    magnitude_std: float = 0.0  # mstd: standard deviation of the strengths in the table


@dataclass(frozen=True)
class TrivialAugmentPolicy:
    """TrivialAugmentWide (Müller and Hutter, 2021)."""

    # m, of MindCV: the end of the scale of strengths. It changes nothing: each is a share of it.
    scale: float = 31.0


@dataclass(frozen=True)
class AugMixPolicy:
    """AugMix's settings (Hendrycks et al., 2020)."""

    magnitude: float = 3.0  # m: the largest strength, on a scale of 0 to 10
    width: int = 3  # w: chains of operations that are averaged
    depth: int = 0  # d: operations of a chain; 0: 1 to 3 at random
    alpha: float = 1.0  # a: parameter of the Dirichlet and Beta distributions of the shares
    magnitude_std: float = float("inf")  # mstd: as in RandAugment


# timm's weight set 0 of RandAugment, in the order of `compile_policy`'s table.
WEIGHTS = {
    "rotate": 0.3,
    "shear_x": 0.2,
    "shear_y": 0.2,
    "translate_x": 0.1,
    "translate_y": 0.1,
    "color": 0.025,
    "sharpness": 0.025,
    "auto_contrast": 0.025,
    "solarize": 0.005,
    "solarize_add": 0.005,
    "contrast": 0.005,
    "brightness": 0.005,
    "equalize": 0.005,
    "posterize": 0.0,
    "invert": 0.0,
}

Policy = Union[RandAugmentPolicy, AutoAugmentPolicy, TrivialAugmentPolicy, AugMixPolicy]

_LONGEST = 200
_TERM = re.compile(r"([a-z]+)([0-9.]+|inf)")


def parse_policy(text: str) -> Policy:
    """Parse a policy string.

    Raises:
        ValueError: an unknown policy, a malformed term or a value out of range.
    """
    if len(text) > _LONGEST:
        raise ValueError(
            f"policy {text[:120]!r}… ({len(text)} characters) is too long; expected {_LONGEST} "
            "characters at most"
        )
    head, *terms = text.split("-")
    for family in _FAMILIES:
        if head in family.heads:
            values = _read_terms(text, terms, family)
            return family.policy(**{**family.heads[head], **values})
    known = "; ".join(family.syntax for family in _FAMILIES)
    raise ValueError(f"policy {text!r} is unknown; expected {known}")


def _read_terms(text: str, terms: list[str], family: "_Family") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for written in terms:
        match = _TERM.fullmatch(written)
        term = family.terms.get(match[1]) if match else None
        if term is None or term.field in found:
            raise ValueError(
                f"term {written!r} of policy {text!r} is not understood; expected {family.syntax}"
            )
        try:
            value = float(match[2])
        except ValueError:
            raise ValueError(f"{match[2]!r} in policy {text!r} is not a number") from None
        whole = term.kind in (int, bool)
        if not term.low <= value <= term.high or (whole and value != int(value)):
            number = "a whole number" if whole else "a number"
            raise ValueError(
                f"{match[1]}={value:g} in policy {text!r} must be {number} from {term.low} to "
                f"{term.high:g}"
            )
        found[term.field] = term.kind(value)
    if found.get("weighted") and found.get("num_ops", 2) > _DRAWABLE:
        raise ValueError(f"n{found['num_ops']} exceeds the {_DRAWABLE} operations that w0 can draw")
    return found


class _Term(NamedTuple):
    field: str  # of the policy
    low: float
    high: float
    kind: Callable = float


class _Family(NamedTuple):
    syntax: str  # for the messages
    policy: type
    heads: dict[str, dict[str, Any]]  # first word to what it implies
    terms: dict[str, _Term]


_INFINITE = float("inf")
# solarize_add is never drawn.
_DRAWABLE = sum(weight > 0 for weight in WEIGHTS.values()) - 1
_MAGNITUDE = _Term("magnitude", 0, 30)
_SPREAD = _Term("magnitude_std", 0, _INFINITE)
_MINDCV = {"magnitude_std": 0.5}

_FAMILIES = (
    _Family(
        "randaug[-mN][-nN][-mstdX][-mmaxX][-incB][-pX][-w0]",
        RandAugmentPolicy,
        {"randaug": _MINDCV, "rand": {}},
        {
            "m": _MAGNITUDE,
            "n": _Term("num_ops", 1, 15, int),
            # Above 100 timm draws uniformly.
            "mstd": _SPREAD._replace(kind=lambda std: _INFINITE if std > 100 else std),
            "mmax": _Term("magnitude_max", 0, 30),
            "inc": _Term("increasing", 0, 1, bool),
            "p": _Term("prob", 0, 1),
            "w": _Term("weighted", 0, 0, lambda zero: True),
        },
    ),
    _Family(
        "autoaug|autoaugr|original|originalr|v0|v0r|3a[-mstdX]",
        AutoAugmentPolicy,
        {
            "autoaug": {"table": "original", **_MINDCV},
            "autoaugr": {"table": "originalr", **_MINDCV},
            **{name: {"table": name} for name in ("original", "originalr", "v0", "v0r", "3a")},
        },
        {"mstd": _SPREAD},
    ),
    _Family(
        "trivialaugwide[-mN]",
        TrivialAugmentPolicy,
        {"trivialaugwide": {}},
        {"m": _Term("scale", 1, 31)},
    ),
    _Family(
        "augmix[-mN][-wN][-dN][-aX][-mstdX]",
        AugMixPolicy,
        {"augmix": {}},
        {
            "m": _MAGNITUDE,
            "w": _Term("width", 1, 10, int),
            "d": _Term("depth", 1, 10, int),
            "a": _Term("alpha", 0.01, 100),
            "mstd": _SPREAD,
        },
    ),
)

# AutoAugment's tables: (operation, probability, strength), one or two in a row.
AUTO_AUGMENT_TABLES = {
    # Table 9 of the paper.
    "original": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
        (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
        (("color", 0.4, 0), ("equalize", 0.6, 3)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    ),
    # EfficientNet's TPU code, `autoaugment.py`, policy v0.
    "v0": (
        (("equalize", 0.8, 1), ("shear_y", 0.8, 4)),
        (("color", 0.4, 9), ("equalize", 0.6, 3)),
        (("color", 0.4, 1), ("rotate", 0.6, 8)),
        (("solarize", 0.8, 3), ("equalize", 0.4, 7)),
        (("solarize", 0.4, 2), ("solarize", 0.6, 2)),
        (("color", 0.2, 0), ("equalize", 0.8, 8)),
        (("equalize", 0.4, 8), ("solarize_add", 0.8, 3)),
        (("shear_x", 0.2, 9), ("rotate", 0.6, 8)),
        (("color", 0.6, 1), ("equalize", 1.0, 2)),
        (("invert", 0.4, 9), ("rotate", 0.6, 0)),
        (("equalize", 1.0, 9), ("shear_y", 0.6, 3)),
        (("color", 0.4, 7), ("equalize", 0.6, 0)),
        (("posterize", 0.4, 6), ("auto_contrast", 0.4, 7)),
        (("solarize", 0.6, 8), ("color", 0.6, 9)),
        (("solarize", 0.2, 4), ("rotate", 0.8, 9)),
        (("rotate", 1.0, 7), ("translate_y", 0.8, 9)),
        (("shear_x", 0.0, 0), ("solarize", 0.8, 4)),
        (("shear_y", 0.8, 0), ("color", 0.6, 4)),
        (("color", 1.0, 0), ("rotate", 0.6, 2)),
        (("equalize", 0.8, 4), ("equalize", 0.0, 8)),
        (("equalize", 1.0, 4), ("auto_contrast", 0.6, 2)),
        (("shear_y", 0.4, 7), ("solarize_add", 0.6, 7)),
        (("posterize", 0.8, 2), ("solarize", 0.6, 10)),
        (("solarize", 0.6, 8), ("equalize", 0.6, 1)),
        (("color", 0.8, 6), ("rotate", 0.4, 5)),
    ),
    # 3-Augment: solarize at half the scale, grey, blur of 0.1 to 2 pixels.
    "3a": (
        (("solarize", 1.0, 5),),
        (("desaturate", 1.0, 10),),
        (("blur_randomly", 1.0, 10),),
    ),
}

"""The string syntax of augmentation policies, as timm defines it: `randaug-m9-mstd0.5-inc1`.

Source of the syntax: timm, `data/auto_augment.py`, `rand_augment_transform`.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class RandAugmentPolicy:
    """RandAugment's settings (Cubuk et al., 2019).

    Attributes:
        magnitude: m, strength of every operation on a scale of 0 to 10.
        num_ops: n, operations applied to an image.
        magnitude_std: mstd, standard deviation of the strength; 0: always `magnitude`, infinite:
            uniform between 0 and `magnitude`.
        magnitude_max: mmax, upper clip of the drawn strength.
        increasing: inc, use the operations whose severity grows with the magnitude.
        prob: p, probability of applying each drawn operation.
        weighted: w0, draw operations with weights (timm's set 0) instead of evenly.
    """

    magnitude: float = 10.0
    num_ops: int = 2
    magnitude_std: float = 0.0
    magnitude_max: float = 10.0
    increasing: bool = False
    prob: float = 0.5
    weighted: bool = False


_SYNTAX = "randaug[-mN][-nN][-mstdX][-mmaxX][-incB][-pX][-w0]"
_TERM = re.compile(r"(mstd|mmax|inc|m|n|p|w)([0-9.]+|inf)")


def parse_policy(text: str) -> RandAugmentPolicy:
    """Parse a policy string.

    Raises:
        ValueError: another policy than RandAugment, a malformed term or a value out of range.
    """
    head, *terms = text.split("-")
    if head != "randaug":
        raise ValueError(f"policy {text!r} is not supported; expected {_SYNTAX}")
    found: dict[str, float] = {}
    for term in terms:
        match = _TERM.fullmatch(term)
        if not match or match[1] in found:
            raise ValueError(
                f"term {term!r} of policy {text!r} is not understood; expected {_SYNTAX}"
            )
        try:
            found[match[1]] = float(match[2])
        except ValueError:
            raise ValueError(f"{match[2]!r} in policy {text!r} is not a number") from None
    ranges = {"m": (0, 30), "n": (1, 15), "mstd": (0, float("inf")), "mmax": (0, 30), "inc": (0, 1)}
    ranges |= {"p": (0, 1), "w": (0, 0)}
    for key, value in found.items():
        low, high = ranges[key]
        whole = key in ("n", "inc", "w")
        if not low <= value <= high or (whole and value != int(value)):
            number = "a whole number" if whole else "a number"
            raise ValueError(
                f"{key}={value:g} in policy {text!r} must be {number} from {low} to {high:g}"
            )
    std = found.get("mstd", 0.0)
    return RandAugmentPolicy(
        magnitude=found.get("m", 10.0),
        num_ops=int(found.get("n", 2)),
        magnitude_std=float("inf") if std > 100 else std,
        magnitude_max=found.get("mmax", 10.0),
        increasing=bool(found.get("inc", 0)),
        prob=found.get("p", 0.5),
        weighted="w" in found,
    )

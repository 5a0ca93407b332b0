"""Fit the quantized-linear rule of RegNet to the widths of any network.

Radosavovic et al., Designing Network Design Spaces, section 3.3: d is the network's depth; w_0, w_a
and w_m are found by a grid search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .plan import generate_regnet

_QUANTUM = 8  # channels
_SLOPES, _RATIOS = 32, 48  # values of w_a and w_m in the coarse grid
_STARTS = 12  # points of it around which finer ones follow


@dataclass(frozen=True)
class LinearFit:
    """The RegNet whose widths come nearest."""

    w_a: float
    w_0: int
    w_m: float
    d: int
    e_fit: float  # mean over the blocks of |log(width by the rule / width)|

    def block_widths(self) -> list[int]:
        """Return the width of each block by the rule, channels."""
        widths, depths = generate_regnet(self.w_a, self.w_0, self.w_m, self.d)
        return np.repeat(widths, depths).tolist()


def fit_widths(widths: Sequence[int], depths: Sequence[int]) -> LinearFit:
    """Fit widths and depths of a network's stages, by a coarse grid and finer ones around its best.

    Raises:
        ValueError: unequal lengths, or no block.
    """
    if len(widths) != len(depths) or not sum(depths):
        raise ValueError(f"widths {widths} and depths {depths} are no stages of a network")
    seen = np.repeat(widths, depths).astype(float)
    d = len(seen)
    steepest = 2.0 * seen.max() / max(1, d - 1)
    w_0 = np.unique(_to_quantum(np.geomspace(seen.min() / 2, 2 * seen[0], 16)))
    axes = [w_0, np.linspace(0.0, steepest, _SLOPES), np.geomspace(1.1, 4.0, _RATIOS)]
    errors, found = _errors(seen, *axes), []
    slopes = errors.argmin(axis=1)  # the best of each (w_0, w_m), so that the starts differ
    for place in np.argsort(errors.min(axis=1), axis=None, kind="stable")[:_STARTS]:
        i, k = np.unravel_index(place, slopes.shape)
        at = [axes[0][i], axes[1][slopes[i, k]], axes[2][k]]
        step, ratio = steepest / (_SLOPES - 1), (4.0 / 1.1) ** (1 / (_RATIOS - 1))
        for _ in range(4):
            near = [
                np.unique(np.maximum(_QUANTUM, at[0] + _QUANTUM * np.arange(-2, 3))),
                np.unique(np.maximum(0.0, at[1] + step * np.linspace(-1, 1, 9))),
                np.maximum(1.001, at[2] * ratio ** np.linspace(-1, 1, 9)),
            ]
            finer = _errors(seen, *near)
            best = np.unravel_index(finer.argmin(), finer.shape)
            at = [axis[i] for axis, i in zip(near, best)]
            step, ratio = step / 4, ratio ** (1 / 4)
        found.append((float(finer[best]), *map(float, at)))
    e_fit, w_0, w_a, w_m = min(found)
    return LinearFit(w_a=w_a, w_0=int(w_0), w_m=w_m, d=d, e_fit=e_fit)


def _errors(seen: np.ndarray, w_0: np.ndarray, w_a: np.ndarray, w_m: np.ndarray) -> np.ndarray:
    """Return e_fit of every combination: (w_0, w_a, w_m)."""
    w_0, w_a, w_m = w_0[:, None, None, None], w_a[:, None, None], w_m[:, None]
    powers = np.round(np.log1p(w_a / w_0 * np.arange(len(seen))) / np.log(w_m))
    return np.abs(np.log(_to_quantum(w_0 * w_m**powers) / seen)).mean(axis=-1)


def _to_quantum(widths: np.ndarray) -> np.ndarray:
    return np.maximum(_QUANTUM, np.round(widths / _QUANTUM) * _QUANTUM)

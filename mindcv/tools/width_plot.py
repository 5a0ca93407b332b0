"""The quantized-linear rule as a picture of characters: the line, and the widths it became."""

import math
from collections.abc import Sequence

_ROWS, _COLUMNS = 20, 68  # of the drawing area; with the axis it stays within 80 columns


def draw_widths(
    widths: Sequence[int],
    depths: Sequence[int],
    line: tuple[float, float] | None = None,
    scale: str = "linear",
) -> list[str]:
    """Return the lines of a plot, block index to the right and width upwards, 80 columns at most.

    Args:
        widths, depths: channels and blocks of each stage.
        line: (w_0, w_a) of the line u_j = w_0 + w_a * j, channels; None: draw no line.
        scale: linear or log, of the width axis.
    """
    blocks = [width for width, depth in zip(widths, depths) for _ in range(depth)]
    wanted = [line[0] + line[1] * j for j in range(len(blocks))] if line else []
    axis = _Axis([*blocks, *wanted], scale)
    step = max(1, min(4, _COLUMNS // len(blocks)))  # characters a block; long networks share them
    used = min(_COLUMNS, step * len(blocks))
    cells = [[" "] * used for _ in range(_ROWS)]
    for column in range(used):
        block = column * len(blocks) // used
        cells[axis.row(blocks[block])][column] = "="
        if line and (column == 0 or (column - 1) * len(blocks) // used != block):
            row = axis.row(wanted[block])
            cells[row][column] = "@" if cells[row][column] == "=" else "o"
    labels = axis.labels(sorted(set(widths)))
    plot = [
        f"{labels.get(row, ''):>7} |{''.join(cells[row])}".rstrip()
        for row in reversed(range(_ROWS))
    ]
    last = str(len(blocks) - 1)
    numbers = "0" + last.rjust(max(used - step, len(last))) if len(blocks) > 1 else "0"
    legend = "= width of block j"
    if line:
        legend += "   o line w_0 + w_a * j   @ both"
    return [*plot, f"{'':>7} +{'-' * used}", f"{'':>9}{numbers}", f"{'':>9}{legend}"]


class _Axis:
    """Rows of widths; row 0 is the lowest."""

    def __init__(self, values: Sequence[float], scale: str):
        self.place = math.log if scale == "log" else float
        self.low, self.high = self.place(min(values)), self.place(max(values))

    def row(self, width: float) -> int:
        span = self.high - self.low
        return round((self.place(width) - self.low) / span * (_ROWS - 1)) if span else 0

    def labels(self, widths: Sequence[int]) -> dict[int, str]:
        return {self.row(width): str(width) for width in widths}

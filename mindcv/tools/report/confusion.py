"""Which classes are taken for which, as HTML."""

from html import escape

import numpy as np

# Red, green and blue of a cell that is full, and of the page that a lighter one lets through: by
# day, by night. Its digits are black or white, whichever is easier to read on that.
SHADES = {"hit": (0, 114, 178), "miss": (213, 94, 0)}
BACKS = ((255, 255, 255), (21, 24, 28))
LARGEST_TABLE = 50  # classes; above, the pairs that are confused most are listed
_PAIRS = 30


def draw_confusion(counts: np.ndarray, names: tuple[str, ...]) -> str:
    """Return a heat map of the counts, or the most frequent mistakes where there are many classes.

    Args:
        counts: (classes, classes), a row is a true class.
        names: one a class.
    """
    if len(names) <= LARGEST_TABLE:
        return _table(counts, names)
    return _pairs(counts, names)


def _table(counts: np.ndarray, names: tuple[str, ...]) -> str:
    head = "".join(f'<th title="{escape(name)}">{i}</th>' for i, name in enumerate(names))
    lines = [
        "<p>A row is a true class, a column the class predicted; the shade is the share of the "
        "row.</p>",
        f'<div class="wide"><table class="heat"><tr><th></th>{head}<th>right</th></tr>',
    ]
    for i, name in enumerate(names):
        total = int(counts[i].sum())
        shown = escape(name) if name == str(i) else f"{i} {escape(name)}"
        cells = "".join(_cell(int(n), total, i == j) for j, n in enumerate(counts[i]))
        right = f"{100.0 * counts[i, i] / total:.1f} %" if total else "no image"
        lines.append(
            f'<tr><th class="name" title="{escape(name)}">{shown}</th>{cells}<td>{right}</td></tr>'
        )
    return "\n".join([*lines, "</table></div>"])


def _cell(count: int, total: int, right: bool) -> str:
    if count == 0:
        return "<td></td>"
    # The square root keeps a few mistakes among many images visible.
    shade = 0.12 + 0.78 * (count / total) ** 0.5
    kind = "hit" if right else "miss"
    day, night = (_digits(SHADES[kind], back, shade) for back in BACKS)
    return f'<td class="{kind} day-{day} night-{night}" style="--shade:{shade:.2f}">{count}</td>'


def _digits(colour: tuple[int, ...], back: tuple[int, ...], shade: float) -> str:
    """Return the colour of larger contrast, by WCAG 2.2: it is 4.58 at least."""
    parts = [(shade * c + (1.0 - shade) * b) / 255.0 for c, b in zip(colour, back)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"


def _pairs(counts: np.ndarray, names: tuple[str, ...]) -> str:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    lines = [
        f"<p>The pairs confused most, of {len(names)} classes.</p>",
        '<div class="wide"><table><tr><th class="name">true class</th>'
        '<th class="name">predicted</th><th>images</th><th>share of the class</th></tr>',
    ]
    for i, j in zip(*np.unravel_index(order, wrong.shape)):
        if wrong[i, j]:
            share = 100.0 * wrong[i, j] / counts[i].sum()
            lines.append(
                f'<tr><td class="name">{escape(names[i])}</td><td class="name">'
                f"{escape(names[j])}</td><td>{wrong[i, j]}</td><td>{share:.1f} %</td></tr>"
            )
    return "\n".join([*lines, "</table></div>"])

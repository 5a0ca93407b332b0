"""Charts: as SVG for a page without scripts, and as PNG with matplotlib."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..errors import ConfigError
from ..process.files import writing

# After Okabe and Ito, distinguishable for colour-blind readers; the light ones are darkened to a
# contrast of 3 with white. page.css has the same.
COLOURS = ("#0072b2", "#d55e00", "#008a64", "#b0558a", "#9a6a00", "#4b4b4b")
_WIDTH, _HEIGHT = 400, 244
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 38  # margins; long labels widen the left one
_DIGIT = 9  # width of a digit of a label, more than any font needs
_LINES, _COLUMNS = 12, 64  # of a plot in text
_LOG_TICKS = 8  # more would not fit beside each other

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Curves that share their axes: name -> points (x, y), x > 0 where the axis is logarithmic."""

    title: str  # of the vertical axis
    curves: Mapping[str, Points]
    x_title: str = "epoch"
    # Ticks at whole numbers; real: at round ones; log: at powers of two; log10: of ten, PNG only.
    x_axis: str = "whole"
    dots: Collection[str] = ()  # names of curves whose points are not joined
    dashed: Collection[str] = ()  # names of curves that may cover another, which shows in the gaps
    mark: float | None = None  # where a dotted vertical line stands
    mark_name: str = "best epoch"
    band: tuple[float, float] | None = None  # a shaded range of x


def draw_charts(charts: Sequence[Chart], values: bool = False) -> str:
    """Return the charts with titles and legends, as HTML; empty for none.

    Args:
        values: legends give the last value of each curve.
    """
    shown = "\n".join(
        f'<div class="chart"><b>{escape(chart.title)}</b>{_draw(chart)}'
        f"<div>{_legend(chart, values)}</div></div>"
        for chart in charts
    )
    return f'<div class="grid-of charts">{shown}</div>' if shown else ""


def require_matplotlib() -> None:
    """Raise a ConfigError if matplotlib, which draws PNGs, is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ConfigError(
            "a PNG needs the package matplotlib, which is not installed; install the extra: "
            'pip install ".[plots]"'
        ) from None


def plot_charts(path: str | Path, charts: Sequence[Chart], title: str = "", columns: int = 1):
    """Draw the charts into one PNG.

    Raises:
        ConfigError: matplotlib is missing, or the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    rows = math.ceil(len(charts) / columns)
    size = (8.0 if columns == 1 else 4.6 * columns, 1.0 + (2.6 if columns == 1 else 3.2) * rows)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, chart in zip(places, charts):
        _plot(axes, chart)
    for axes in places[len(charts) :]:
        axes.set_axis_off()
    with writing(str(path), ConfigError):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=150 if columns == 1 else 100)


def text_plot(values: Sequence[float], left: str, right: str, low: float = 0.0) -> list[str]:
    """Plot values at equal distances in text, from `low` to the highest one.

    Args:
        left, right: what stands below the first and the last value.
    """
    top = max(values)
    span = (top - low) or 1.0
    grid = [[" "] * _COLUMNS for _ in range(_LINES)]
    for x in range(_COLUMNS):
        # A column shows all its values, so that no drop or restart is missed.
        start, stop = x * len(values) // _COLUMNS, (x + 1) * len(values) // _COLUMNS
        own = values[start : max(stop, start + 1)]
        ends = (round((value - low) / span * (_LINES - 1)) for value in (min(own), max(own)))
        for y in range(next(ends), next(ends) + 1):
            grid[_LINES - 1 - y][x] = "*"
    labels = {0: f"{top:.4g}", _LINES - 1: f"{low:.4g}"}
    lines = [f"{labels.get(y, ''):>10} |{''.join(row).rstrip()}" for y, row in enumerate(grid)]
    axis = f"{left}{right:>{_COLUMNS - len(left)}}"
    return [*lines, " " * 11 + "+" + "-" * _COLUMNS, " " * 12 + axis]


def _plot(axes, chart: Chart) -> None:
    for number, (name, points) in enumerate(chart.curves.items()):
        apart = name in chart.dots or len(points) == 1
        style = {"linestyle": "--"} if name in chart.dashed else {}
        if apart:
            size, face = (8, "none") if style else (4, None)
            style = {"marker": "o", "linestyle": "", "alpha": 0.8, "markersize": size, "mfc": face}
        axes.plot(*zip(*points), label=name, color=COLOURS[number % len(COLOURS)], **style)
    if chart.band:
        axes.axvspan(*chart.band, color="#888888", alpha=0.15, linewidth=0)
    if chart.mark is not None:
        axes.axvline(chart.mark, color="#888888", linestyle=":", label=chart.mark_name)
    axes.set(ylabel=chart.title, xlabel=chart.x_title)
    if chart.x_axis == "whole":
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    elif chart.x_axis.startswith("log"):
        axes.set_xscale("log", base=2 if chart.x_axis == "log" else 10)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(loc="best", fontsize="small", frameon=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw(chart: Chart) -> str:
    points = [point for curve in chart.curves.values() for point in curve]
    values = [value for _, value in points]
    y_ticks = _ticks(min(values), max(values))
    low, high = y_ticks[0], y_ticks[-1]
    labels = [f"{value:.12g}" for value in y_ticks]
    margin = max(_LEFT, 10 + _DIGIT * max(map(len, labels)))
    across = [x for x, _ in points] + list(chart.band or ())
    scale = math.log2 if chart.x_axis == "log" else float
    x_ticks = (
        _log_ticks(across)
        if chart.x_axis == "log"
        else _ticks(min(across), max(across), whole=chart.x_axis == "whole")
    )
    ends = across if chart.x_axis == "whole" else [*across, *x_ticks]
    left, right = scale(min(ends)), scale(max(ends))
    if left == right:  # centre a single epoch on an axis of length 1
        left, right = left - 0.5, right + 0.5

    def x(value: float) -> float:
        return margin + (scale(value) - left) / (right - left) * (_WIDTH - margin - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    told = (f"{name} from {c[0][1]:.5g} to {c[-1][1]:.5g}" for name, c in chart.curves.items())
    label = escape(f"{chart.title} over {chart.x_title}: {'; '.join(told)}")
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">']
    if chart.band:
        first, last = map(x, chart.band)
        parts.append(
            f'<rect class="band" x="{first:.1f}" y="{_TOP}" width="{max(1.0, last - first):.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"/>'
        )
    for value, label in zip(y_ticks, labels):
        place = f"{y(value):.1f}"
        parts.append(f'<path class="grid" d="M{margin} {place}H{_WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text x="{margin - 6}" y="{place}" dy=".35em" text-anchor="end">{label}</text>'
        )
    for value in x_ticks:
        parts.append(
            f'<text x="{x(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{value:.12g}</text>"
        )
    if chart.mark is not None:
        parts.append(f'<path class="best" d="M{x(chart.mark):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    for number, (name, curve) in enumerate(chart.curves.items()):
        places = [(x(one), y(two)) for one, two in curve]
        parts.append(_curve(_kind(chart, number, name), name, places, apart=name in chart.dots))
    parts.append(
        f'<text x="{(_WIDTH + margin) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{escape(chart.x_title)}</text></svg>"
    )
    return "".join(parts)


def _kind(chart: Chart, number: int, name: str) -> str:
    """Return the classes of page.css for a curve."""
    return f"c{number % len(COLOURS)}" + (" dashed" if name in chart.dashed else "")


def _curve(kind: str, name: str, places: Points, apart: bool) -> str:
    title = f"<title>{escape(name)}</title>"
    if apart or len(places) == 1:
        radius = 2.5 if apart else 6 if "dashed" in kind else 4
        return "".join(
            f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'
            for x, y in places
        )
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="line {kind}" d="M{path}">{title}</path>'


def _legend(chart: Chart, values: bool) -> str:
    keys = []
    for number, (name, curve) in enumerate(chart.curves.items()):
        last = f" <b>{curve[-1][1]:.5g}</b>" if values else ""
        kind = _kind(chart, number, name)
        keys.append(f'<span class="key {kind}">{escape(name)}{last}</span>')
    return "".join(keys)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return about five round numbers; unless `whole`, the outer ones enclose the range."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        if whole:
            return [low]
        pad = abs(low) / 2.0 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / 4.0
    scale = 10.0 ** math.floor(math.log10(rough))
    step = min(f * scale for f in (1.0, 2.0, 5.0, 10.0) if f * scale >= rough * 0.999)
    if whole:
        step = max(1.0, step)
        first, last = math.ceil(low / step), math.floor(high / step)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Return powers of two that enclose the values."""
    first, last = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    step = math.ceil((last - first + 1) / _LOG_TICKS)
    return [2.0**power for power in range(first, last + step, step)]

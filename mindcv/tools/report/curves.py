"""Curves over epochs: as SVG for a page without scripts, and as PNG with matplotlib."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...errors import ConfigError, DataError
from ...process.files import writing
from .run_folder import Chart, RunFolder

# Okabe and Ito's colours, distinguishable for colour-blind readers; page.css has the same.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_WIDTH, _HEIGHT = 400, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34  # margins; long labels widen the left one
_DIGIT = 7  # width of a digit of a label, more than any font needs


def draw_chart(chart: Chart, best: int | None) -> str:
    """Return an SVG of the chart's curves over epochs; `best`: epoch to mark."""
    points = [point for curve in chart.curves.values() for point in curve]
    epochs = [epoch for epoch, _ in points]
    values = [value for _, value in points]
    x_ticks = _ticks(min(epochs), max(epochs), whole=True)
    y_ticks = _ticks(min(values), max(values))
    labels = [f"{value:.12g}" for value in y_ticks]
    margin = max(_LEFT, 10 + _DIGIT * max(map(len, labels)))
    left, right = min(epochs), max(epochs)
    if left == right:  # centre a single epoch on an axis of length 1
        left, right = left - 0.5, right + 0.5
    low, high = min(min(values), y_ticks[0]), max(max(values), y_ticks[-1])

    def x(epoch: float) -> float:
        return margin + (epoch - left) / (right - left) * (_WIDTH - margin - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
    ]
    for value, label in zip(y_ticks, labels):
        place = f"{y(value):.1f}"
        parts.append(f'<path class="grid" d="M{margin} {place}H{_WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text x="{margin - 6}" y="{place}" dy=".35em" text-anchor="end">{label}</text>'
        )
    for epoch in x_ticks:
        parts.append(
            f'<text x="{x(epoch):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{epoch:g}</text>"
        )
    if best is not None:
        parts.append(f'<path class="best" d="M{x(best):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    for number, (name, curve) in enumerate(chart.curves.items()):
        parts.append(_line(number % len(COLOURS), name, [(x(e), y(v)) for e, v in curve]))
    parts.append(
        f'<text x="{(_WIDTH + margin) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">epoch</text>'
        "</svg>"
    )
    return "".join(parts)


def draw_legend(chart: Chart) -> str:
    """Return the names of the curves with their last values, as HTML."""
    keys = []
    for number, (name, curve) in enumerate(chart.curves.items()):
        last = f"{escape(name)} <b>{curve[-1][1]:.5g}</b>"
        keys.append(f'<span class="key c{number % len(COLOURS)}">{last}</span>')
    return "".join(keys)


def _line(colour: int, name: str, places: Sequence[tuple[float, float]]) -> str:
    title = f"<title>{escape(name)}</title>"
    if len(places) == 1:
        (x, y), *_ = places
        return f'<circle class="dot c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="line c{colour}" d="M{path}">{title}</path>'


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


def plot_rates(path: str, rates: Sequence[float], steps_per_epoch: int, title: str) -> None:
    """Draw the learning rate of every step over epochs, as PNG."""
    figure = _new_figure(8.0, 3.6)
    axes = figure.subplots()
    axes.plot([step / steps_per_epoch for step in range(len(rates))], rates, color=COLOURS[0])
    axes.set(title=title, xlabel="epoch", ylabel="learning rate")
    _save(figure, path)


def plot_run(path: str, run: RunFolder) -> None:
    """Draw loss, accuracy and learning rate of a run over epochs, as PNG."""
    charts = run.charts()
    if not charts:
        raise DataError(f"{run.path}: metrics.csv holds nothing to draw yet")
    figure = _new_figure(8.0, 1.0 + 2.6 * len(charts))
    figure.suptitle(run.name)
    for axes, chart in zip(figure.subplots(len(charts), squeeze=False)[:, 0], charts):
        for colour, (name, points) in zip(COLOURS, chart.curves.items()):
            single = {"marker": "o"} if len(points) == 1 else {}
            axes.plot(*zip(*points), label=name, color=colour, **single)
        if run.best is not None:
            axes.axvline(run.best.epoch, color="#888888", linestyle=":", label="best epoch")
        axes.set(ylabel=chart.title)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.legend(loc="best", fontsize="small", frameon=False)
    axes.set(xlabel="epoch")
    _save(figure, path)


def _new_figure(width: float, height: float):
    try:
        from matplotlib.figure import Figure  # without pyplot: no display, no global state
    except ImportError:
        raise ConfigError(
            "a PNG needs the package matplotlib, which is not installed; install the extra: "
            'pip install ".[plots]"'
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure, path: str) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    with writing(path, ConfigError):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=150)

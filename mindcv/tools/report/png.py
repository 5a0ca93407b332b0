"""Plots as PNG files, by matplotlib (extra `plots`)."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError, DataError
from .run_folder import RunFolder

# Okabe and Ito's colours, which colour-blind readers can tell apart; the page uses the same.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def plot_rates(path: str, rates: Sequence[float], steps_per_epoch: int, title: str) -> None:
    """Draw the learning rate of every step over epochs.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    figure = _new_figure(8.0, 3.6)
    axes = figure.subplots()
    axes.plot([step / steps_per_epoch for step in range(len(rates))], rates, color=COLOURS[0])
    axes.set(title=title, xlabel="epoch", ylabel="learning rate")
    _save(figure, path)


def plot_run(path: str, run: RunFolder, title: str) -> None:
    """Draw loss, accuracy and learning rate of a run over epochs.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
        DataError: no epoch was finished yet.
    """
    charts = run.charts()
    if not charts:
        raise DataError(f"{run.path}: metrics.csv holds nothing to draw yet")
    figure = _new_figure(8.0, 1.0 + 2.6 * len(charts))
    figure.suptitle(title)
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
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None

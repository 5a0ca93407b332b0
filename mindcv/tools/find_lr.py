"""`python -m mindcv find-lr`: train with a growing learning rate, and suggest one."""

import contextlib
import itertools
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..checkpoint import Position
from ..config import (
    Config,
    model_contradictions,
    parse_arguments,
    scale_rate,
    training_contradictions,
)
from ..errors import ConfigError, DataError
from ..names import plural
from ..process.clock import DATA
from ..process.entry_point import import_user_module, program
from ..process.tables import write_csv
from .arguments import add_files, at_least, check_output, positive
from .charts import Chart, plot_charts, require_matplotlib, text_plot

TAKES_OPTIONS = True  # all other words are options of train.py

_KEPT = 0.98  # of the smoothed loss, at each step
_DIVERGED = 4.0  # times the lowest smoothed loss
_LAST = 5  # steps before the end that say nothing of a good rate
_FALL = 0.08  # of the smoothed loss, below which the curve is mostly noise


def add_arguments(parser: ArgumentParser) -> None:
    parser.usage = "%(prog)s [--config RECIPE] [--key value ...] [--start_lr X] [--end_lr X]"
    parser.epilog = (
        "All other options are those of train: the same network, weights, images, loss and "
        "optimizer take part. The rate grows in place of its schedule; nothing is evaluated or "
        "saved, and the run folder stays as it is."
    )
    number = {"type": positive, "metavar": "X"}
    parser.add_argument("--start_lr", **number, default=1e-5, help="default: 1e-5")
    parser.add_argument("--end_lr", **number, default=10.0, help="default: 10")
    parser.add_argument(
        "--steps",
        type=at_least(20),
        default=400,
        metavar="N",
        help="updates from start_lr to end_lr, fewer if the loss diverges (default: 400)",
    )
    add_files(
        parser,
        plot="draw the curve as PNG (extra plots)",
        csv="write rate, loss and smoothed loss of every update",
    )


def run(arguments: Namespace) -> None:
    start, end = arguments.start_lr, arguments.end_lr
    if start >= end:
        raise ConfigError(f"command line: --start_lr {start:g} is not below --end_lr {end:g}")
    config = parse_arguments("python -m mindcv find-lr", __doc__, _rules, arguments.options)
    for option in ("plot", "csv"):  # before the sweep, which may take long
        if getattr(arguments, option):
            check_output(option, getattr(arguments, option), (), force=True)
    if arguments.plot:
        require_matplotlib()
    parts = np.arange(arguments.steps) / arguments.steps
    rates = (start * (end / start) ** parts).tolist()
    losses, runtime = sweep(config, rates)
    if not runtime.is_main:
        return
    smoothed = smooth(losses)
    if arguments.csv:
        rows = (map(repr, row) for row in zip(rates, losses, smoothed))
        write_csv(Path(arguments.csv), [("lr", "loss", "smoothed"), *rows], "--csv")
    shown = slice(len(rates) // 10, max(0, len(losses) - _LAST))
    rates, smoothed = rates[shown], smoothed[shown]
    if len(rates) < _LAST:
        raise DataError(
            f"the loss diverged after {plural(len(losses), 'update')}, at lr {start:g} and little "
            "more; lower --start_lr, or check the data"
        )
    found = suggestions(rates, smoothed)
    # `lr` is what `lr_base_size` scales.
    lr = found["valley"] * config.lr / scale_rate(config, runtime.world_size)
    if arguments.plot:
        curve = {"smoothed loss": list(zip(rates, smoothed))}
        how = dict(x_title="learning rate", x_axis="log10")
        chart = Chart("loss", curve, mark=found["valley"], mark_name="valley", **how)
        plot_charts(arguments.plot, [chart], f"{config.model}, {plural(len(losses), 'update')}")
    ends = f"lr {rates[0]:.2g}", f"{rates[-1]:.2g}"
    print("\n".join(text_plot(smoothed, *ends, low=min(smoothed))))
    for line in doubts(smoothed):
        print(line)
    print("suggested rates:", ", ".join(f"{name} {rate:.2g}" for name, rate in found.items()))
    print("a run that warms up and decays often bears 3 to 10 times the valley: compare them")
    print(f"next: {program()} train with the same options and --lr {lr:.2g}")


def _rules(config: Config):
    yield from training_contradictions(config)
    yield from model_contradictions(config)
    for key in ("resume", "resume_opt"):
        if getattr(config, key):
            yield key, "find-lr starts from the weights that pretrained or ckpt_path names"
    for key in ("dry_run", "show_batch", "profile", "summary_dir"):
        if getattr(config, key):
            yield key, "find-lr has none; leave it out"


def sweep(config: Config, rates: Sequence[float]):
    """Train a network of its own, an update at each rate, until the loss diverges.

    Returns:
        the loss before each update, and the `Runtime`.

    Raises:
        DataError: an image cannot be read.
    """
    from .. import engine

    build = engine.build
    runtime = build.start_runtime(config)
    engine.start_logging(runtime.is_main)
    import_user_module(config.import_module)
    build.check_model(config)
    config = replace(
        config,
        log_interval=max(1, len(rates) // 10) * config.gradient_accumulation_steps,
        **dict.fromkeys(("val_while_train", "ema"), False),
        **dict.fromkeys(("precise_bn_samples", "unfreeze_epoch", "early_stop_patience"), 0),
        **dict.fromkeys(("log_samples", "val_weights"), None),
    )
    run = build.build_run(config, runtime, build.open_train_set(config, runtime), rates=rates)
    losses: list[float] = []
    with contextlib.closing(run.batches), contextlib.closing(run.progress):
        for loss in itertools.islice(_updates(run), len(rates)):
            losses.append(loss)
            smoothed = smooth(losses)
            if not smoothed[-1] <= _DIVERGED * min(smoothed):
                break
    return losses, runtime


def _updates(run):
    """Yield the mean loss of the batches of each update that was applied."""
    from mindspore import Tensor

    from ..data.failure import pipeline_failures_as_data_errors

    run.progress.begin(Position())
    with pipeline_failures_as_data_errors():
        for epoch in itertools.count(1):
            run.progress.begin_epoch()
            own: list[float] = []
            for number, batch in enumerate(run.clock.each(run.batches.epoch(epoch - 1), DATA), 1):
                loss, applied = run.step(*map(Tensor, batch))
                own.append(float(loss.asnumpy()))
                if not math.isfinite(own[-1]):
                    yield own[-1]
                run.progress.add(Position(epoch, number), loss, applied)
                if number % run.division.batches == 0:
                    if applied.asnumpy():
                        yield sum(own) / len(own)
                    own.clear()


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the running mean of the losses, without bias to the first (fastai, AvgSmoothLoss)."""
    total, smoothed = 0.0, []
    for count, loss in enumerate(losses, 1):
        total = _KEPT * total + (1 - _KEPT) * loss
        smoothed.append(total / (1 - _KEPT**count))
    return smoothed


def doubts(losses: Sequence[float]) -> list[str]:
    """Return a line that tells why a smoothed curve is no good ground for a rate; [] if it is."""
    fall = 1 - min(losses) / losses[0]
    if fall >= _FALL:
        return []
    return [
        f"uncertain: the loss fell by only {100 * fall:.1f} %, which may be noise; more --steps, "
        "a larger batch or pretrained weights give a clearer curve"
    ]


def suggestions(rates: Sequence[float], losses: Sequence[float]) -> dict[str, float]:
    """Return the rates that a curve suggests, by fastai's names (`callback/schedule.py`).

    valley: halfway into the longest run of falling losses, others may lie between; steep: where the
    loss falls fastest; minimum/10: a tenth of the rate of the lowest loss.

    Raises:
        DataError: the loss never falls for long.
    """
    values = np.array(losses)
    longest: list[int] = []
    for place, loss in enumerate(values):
        higher = np.flatnonzero(values[:place] > loss)
        longest.append(1 + max((longest[one] for one in higher), default=0))
    end = int(np.argmax(longest))
    length = longest[end]
    if length < _LAST:
        raise DataError(
            f"the loss never falls between lr {rates[0]:.2g} and {rates[-1]:.2g}; lower "
            "--start_lr, or check the data"
        )
    valley = end - length + int(length / 3) + int(length / 6)
    steep = int(np.argmin(np.diff(values) / np.diff(np.log(rates))))
    lowest = rates[int(np.argmin(values))]
    return {"valley": rates[valley], "steep": rates[steep], "minimum/10": lowest / 10}

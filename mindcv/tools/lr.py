"""`python -m mindcv lr`: the learning rates of a recipe as a table, a plot in text, PNG and csv."""

import argparse
import csv
import os
from pathlib import Path

from ..config import Config, build_schedule, parse_arguments, scale_rate, schedule_contradictions
from ..config.options import OPTIONS
from ..errors import ConfigError, DataError
from .arguments import at_least, file_path
from .report.curves import plot_rates

TAKES_OPTIONS = True  # every word that is not an argument here is an option as of train.py

DEMO_FOLDER = "mnist_demo"  # the reader's own, which cannot be asked without importing mindspore

_HEIGHT, _WIDTH = 12, 64  # of the plot, characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [--config FILE] [--key value ...] [--steps_per_epoch N]"
    used = [name for name, entry in OPTIONS.items() if "lr" in entry.metadata["used_by"]]
    parser.epilog = f"The rates follow from these options of train.py: {', '.join(used)}."
    parser.add_argument(
        "--steps_per_epoch", type=at_least(1), metavar="N", help="default: counted from the images"
    )
    parser.add_argument(
        "--devices",
        type=at_least(1),
        default=1,
        metavar="N",
        help="processes that share the images",
    )
    parser.add_argument(
        "--plot", type=file_path, metavar="FILE", help="draw the curve as PNG (extra plots)"
    )
    parser.add_argument(
        "--csv", type=file_path, metavar="FILE", help="write the rate of every step"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the rates of every epoch and their curve.

    Raises:
        ConfigError: a wrong option, a schedule that does not fit, no way to know the steps, or a
            file that cannot be written.
        DataError: the images do not fill a batch.
    """
    config = parse_arguments(
        "python -m mindcv lr", __doc__, schedule_contradictions, arguments.options
    )
    steps = arguments.steps_per_epoch or count_steps(config, arguments.devices)
    rates = build_schedule(config, steps, arguments.devices)
    if arguments.csv:
        write_rates(arguments.csv, rates, steps)
    print(f"{config.scheduler}: {config.epoch_size} epochs of {steps} steps, {len(rates)} steps")
    if not arguments.steps_per_epoch:
        print(f"steps counted from the images in {config.data_dir}, --devices {arguments.devices}")
    if config.lr_base_size:
        scaled = scale_rate(config, arguments.devices)
        print(f"lr {config.lr:g} scaled to {scaled:g} by lr_base_size {config.lr_base_size}")
    print("epoch   first step    last step")
    for epoch in range(config.epoch_size):
        own = rates[epoch * steps : (epoch + 1) * steps]
        print(f"{epoch + 1:5d} {own[0]:12.6g} {own[-1]:12.6g}")
    print("\n".join(draw(rates, config.epoch_size)))
    if arguments.plot:
        plot_rates(arguments.plot, rates, steps, f"{config.scheduler}, {len(rates)} steps")


def count_steps(config: Config, devices: int) -> int:
    """Return the updates of an epoch, as train.py would make them of the images.

    Raises:
        ConfigError: there is no image folder.
        DataError: packed files are missing or damaged; or the images do not fill a batch.
    """
    inner = DEMO_FOLDER if config.dataset == "mnist_demo" else ""
    folder = Path(config.data_dir, inner, config.train_split)
    if config.dataset == "mindrecord":
        from ..data import open_samples

        images = len(open_samples(config.dataset, config.data_dir, config.train_split))
        return _whole_steps(images, folder, config, devices)
    if config.dataset.startswith("cifar") or not folder.is_dir():
        raise ConfigError(
            f"steps per epoch are not known: {folder} is no image folder; add --data_dir FOLDER or "
            "--steps_per_epoch N"
        )
    from ..data.samples.folder import Watcher, images_below

    images = sum(
        sum(1 for _ in images_below(folder, os.fsencode(entry.name), Watcher()))
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    return _whole_steps(images, folder, config, devices)


def _whole_steps(images: int, folder: Path, config: Config, devices: int) -> int:
    mine = _share(images, config, devices)
    batches = mine // config.batch_size if config.drop_remainder else -(-mine // config.batch_size)
    steps = batches // config.gradient_accumulation_steps
    if steps == 0:
        raise DataError(
            f"{mine} of {images} images in {folder} for each of {devices} processes do not fill "
            f"{config.gradient_accumulation_steps} x batch_size {config.batch_size}; lower "
            "batch_size or give --steps_per_epoch N"
        )
    return steps


def _share(images: int, config: Config, devices: int) -> int:
    """Return the images that the first process reads in an epoch; see `sample_order`."""
    if config.aug_repeats:
        return images // 256 * 256 // devices if images >= 256 else -(-images // devices)
    if config.num_samples is None:
        return -(-images // devices)
    if config.shuffle:
        return min(max(1, config.num_samples // devices), -(-images // devices))
    return -(-min(images, config.num_samples) // devices)


def write_rates(path: str, rates: list[float], steps: int) -> None:
    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("step", "epoch", "lr"))
            table.writerows((i + 1, i // steps + 1, repr(rate)) for i, rate in enumerate(rates))
    except OSError as error:
        raise ConfigError(f"--csv {path} cannot be written: {error.strerror}") from None


def draw(rates: list[float], epochs: int) -> list[str]:
    """Return the curve in plain characters, from 0 to the peak, over the epochs."""
    top = max(rates) or 1.0
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for x in range(_WIDTH):
        # All rates of a column, so that no drop or restart is missed.
        start, stop = x * len(rates) // _WIDTH, (x + 1) * len(rates) // _WIDTH
        own = rates[start : max(stop, start + 1)]
        low, high = (round(rate / top * (_HEIGHT - 1)) for rate in (min(own), max(own)))
        for y in range(low, high + 1):
            grid[_HEIGHT - 1 - y][x] = "*"
    labels = {0: f"{top:.4g}", _HEIGHT - 1: "0"}
    lines = [f"{labels.get(y, ''):>10} |{''.join(row).rstrip()}" for y, row in enumerate(grid)]
    axis = f"0{f'{epochs} epochs':>{_WIDTH - 1}}"
    return [*lines, " " * 11 + "+" + "-" * _WIDTH, " " * 12 + axis]

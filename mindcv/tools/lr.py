"""`python -m mindcv lr`: the learning rates of a recipe as a table, a plot in text, PNG and csv."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..config import (
    Config,
    build_schedule,
    parse_arguments,
    scale_rate,
    schedule_contradictions,
    updates_of_epoch,
)
from ..config.options import OPTIONS
from ..errors import DataError, MindCVError
from ..names import plural
from ..process.entry_point import import_user_module
from ..process.tables import write_csv
from .arguments import add_files, at_least, refuse_idle
from .charts import Chart, plot_charts, text_plot

TAKES_OPTIONS = True  # all other words are options of train.py


def add_arguments(parser: ArgumentParser) -> None:
    parser.usage = "%(prog)s [--config FILE] [--key value ...] [--steps_per_epoch N]"
    used = [name for name, entry in OPTIONS.items() if "lr" in entry.metadata["used_by"]]
    parser.epilog = f"The rates follow from these options of train.py: {', '.join(used)}."
    parser.add_argument(
        "--steps_per_epoch", type=at_least(1), metavar="N", help="default: counted from the images"
    )
    text = "processes that share the images"
    parser.add_argument("--devices", type=at_least(1), metavar="N", help=f"{text} (default: 1)")
    text = "draw the curve as PNG (extra plots)"
    add_files(parser, plot=text, csv="write the rate of every step")


def run(arguments: Namespace) -> None:
    config = parse_arguments(
        "python -m mindcv lr", __doc__, schedule_contradictions, arguments.options
    )
    if arguments.steps_per_epoch and not config.lr_base_size:
        reason = "changes nothing: --steps_per_epoch is given, and lr_base_size does not scale lr"
        refuse_idle(arguments, ("devices",), reason)
    devices = arguments.devices or 1
    steps = arguments.steps_per_epoch or count_steps(config, devices)
    rates = build_schedule(config, steps, devices)
    if arguments.csv:
        rows = ((i + 1, i // steps + 1, repr(rate)) for i, rate in enumerate(rates))
        write_csv(Path(arguments.csv), [("step", "epoch", "lr"), *rows], "--csv")
    print(
        f"{config.scheduler}: {plural(config.epoch_size, 'epoch')} of "
        f"{plural(steps, 'step')}, {plural(len(rates), 'step')}"
    )
    if not arguments.steps_per_epoch:
        print(f"steps counted from the images in {config.data_dir}, --devices {devices}")
    if config.lr_base_size:
        scaled = scale_rate(config, devices)
        print(f"lr {config.lr:g} scaled to {scaled:g} by lr_base_size {config.lr_base_size}")
    print("epoch   first step    last step")
    for epoch in range(config.epoch_size):
        own = rates[epoch * steps : (epoch + 1) * steps]
        print(f"{epoch + 1:5d} {own[0]:12.6g} {own[-1]:12.6g}")
    print("\n".join(text_plot(rates, "0", plural(config.epoch_size, "epoch"))))
    if arguments.plot:
        points = [(step / steps, rate) for step, rate in enumerate(rates)]
        title = f"{config.scheduler}, {len(rates)} steps"
        plot_charts(arguments.plot, [Chart("learning rate", {"lr": points})], title)


def count_steps(config: Config, devices: int) -> int:
    """Return the number of updates in an epoch, as train.py counts them.

    Nothing is written into the dataset, not even the digits of mnist_demo.
    """
    from ..data.datasets import DATASETS, open_samples
    from ..data.samples.arrays import DEMO_FOLDER

    if config.import_module and config.dataset not in DATASETS:  # it may import mindspore
        import_user_module(config.import_module)
    if config.dataset == "mnist_demo" and not Path(config.data_dir, DEMO_FOLDER).is_dir():
        raise DataError(
            f"steps per epoch are not known: train.py writes the digits into {config.data_dir} at "
            "first use; give --steps_per_epoch N"
        )
    try:
        place = config.dataset, config.data_dir, config.train_split
        images = len(open_samples(*place, val_fraction=config.val_fraction))
    except MindCVError as error:
        raise type(error)(
            f"steps per epoch are not known: {error}; add --data_dir FOLDER or --steps_per_epoch N"
        ) from None
    steps = updates_of_epoch(config, images, devices)
    if steps == 0:
        share = -(-min(images, config.num_samples or images) // devices)
        raise DataError(
            f"{share} of {images} images in {config.data_dir} for each of {devices} processes "
            f"do not fill {config.gradient_accumulation_steps} x batch_size {config.batch_size}; "
            "lower batch_size or give --steps_per_epoch N"
        )
    return steps

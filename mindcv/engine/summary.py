"""What a training says about itself before its first step and at its end."""

import shlex
from collections.abc import Sequence
from datetime import timedelta
from operator import itemgetter
from pathlib import Path

import numpy as np
from mindspore import nn

from ..data.order import sample_order
from ..data.samples.protocol import Samples, class_name, count_images
from ..names import plural
from ..process.clock import COMPILE, DATA, STEPS, time_table
from ..process.entry_point import program
from ..process.files import printable
from .progress import Progress
from .tables import MetricsTable

_MOST_NAMED = 10


def describe_data(
    samples: Samples,
    sampler: str | None = None,
    num_samples: int | None = None,
    class_weights: Sequence[float] | None = None,
) -> list[str]:
    """Return log lines with the classes of the training images, and how many images these have.

    `sampler` and `num_samples` are of `create_dataset`, `class_weights` of the loss.
    """
    counts = count_images(samples.labels, samples.num_classes)
    names = samples.class_names or ()
    line = plural(samples.num_classes, "class")
    if 0 < len(names) <= _MOST_NAMED:
        line += f": {printable(', '.join(names))}"
    ends = _ends(samples, counts)
    lines = [line, f"  {plural(len(samples), 'image')} to train on, {ends}"]
    if sampler:
        balance = samples.labels
        order = sample_order(len(samples), 0, 0, True, num_samples=num_samples, balance=balance)
        draws = np.bincount(order)
        lines.append(
            f"  sampler {sampler}: an epoch draws {len(order) / np.count_nonzero(counts):.4g} "
            f"images of each class: {np.sum(draws > 1)} of the images more than once, up to "
            f"{draws.max()} times, and {len(samples) - np.count_nonzero(draws)} not at all, "
            "others in each epoch"
        )
    if class_weights:
        lines.append(f"  weights in the loss: {_ends(samples, np.round(class_weights, 4))}")
    return lines


def _ends(samples: Samples, values: np.ndarray) -> str:
    """Name the classes with the smallest and the largest value, or all of a few."""
    names = [printable(class_name(samples, label)) for label in range(len(values))]
    chosen = range(len(names)) if len(names) <= _MOST_NAMED else [values.argmin(), values.argmax()]
    if values.min() == values.max():
        return f"{values[0]} of each class"
    joint = ", " if len(names) <= _MOST_NAMED else " to "
    return joint.join(f"{values[label]} of {names[label]}" for label in chosen)


def describe_model(name: str, network: nn.Cell, image_size: int | tuple[int, int]) -> list[str]:
    """Return log lines with the name, parameters and multiply-accumulates of a network.

    The multiply-accumulates need a method `complexity(image_size)`, such as `AnyNet` has, and a
    square image.
    """
    params = sum(parameter.size for parameter in network.trainable_params())
    lines = [f"model {name}: {params:,} parameters ({params / 1e6:.2f} M)"]
    if isinstance(image_size, tuple):
        lines.append(f"  MACs not known for images of {image_size[0]} x {image_size[1]} pixels")
    elif hasattr(network, "complexity"):
        macs = network.complexity(image_size).macs
        lines.append(f"  {macs:,} MACs for an image of {image_size} x {image_size} pixels")
    else:
        lines.append("  MACs not known: the model has no method complexity(image_size)")
    return lines


def describe_schedule(rates: Sequence[float], steps_per_epoch: int) -> list[str]:
    """Return log lines with the learning rate at a few points of the run."""
    epochs = len(rates) // steps_per_epoch
    points = sorted({0, *(round(epochs * part / 8) for part in range(1, 8)), epochs - 1} - {epochs})
    lines = [
        f"{plural(steps_per_epoch, 'step')} per epoch, {plural(epochs, 'epoch')}, "
        f"{plural(len(rates), 'step')}"
    ]
    lines += [f"  epoch {epoch + 1}: lr {rates[epoch * steps_per_epoch]:.6g}" for epoch in points]
    lines.append(f"  last step: lr {rates[-1]:.6g}")
    return lines


def describe_end(
    table: MetricsTable, progress: Progress, folder: Path, ending: str = ""
) -> list[str]:
    """Return log lines about a finished run, for 60 columns; the last one is the next command.

    The accuracy is of the whole run; times and speed are of this process only. `ending` says why
    the run is over before its last epoch.
    """
    done = [f"done in {timedelta(seconds=round(sum(progress.clock.seconds.values())))}"]
    if progress.images_per_second:
        done.append(f"{progress.images_per_second:.0f} images/s in training")
    lines = [*describe_time(progress), *filter(None, [ending]), ", ".join(done)]
    if scores := table.scores():
        epoch, score, is_averaged = max(scores, key=itemgetter(1))
        averaged = ", averaged weights" if is_averaged else ""
        lines.append(f"best {table.task.score_title} {score:.3f} % in epoch {epoch}{averaged}")
    lines.append(f"{folder} holds the checkpoints and metrics.csv")
    return [*lines, f"next: {program()} report {shlex.quote(str(folder))}"]


def describe_time(progress: Progress) -> list[str]:
    """Return log lines with the time of this process by activity, however the run ends."""
    seconds = progress.clock.seconds
    named = {COMPILE: f"{COMPILE}, {progress.first_steps or 'first step'}"}
    if not seconds[DATA]:  # the device pulls its batches
        named[STEPS] = f"{STEPS} and {DATA}"
    return time_table({named.get(name, name): taken for name, taken in seconds.items()})

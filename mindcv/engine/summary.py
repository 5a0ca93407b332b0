"""Log lines about what a run will do, and what it has done."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from mindspore import nn

from .progress import Progress
from .tables import MetricsTable


def describe_model(name: str, network: nn.Cell, image_size: int) -> list[str]:
    """Return log lines with the name, parameters and multiply-accumulates of a network.

    The multiply-accumulates need a method `complexity(image_size)`, such as `AnyNet` has.
    """
    params = sum(parameter.size for parameter in network.trainable_params())
    lines = [f"model {name}: {params:,} parameters ({params / 1e6:.2f} M)"]
    if hasattr(network, "complexity"):
        macs = network.complexity(image_size).macs
        lines.append(f"  {macs:,} MACs for an image of {image_size} x {image_size} pixels")
    else:
        lines.append("  MACs not known: the model has no method complexity(image_size)")
    return lines


def describe_schedule(rates: Sequence[float], steps_per_epoch: int) -> list[str]:
    """Return log lines with the learning rate at a few points of the run."""
    epochs = len(rates) // steps_per_epoch
    points = sorted({0, *(round(epochs * part / 8) for part in range(1, 8)), epochs - 1} - {epochs})
    lines = [f"{steps_per_epoch} steps per epoch, {epochs} epochs, {len(rates)} steps"]
    lines += [f"  epoch {epoch + 1}: lr {rates[epoch * steps_per_epoch]:.6g}" for epoch in points]
    lines.append(f"  last step: lr {rates[-1]:.6g}")
    return lines


def describe_end(table: MetricsTable, progress: Progress, folder: Path) -> str:
    """Return one line about a finished run: best accuracy, time, speed and folder.

    The accuracy is of the whole run; time and speed are of this process only.
    """
    parts = [f"done in {timedelta(seconds=round(progress.seconds))}"]
    if progress.compile_seconds:
        parts[0] += f" ({progress.compile_seconds:.0f} s to the end of the {progress.first_steps})"
    if progress.images_per_second:
        parts.append(f"{progress.images_per_second:.0f} images/s")
    if best := table.best():
        top1, epoch, whose = best
        averaged = ", averaged weights" if whose else ""
        parts.append(f"best top-1 {top1:.3f} % in epoch {epoch}{averaged}")
    return f"{', '.join(parts)}; {folder} holds the checkpoints and metrics.csv"

"""What a run is going to do, in lines."""

from collections.abc import Sequence

from mindspore import nn


def describe_model(name: str, network: nn.Cell, image_size: int) -> list[str]:
    """Return name, parameters and multiply-accumulates of a network.

    A network tells its multiply-accumulates through a method `complexity(image_size)`, as `AnyNet`
    does; another one is shown without.
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
    """Return the learning rate at a few points of the run."""
    epochs = len(rates) // steps_per_epoch
    points = sorted({0, *(round(epochs * part / 8) for part in range(1, 8)), epochs - 1} - {epochs})
    lines = [f"{steps_per_epoch} steps per epoch, {epochs} epochs, {len(rates)} steps"]
    lines += [f"  epoch {epoch + 1}: lr {rates[epoch * steps_per_epoch]:.6g}" for epoch in points]
    lines.append(f"  last step: lr {rates[-1]:.6g}")
    return lines

"""Mean and standard deviation of the channels, on the scale 0-255."""

from collections.abc import Sequence

from ..errors import ConfigError

_STATISTICS = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "cifar10": ((125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)),
    "cifar100": ((129.3, 124.0, 112.4), (68.2, 65.4, 70.4)),
    "mnist": ((33.3285,) * 3, (78.5655,) * 3),
    "mnist_demo": ((33.3285,) * 3, (78.5655,) * 3),
}


def channel_statistics(
    dataset_name: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std): those given, else the dataset's, or ImageNet's where it is unknown.

    Raises:
        ConfigError: those given are on the scale 0-1.
    """
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and (problem := scale_problem(key, values)):
            raise ConfigError(f"{key}: {problem}")
    own_mean, own_std = _STATISTICS.get(dataset_name, _STATISTICS["imagenet"])
    return tuple(own_mean if mean is None else mean), tuple(own_std if std is None else std)


def scale_problem(key: str, values: Sequence[float]) -> str | None:
    """Return what is wrong with a mean or std on the scale 0-1; None: it is on 0-255.

    A mean of 0 is on both scales, and so is a std of 1, which leaves pixels as they are.
    """
    largest = max(values)
    if 0 < largest < 1 or (key == "mean" and largest == 1):
        return (
            f"{list(values)} looks like the scale 0-1; pixels are 0-255 here: multiply mean and "
            "std by 255"
        )
    return None

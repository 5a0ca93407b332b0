"""Build the network that a weight file describes."""

import os

import mindspore as ms
from mindspore import nn

from ..errors import WeightsError
from ..weights import Metadata
from ..weights.metadata import ENTRY
from .registry import create_model
from .weights import load_weights


def create_model_from_file(
    path: str | os.PathLike, model_name: str = "", num_classes: int | None = None
) -> tuple[nn.Cell, Metadata]:
    """Build a network, load the weights of a file and tell what is known of them.

    Args:
        path: a weight file; one that this library wrote names its model, classes and preprocessing.
        model_name: the model; needed where the file does not tell it, and must agree where it does.
        num_classes: classes of a file that does not tell them; None: 1000.

    Returns:
        network: in evaluation mode.
        metadata: the file's own, or the defaults for the model.

    Raises:
        WeightsError: the file cannot be used, or does not tell its model and none was given.
        ConfigError: unknown model.
    """
    path = os.fspath(path)
    metadata = read_metadata(path)
    if metadata is None:
        if not model_name:
            raise WeightsError(
                f"weight file {path!r} does not tell which model it is of; name the model"
            )
        metadata = Metadata(model_name, num_classes=num_classes or 1000)
    elif model_name and model_name != metadata.model:
        raise WeightsError(
            f"weight file {path!r} is of model {metadata.model}, and {model_name} was asked for"
        )
    network = create_model(
        metadata.model,
        num_classes=metadata.num_classes,
        in_channels=metadata.in_channels,
        **metadata.options,
    )
    load_weights(network, path, new_head=False)
    return network.set_train(False), metadata


def read_metadata(path: str) -> Metadata | None:
    """Return what the file tells of its weights; None where it tells nothing."""
    found = ms.load_checkpoint(path)
    return Metadata.from_array(found[ENTRY].asnumpy(), path) if ENTRY in found else None

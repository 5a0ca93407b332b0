"""Build the network that a weight file describes."""

import os

from mindspore import nn

from ..errors import WeightsError
from ..weights import Metadata, WeightFile, read_weights
from ..weights.load import load_weights
from ..weights.match import sort_contents, told_preprocessing
from .described import create_described
from .registry import canonical_name


def create_model_from_file(
    path: str | os.PathLike | WeightFile,
    model_name: str = "",
    num_classes: int | None = None,
    ema: bool | None = None,
) -> tuple[nn.Cell, Metadata]:
    """Build a network, load the weights of a file and tell what is known of them.

    Args:
        path: a weight file of any library; one that this library wrote names its model, classes
            and preprocessing. Or what `read_weights` returned.
        model_name: the model; needed where the file does not tell it, and must agree where it does.
        num_classes: likewise; None: as the file's classifier has.
        ema: take the averaged weights; None: where the file holds them, else the raw ones.

    Returns:
        network: in evaluation mode.
        metadata: the file's own, or the defaults for the model.

    Raises:
        WeightsError: the file cannot be used, or does not tell its model and none was given.
        ConfigError: unknown model.
    """
    name = canonical_name(model_name) if model_name else ""
    file = path if isinstance(path, WeightFile) else read_weights(path)
    metadata = file.metadata
    if metadata is None:
        if not model_name:
            raise WeightsError(
                f"weight file {file.path!r} does not tell which model it is of; name the model"
            )
        contents = sort_contents(file)
        metadata = Metadata(
            name,
            num_classes=contents.num_classes if num_classes is None else num_classes,
            in_channels=contents.in_channels or 3,
            preprocessing=told_preprocessing(file),
        )
    elif name not in ("", metadata.model):
        raise WeightsError(
            f"weight file {file.path!r} is of model {metadata.model}, and {name} was asked for"
        )
    elif num_classes not in (None, metadata.num_classes):
        raise WeightsError(
            f"weight file {file.path!r} is of {metadata.num_classes} classes, and {num_classes} "
            "were asked for"
        )
    network = create_described(metadata, file)
    load_weights(network, file, ema=ema, new_head=False)
    return network.set_train(False), metadata

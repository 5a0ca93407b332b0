"""Classify with an exported file, by what the file's description beside it says."""

import json
from pathlib import Path

import numpy as np
from mindspore import Tensor

from ...classifier import Classifier, require_classes
from ...data import Normalize
from ...errors import WeightsError
from ...process.files import read_regular, reading
from ...weights import Metadata, Preprocessing
from .deployment import open_graph

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in `Normalize`
_LARGEST = 2**26  # bytes of a description


class DeployedClassifier(Classifier):
    """A `Classifier` that runs a .mindir or .onnx file of `export`; `path`.json describes it.

    Raises:
        WeightsError: the file cannot be run, or has no description that fits it.
        ConfigError: onnxruntime is not installed, or the network has no classifier.
    """

    def __init__(self, path: str):
        about = _read_description(Path(f"{path}.json"))
        try:
            batch, *shape = about["input"]["shape"]
            self.batch_size = None if batch == "any" else int(batch)
            self.normalizes = about["input"]["type"] == "uint8"
            self.gives_logits = about["output"]["values"] == "logits"
            classes = int(about["output"]["shape"][1])
            names = about["class_names"] and tuple(map(str, about["class_names"]))
            used = Preprocessing.from_dict(about["preprocessing"])
            channels = int(shape[-1] if self.normalizes else shape[0])
            metadata = Metadata(str(about["model"]), classes, channels, preprocessing=used)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError(
                f"{path}.json does not describe an exported file: {error}; write both again with "
                "`export`"
            ) from None
        require_classes(metadata)
        self.metadata = metadata.with_class_names(names) if names else metadata
        self.source, self.graph = path, open_graph(Path(path))

    def _step(self, images: Tensor) -> Tensor:
        """Map uint8 images (N, H, W, C) to logits, in batches of the size that the file takes."""
        used = self.metadata.preprocessing
        if not self.normalizes:
            pixels = Normalize(used.mean, used.std)(images).asnumpy()
        elif self.metadata.in_channels == 1:
            pixels = np.rint(images.asnumpy() @ _LUMA)[..., None].astype(np.uint8)
        else:
            pixels = images.asnumpy()
        size = self.batch_size or len(pixels)
        padding = np.zeros((-len(pixels) % size, *pixels.shape[1:]), pixels.dtype)
        pixels = np.concatenate([pixels, padding])
        found = [self.graph(pixels[at : at + size]) for at in range(0, len(pixels), size)]
        found = np.concatenate(found)[: len(images)].astype(np.float64)
        if not self.gives_logits:  # their softmax is the same as the file's
            found = np.log(np.maximum(found, np.finfo(np.float64).tiny))
        return Tensor(found.astype(np.float32))


def _read_description(path: Path) -> dict:
    remedy = "; `export` writes it, with classes and preprocessing: keep it beside its file"
    with reading(path, WeightsError, remedy):
        text = read_regular(path, _LARGEST)
    try:
        return json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{path} is no JSON: {error}") from None

"""Classify with an exported file, by the description that it contains."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from mindspore import Tensor

from ...classifier import Classifier, require_classes
from ...data import Normalize
from ...errors import WeightsError
from ...process.files import read_regular, reading
from ...task import MULTI_LABEL, SINGLE_LABEL, TASKS
from ...weights import Metadata, Preprocessing
from .deployment import open_graph
from .model_file import from_entries, read_entries

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in `Normalize`
_LARGEST = 2**26  # bytes of a description


class DeployedClassifier(Classifier):
    """A `Classifier` that runs a .mindir or .onnx file of `export`.

    The file describes itself; that of an earlier version has its description in `path`.json.

    Raises:
        WeightsError: the file cannot be run, or has no description that fits it.
        ConfigError: onnxruntime is not installed, or the network has no classifier.
    """

    def __init__(self, path: str):
        graph = open_graph(Path(path))  # first: it refuses what is no such file
        about, place = _read_description(Path(path))
        try:
            batch, *shape = about["input"]["shape"]
            self.batch_size = None if batch == "any" else int(batch)
            self.normalizes = about["input"]["type"] == "uint8"
            self.gives_logits = about["output"]["values"] == "logits"
            classes = int(about["output"]["shape"][1])
            names = tuple(map(str, about.get("class_names") or ()))
            used = Preprocessing.from_dict(about["preprocessing"])
            channels = int(shape[-1] if self.normalizes else shape[0])
            metadata = Metadata(str(about["model"]), classes, channels, preprocessing=used)
            metadata = replace(metadata, task=TASKS[about.get("task", SINGLE_LABEL.name)].name)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError(
                f"{place} does not describe an exported file: {error}; write it again with `export`"
            ) from None
        require_classes(metadata)
        self.metadata = metadata.with_class_names(names) if names else metadata
        self.source, self.graph = str(about.get("weights", "weights of an earlier export")), graph

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
        if not self.gives_logits:  # their softmax, or sigmoid, is the same as the file's
            tiny = np.finfo(np.float64).tiny
            others = 1 - found if self.metadata.task == MULTI_LABEL.name else 1.0
            found = np.log(np.maximum(found, tiny)) - np.log(np.maximum(others, tiny))
        return Tensor(found.astype(np.float32))


def _read_description(path: Path) -> tuple[dict, Path]:
    """Return the description of an exported file, and the file that it was read from."""
    try:
        entries = read_entries(path)
        if "preprocessing" in entries:
            return from_entries(entries), path
    except ValueError as error:
        raise WeightsError(
            f"{path} cannot be read: {error}; write it again with `export`"
        ) from None
    beside = Path(f"{path}.json")
    remedy = "; export the file again: it then contains its classes and preprocessing"
    with reading(beside, WeightsError, remedy):
        text = read_regular(beside, _LARGEST)
    try:
        return json.loads(text), beside
    except ValueError as error:
        raise WeightsError(f"{beside} is no JSON: {error}") from None

"""The table of published weights: publishers, accuracies and preprocessing."""

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ..data.preprocessing import Preprocessing
from ..errors import ConfigError

_TABLE = Path(__file__).with_name("published.yaml")
_CLASSES = Path(__file__).with_name("imagenet_classes.txt")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})(?=[-.])")


@dataclass(frozen=True)
class PublishedWeights:
    """A published weight file.

    Attributes:
        model: registered name.
        source: publisher and training: mindcv, torchvision_v2, timm_ra3, pycls, …
        sha256: hexadecimal, or only the first digits if no more are published; None: unknown.
        top1, top5: published accuracy on the ImageNet-1k validation set, percent.
        params: published number of parameters, millions.
        preprocessing: for evaluation; mean and standard deviation in RGB order.
        num_classes: 0: the file has no classifier; None: only the file knows.
        class_names: in the order of the logits; None: unknown.
        licence: SPDX identifier.
        owner: the publisher in full, such as torchvision (PyTorch).
        channel_order: RGB or BGR, as the first convolution expects.
        note: anything else that users must know.
    """

    model: str
    source: str
    url: str
    sha256: str | None = None
    top1: float | None = None
    top5: float | None = None
    params: float | None = None
    preprocessing: Preprocessing = Preprocessing()
    num_classes: int | None = 1000
    licence: str = ""
    owner: str = ""
    channel_order: str = "RGB"
    note: str = ""
    class_names: tuple[str, ...] | None = None

    def describe(self) -> str:
        """Return one line: whose weights these are, and how good."""
        top1 = f", top-1 {self.top1:.2f} % on ImageNet" if self.top1 else ""
        return f"{self.model}: weights {self.source} of {self.owner}, {self.licence}{top1}"


def published_weights(model: str = "") -> tuple[PublishedWeights, ...]:
    """Return the published weights of a model, its default first; without a name, those of all."""
    return tuple(row for row in _table() if model in ("", row.model))


def find_weights(model: str, source: str | None = None) -> PublishedWeights:
    """Return the weights of a model that `source` published; None: the model's default weights.

    Raises:
        ConfigError: no such weights are published; the message lists the known sources.
    """
    found = published_weights(model)
    if not found:
        raise ConfigError(
            f"this version knows no published weights of {model}; give a weight file: ckpt_path "
            "(create_model: checkpoint_path)"
        )
    for row in found:
        if source in (None, row.source):
            return row
    known = ", ".join(row.source for row in found)
    raise ConfigError(f"no weights of {model} from {source!r}; there are: {known}")


def weights_at(url: str) -> PublishedWeights:
    """Describe the weights at an address, for `fetch`; the file's name gives the model's.

    Eight hexadecimal digits at the end of that name, as in MindCV's, are its SHA-256's first,
    unless all are decimal: that may be a date. One SHA-256 in 43 begins so; its file is then
    trusted as one without a published hash.
    """
    if row := next((row for row in _table() if row.url == url), None):
        return row
    host, name = urlsplit(url).hostname or "unknown", urlsplit(url).path.rsplit("/", 1)[-1]
    model, found = re.split(r"[-.]", name)[0], _HASH_IN_NAME.findall(name)
    sha256 = next((digits for digits in found if not digits.isdecimal()), None)
    return PublishedWeights(model, host, url, sha256=sha256, owner=host, licence="unknown")


def require_classifier(weights: PublishedWeights) -> None:
    """Raise a ConfigError if the weights have no classifier and so give features only."""
    if weights.num_classes == 0:
        raise ConfigError(
            f"weights {weights.source} of {weights.model} have no classifier; train one: "
            f"train.py --model {weights.model} --pretrained {weights.source}"
        )


@lru_cache(maxsize=1)
def imagenet_classes() -> tuple[str, ...]:
    """Return the 1,000 names of ImageNet-1k's classes, in the order of the logits."""
    lines = _CLASSES.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


@lru_cache(maxsize=1)
def _table() -> tuple[PublishedWeights, ...]:
    sources = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return tuple(
        _row(model, source, {**block, **row})
        for source, block in sources.items()
        for model, row in block["weights"].items()
    )


def _row(model: str, source: str, keys: dict[str, Any]) -> PublishedWeights:
    names = {entry.name for entry in fields(PublishedWeights)}
    values = {key: value for key, value in keys.items() if key in names}
    values["preprocessing"] = Preprocessing.from_dict(keys["preprocessing"])
    if keys.get("hash_in_name"):
        values["sha256"] = _HASH_IN_NAME.search(keys["name"]).group(1)
    if keys.get("num_classes", 1000) == 1000:
        values["class_names"] = imagenet_classes()
    url = keys["address"].format(name=keys["name"])
    return PublishedWeights(model, source, url, **values)

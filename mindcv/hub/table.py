"""The table of published weights: whose they are, and how their images are prepared."""

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..data.preprocessing import Preprocessing
from ..design_space import SETTINGS
from ..design_space.names import source_of_tag, split_tag
from ..errors import ConfigError

_TABLE = Path(__file__).with_name("published.yaml")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})[-.]")


@dataclass(frozen=True)
class PublishedWeights:
    """One published weight file.

    Attributes:
        model: a registered name.
        source: who published which training: mindcv, torchvision_v2, timm_ra3, pycls, …
        url: address of the file.
        sha256: SHA-256 of the file, hexadecimal, or as many of its first digits as are published;
            None: no published hash is known.
        top1, top5: accuracy on ImageNet-1k's validation images as published, per cent; None: none.
        params: parameters as published, millions; None: not published.
        preprocessing: of evaluation; mean and deviation in RGB order.
        num_classes: rows of the classifier; 0: the file has none.
        licence: SPDX identifier.
        owner: whose weights they are.
        channel_order: RGB or BGR, what the first convolution expects.
        note: what users must know besides; empty: nothing.
    """

    model: str
    source: str
    url: str
    sha256: str | None = None
    top1: float | None = None
    top5: float | None = None
    params: float | None = None
    preprocessing: Preprocessing = Preprocessing()
    num_classes: int = 1000
    licence: str = ""
    owner: str = ""
    channel_order: str = "RGB"
    note: str = ""


def published_weights(model: str = "") -> tuple[PublishedWeights, ...]:
    """Return the published weights of a model, its default first; empty: there are none.

    Args:
        model: a registered name; empty: the weights of all models, source by source.
    """
    return tuple(row for row in _table() if model in ("", row.model))


def find_weights(model: str, source: str | None = None) -> PublishedWeights:
    """Return the published weights of a model.

    Args:
        model: a registered name.
        source: whose; None: the model's default.

    Raises:
        ConfigError: there are none, or none of that source; the message lists those there are.
    """
    found = published_weights(model)
    if not found:
        raise ConfigError(
            f"no weights of {model} are published that this version knows; give a file: ckpt_path, "
            "in create_model checkpoint_path"
        )
    for row in found:
        if source in (None, row.source):
            return row
    known = ", ".join(row.source for row in found)
    raise ConfigError(f"no weights of {model} from {source!r}; there are: {known}")


def choose_weights(asked: str, model: str, pretrained: bool | str) -> PublishedWeights:
    """Return the published weights that a model's name and the option `pretrained` choose.

    Args:
        asked: the model's name as the user gave it; a tag of timm's in it names a source too.
        model: its registered name.
        pretrained: True: those of the tag, or else the model's default; a text: of that source.

    Raises:
        ConfigError: tag and source contradict each other, the weights are of the model's twin, or
            there are none.
    """
    tag = split_tag(asked)[1]
    source = source_of_tag(tag) if tag else None
    if isinstance(pretrained, str):
        if source not in (None, pretrained):
            raise ConfigError(
                f"model {asked!r} names weights of {source}, pretrained those of {pretrained}"
            )
        source = pretrained
    twin = f"{model}_tv"
    if twin in SETTINGS and (source or "").startswith("torchvision"):
        raise ConfigError(
            f"torchvision's network of that name has other widths than {model}; its weights belong "
            f"to {twin}"
        )
    return find_weights(model, source)


def require_classifier(weights: PublishedWeights) -> None:
    """Refuse weights that give features only, where classes are wanted.

    Raises:
        ConfigError: they have no classifier.
    """
    if not weights.num_classes:
        raise ConfigError(
            f"weights {weights.source} of {weights.model} have no classifier; train one: "
            f"train.py --model {weights.model} --pretrained {weights.source}"
        )


@lru_cache(maxsize=1)
def _table() -> tuple[PublishedWeights, ...]:
    sources = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return tuple(
        _row(model, source, {**block, **row})
        for source, block in sources.items()
        for model, row in block["weights"].items()
    )


def _row(model: str, source: str, keys: dict[str, Any]) -> PublishedWeights:
    """Build a row from its own keys and those of its block."""
    names = {entry.name for entry in fields(PublishedWeights)}
    values = {key: value for key, value in keys.items() if key in names}
    values["preprocessing"] = Preprocessing.from_dict(keys["preprocessing"])
    if keys.get("hash_in_name"):
        values["sha256"] = _HASH_IN_NAME.search(keys["name"]).group(1)
    url = keys["address"].format(name=keys["name"])
    return PublishedWeights(model, source, url, **values)

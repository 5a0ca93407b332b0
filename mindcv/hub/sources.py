"""Which weights a user means: published ones by name, or those at an address.

| address | what it means |
|---|---|
| `hf-hub:owner/name` or `hf-hub:owner/name@revision` | a RegNet of timm on Hugging Face |
| `modelscope:owner/name` | the same on ModelScope |
| `https://host/file.pth#sha256=…` | one file; the model's name is the user's to say |

A repository is described by its list of files, which has the SHA-256 of each, and by timm's
`config.json`; both are kept in the cache, so the same address means the same weights from then on.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..data.preprocessing import Preprocessing
from ..design_space.published import SETTINGS, family_name, source_of_tag, split_tag
from ..errors import ConfigError, WeightsError
from ..process.download import Failure, download
from ..process.files import cache_folder, read_regular
from .table import PublishedWeights, find_weights, imagenet_classes

_LARGEST = 2**22  # bytes of a description
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_LISTING = "files.json"  # of a cached description


@dataclass(frozen=True)
class _Hub:
    """A model hub: its site, the variable that names a mirror, and its addresses."""

    site: str
    variable: str
    revision: str
    listing: str
    file: str

    def url(self, template: str, repository: str, revision: str, path: str = "") -> str:
        site = os.environ.get(self.variable, "").rstrip("/") or self.site
        site = site if "://" in site else f"https://{site}"
        return template.format(
            site=site, name=repository, revision=quote(revision, safe=""), path=path
        )


# As in huggingface_hub and in the SDK of ModelScope (modelscope/hub/api.py).
_HUBS = {
    "hf-hub": _Hub(
        site="https://huggingface.co",
        variable="HF_ENDPOINT",
        revision="main",
        listing="{site}/api/models/{name}/tree/{revision}",
        file="{site}/{name}/resolve/{revision}/{path}",
    ),
    "modelscope": _Hub(
        site="https://modelscope.cn",
        variable="MODELSCOPE_DOMAIN",
        revision="master",
        listing="{site}/api/v1/models/{name}/repo/files?Revision={revision}",
        file="{site}/models/{name}/resolve/{revision}/{path}",
    ),
}


def choose_weights(asked: str, model: str, pretrained: bool | str) -> PublishedWeights:
    """Return the published weights that a model's name and the option `pretrained` select.

    Args:
        asked: the name as the user wrote it; a timm tag in it selects a source. Or the address of a
            repository, as timm writes it.
        model: registered name; empty: the repository names it.
        pretrained: a source or an address; True: the source of the tag, else the model's default.

    Raises:
        ConfigError: tag and source contradict each other, the weights belong to the model's
            torchvision twin, or none are published.
        WeightsError: the description of a repository cannot be fetched.
    """
    if is_repository(asked):
        return weights_from(asked)
    if is_address(pretrained):
        return weights_from(pretrained, model)
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


def is_address(text: object) -> bool:
    """Return whether a text is the address of weights, not the name of a source."""
    kind, colon, _ = text.partition(":") if isinstance(text, str) else ("", "", "")
    return bool(colon) and kind in (*_HUBS, "https", "http")


def is_repository(text: object) -> bool:
    """Return whether a text is the address of a repository, which names its model."""
    return is_address(text) and text.partition(":")[0] in _HUBS


def weights_from(address: str, model: str = "") -> PublishedWeights:
    """Describe the weights at an address; of a repository this downloads the description.

    Args:
        model: registered name; of a repository, empty or what it must hold.

    Raises:
        ConfigError: no such address, another model, or none of this family.
        WeightsError: the description cannot be fetched or understood.
    """
    if not is_repository(address):
        return _file_at(address, model)
    kind, _, rest = address.partition(":")
    name, _, revision = rest.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or ".." in address:
        raise ConfigError(f"weights {address!r}: expected {kind}:owner/name or …@revision")
    hub = _HUBS[kind]
    folder = cache_folder() / kind / name / re.sub("[^A-Za-z0-9._-]", "_", revision or "newest")
    revision = revision or hub.revision
    files = _files(_read(hub.url(hub.listing, name, revision), folder / _LISTING))
    missing = [path for path in (_CONFIG, _WEIGHTS) if path not in files]
    if missing:
        _forget(folder)
        raise WeightsError(f"{address} has no {' and no '.join(missing)}; expected a model of timm")
    found = _read(hub.url(hub.file, name, revision, _CONFIG), folder / _CONFIG)
    try:
        architecture = found["architecture"]
        used = {**found, **found.get("pretrained_cfg", {})}
        count = int(found.get("num_classes", used["num_classes"]))
        preprocessing, names = _preprocessing(used), _names(used, count, name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        _forget(folder)
        raise WeightsError(f"{address}: config.json is not timm's: {reason}") from None
    own = family_name(str(architecture))
    if own is None:
        raise ConfigError(f"{address} is a {architecture!s:.60}; this library has only RegNets")
    if model not in ("", own):
        raise ConfigError(f"{address} is a {own}, not a {model}")
    page = f"{hub.site}/{name}"
    return PublishedWeights(
        own,
        address,
        hub.url(hub.file, name, revision, _WEIGHTS),
        sha256=files[_WEIGHTS],
        preprocessing=preprocessing,
        num_classes=count,
        licence=str(used.get("license", f"licence: see {page}")),
        owner=name.partition("/")[0],
        class_names=names,
    )


def _forget(folder: Path) -> None:
    """Remove a description that is of no use, so that the next attempt asks the hub again."""
    for name in (_LISTING, _CONFIG):
        with suppress(OSError):
            (folder / name).unlink()


def _file_at(address: str, model: str) -> PublishedWeights:
    url, _, fragment = address.partition("#")
    sha256 = fragment.removeprefix("sha256=").lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ConfigError(f"weights {address!r}: expected https://…#sha256= and 64 digits")
    if not model:
        raise ConfigError(f"weights {url}: name the model as well (--model)")
    host = urlsplit(url).hostname or "unknown"
    return PublishedWeights(
        model, address, url, sha256=sha256, num_classes=None, owner=host, licence="licence unknown"
    )


def _read(url: str, place: Path) -> Any:
    """Return the JSON at an address, downloaded once."""
    try:
        download(url, place, _fault_of, resumes=False)
        return json.loads(read_regular(place, _LARGEST))
    except Failure as failure:
        reason = failure.reason
    except (OSError, ValueError) as error:
        reason = f"{place}: {error}; delete it and try again"
    raise WeightsError(
        f"weights cannot be found: {reason}\n  address: {url}\n"
        f"  a copy of its {_WEIGHTS} serves too, with its model: --ckpt_path FILE --model NAME"
    )


def _fault_of(path: Path) -> str | None:
    try:
        json.loads(read_regular(path, _LARGEST))
    except (ValueError, RecursionError, OSError) as error:
        return f"what the server sent is not a description of weights: {error!s:.100}"
    return None


def _files(found: Any) -> dict[str, str | None]:
    """Return path and SHA-256 of the files that a hub lists; what is no list of files has none."""
    for key in ("Data", "Files"):  # ModelScope's
        found = found.get(key) if isinstance(found, Mapping) else found
    files = {}
    for row in found if isinstance(found, list) else []:
        row = {key.lower(): value for key, value in row.items()} if isinstance(row, Mapping) else {}
        lfs = row.get("lfs") if isinstance(row.get("lfs"), Mapping) else {}
        sha256 = str(row.get("sha256") or lfs.get("oid") or "").removeprefix("sha256:")
        is_hash = re.fullmatch("[0-9a-f]{64}", sha256) is not None
        files[str(row.get("path"))] = sha256 if is_hash else None
    return files


def _preprocessing(used: Mapping[str, Any]) -> Preprocessing:
    """Return what timm's validate.py does with these entries; timm resizes with Pillow."""
    channels, *sides = used.get("test_input_size") or used["input_size"]
    if channels != 3 or used.get("crop_mode", "center") != "center":
        raise ValueError(f"{channels} channels, crop_mode {used.get('crop_mode')!r:.60}")
    return Preprocessing.from_dict(
        {
            "image_size": sides[0] if sides[0] == sides[1] else sides,
            "crop_pct": float(used.get("test_crop_pct") or used["crop_pct"]),
            "interpolation": used["interpolation"],
            "mean": [255 * float(value) for value in used["mean"]],
            "std": [255 * float(value) for value in used["std"]],
            "antialias": True,
        }
    )


def _names(used: Mapping[str, Any], count: int, repository: str) -> tuple[str, ...] | None:
    """Return the class names: those of the description, or ImageNet's by timm's own tag."""
    names = used.get("label_names")
    if names is None:  # timm guesses by the 1,000 classes, which others have too
        # A model that others fine-tuned may keep the tag of its base.
        is_tagged = repository.startswith("timm/") and str(used.get("tag")).endswith("in1k")
        return imagenet_classes() if is_tagged and count == 1000 else None
    told = used.get("label_descriptions") or {}
    told = told if isinstance(told, Mapping) else dict(zip(names, told))
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{len(names)} label_names for {count} classes")
    return tuple(str(told.get(name, name)) for name in names)

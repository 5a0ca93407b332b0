"""A study: its yaml, and its folder of models, trainings and records.

The folder holds `study.yaml`, `recipe.yaml` (every option of the trainings), `population.jsonl` (a
model a line), `records.jsonl` (a training a line) and `runs/<id>/`, the run folder of each model.
"""

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from ...config import Config, dump_config, load_config, training_contradictions
from ...config.options import OPTIONS
from ...config.values import convert
from ...errors import ConfigError, DataError, RunFolderError
from ...names import plural
from ...process.files import open_regular, reading, write_text, writing
from ..arguments import file_path
from .sampling import sample_population
from .spaces import find_space, read_keys, read_limits

STUDY, RECIPE, RUNS = "study.yaml", "recipe.yaml", "runs"
POPULATION, RECORDS = "population.jsonl", "records.jsonl"
OPEN = "open"  # status of a model whose failed training is repeated
NO_MODEL = {"model": "", "regnet": None, "anynet": None}  # a recipe of no model
_NO_EARLY_STOP = {"early_stop_patience": 0, "early_stop_min_delta": 0}
# Options of train.py that a study does not take -> why.
_REFUSED = {
    "image_resize": "image_size sets it",
    "num_classes": "the study's num_classes sets it",
    "distribute": "devices sets it",
    "val_while_train": "a study needs the errors, so it is on",
    "dry_run": "a study trains",
    **dict.fromkeys(_NO_EARLY_STOP, "all models of a study train the same epochs"),
    **dict.fromkeys(NO_MODEL, "spaces set it"),
    **dict.fromkeys(("ckpt_save_dir", "resume", "resume_opt"), "design-space run sets it"),
    **dict.fromkeys(("summary_dir", "log_samples", "show_batch"), "all models would write there"),
}


@dataclass(frozen=True)
class Study:
    """What study.yaml says."""

    spaces: tuple[str | Mapping[str, Any], ...]  # names, or declarations of the user's own
    seed: int = 0
    count: int = 60  # models of each space
    image_size: int = 64  # pixels; costs are counted and networks trained at it
    num_classes: int = 10
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of `read_limits`
    train: Mapping[str, Any] = field(default_factory=dict)  # `config`, and options that change it
    workers: int = 1  # trainings at once
    devices: int = 1  # processes of each training
    budget: float | None = None  # hours after which a `run` starts no further training


_LOWEST = dict(seed=0, count=1, image_size=8, num_classes=1, workers=1, devices=1, budget=0)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY.yaml", type=file_path)
    parser.add_argument(
        "--output", metavar="DIR", type=file_path, help="default: the yaml's name without .yaml"
    )


def run(arguments: Namespace) -> None:
    """Write the folder of a study that can run."""
    study = read_study(arguments.study)
    folder = Path(arguments.output or Path(arguments.study).with_suffix(""))
    if (folder / POPULATION).exists():
        raise ConfigError(f"{folder} holds a population already; name another --output")
    options = {**study.train, **NO_MODEL, **_NO_EARLY_STOP, "val_while_train": True}
    options |= {"image_resize": study.image_size, "num_classes": study.num_classes}
    options["distribute"] = study.devices > 1
    base, models = options.pop("config", None), list(sample_population(study))
    try:
        recipe = _with_full_paths(load_config(base, options, rules=lambda config: ()))
        for model in models[:: study.count]:  # the first of each space
            load_config(base, options | _options_of(model), _rules)
    except ConfigError as error:
        reason = str(error).replace("overrides: ", "")
        raise ConfigError(f"{arguments.study}: train: {reason}") from None
    with writing(f"--output {folder}", ConfigError):
        folder.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(asdict(study), default=str))
    write_text(folder / STUDY, yaml.safe_dump(plain, sort_keys=False), ConfigError)
    write_text(folder / RECIPE, dump_config(recipe), ConfigError)
    lines = "".join(json.dumps(model) + "\n" for model in models)
    write_text(folder / POPULATION, lines, ConfigError)
    for space in map(find_space, study.spaces):
        print(f"{space.name}: {plural(study.count, 'model')} of {space.size():.1e} settings")
    print(f"{folder}: {plural(len(models), 'model')}; train them by design-space run")


def read_study(path: str | Path) -> Study:
    """Read study.yaml; ConfigError: it cannot be read, or a key or value is wrong."""
    with reading(path, ConfigError), open(path, encoding="utf-8") as file:
        try:
            values = _StudyLoader(file).get_single_data()
        except ConfigError:  # a key that is set twice
            raise
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{path}: not valid yaml: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected lines `key: value`, among them spaces")
    try:
        given = read_keys(values, {"spaces": list, "limits": dict, "train": dict}, _LOWEST)
        if not given["spaces"]:
            raise ValueError("spaces: expected a list of names and of own spaces, got none")
        if refused := [key for key in given["train"] if key in _REFUSED]:
            raise ValueError(f"train: {refused[0]}: {_REFUSED[refused[0]]}; leave it out")
        given |= {key: _number(key, values[key]) for key in _LOWEST if key in values}
        given |= {"limits": read_limits(given["limits"]), "spaces": tuple(given["spaces"])}
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Study(**given)


def _number(key: str, value: Any) -> float | None:
    try:
        number = convert(None if value is None else str(value), get_type_hints(Study)[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if number is not None and number < _LOWEST[key]:
        raise ValueError(f"{key}: {value} is out of range, expected at least {_LOWEST[key]}")
    return number


class _StudyLoader(yaml.SafeLoader):
    """Refuses a key that is set twice, and leaves `off` a text, as in a recipe."""

    def construct_mapping(self, node, deep=False):
        keys = [str(key.value) for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if keys[place] in keys[:place]:
                line = key.start_mark.line + 1
                raise ConfigError(f"{self.name}:{line}: {key.value} is set twice; keep one")
        return super().construct_mapping(node, deep)


_StudyLoader.add_constructor("tag:yaml.org,2002:bool", yaml.SafeLoader.construct_yaml_str)


def _with_full_paths(config: Config) -> Config:
    """Return the config with full paths of what exists, so that `run` may start anywhere."""
    paths = {name for name, entry in OPTIONS.items() if entry.metadata["is_path"]}
    given = {name: getattr(config, name) for name in paths if getattr(config, name)}
    return replace(config, **{n: os.path.abspath(p) for n, p in given.items() if os.path.exists(p)})


def training_config(folder: Path, model: Mapping[str, Any]) -> Config:
    """Return the config of a model's training; ConfigError: recipe.yaml and the model make none."""
    place = {"ckpt_save_dir": str(folder / RUNS / model["id"])}
    return load_config(str(folder / RECIPE), _options_of(model) | place, _rules)


def _options_of(model: Mapping[str, Any]) -> dict[str, Any]:
    name = model["model"]["name"]
    return {"model": name, name: model["model"]["arguments"]}


def _rules(config: Config) -> Iterator[tuple[str, str]]:
    # msrun starts the processes later.
    yield from (found for found in training_contradictions(config) if found[0] != "distribute")


def read_population(folder: Path) -> list[dict[str, Any]]:
    """Return the models of a study, in their order; DataError: no or damaged population.jsonl."""
    models, rest = _read_lines(folder / POPULATION)
    if rest or not models:
        raise DataError(f"{folder / POPULATION} was cut; sample it anew into another folder")
    return models


def read_records(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the newest record of each model by its id, and notes about what was left out.

    A kill may leave the last line without an end: that record was not made. A model whose newest
    record is `open` has none. DataError: records.jsonl is damaged.
    """
    if not (folder / RECORDS).exists():
        return {}, []
    records, rest = _read_lines(folder / RECORDS)
    note = f"the last line of {folder / RECORDS} has no end and is left out: {rest[:60]}"
    newest = {record["id"]: record for record in records}
    kept = {name: one for name, one in newest.items() if one.get("status") != OPEN}
    return kept, [note] if rest else []


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the complete lines of a file, and the rest after the last newline."""
    with reading(path, DataError):
        text, _, rest = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found.append(json.loads(line))
            found[-1]["id"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}:{number}: not a line of a study: {line[:60]!r}") from None
    return found, rest


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a line to records.jsonl, on the disk when this returns; RunFolderError: it cannot."""
    path = folder / RECORDS
    with (
        writing(path, RunFolderError, "; make room, the same command goes on"),
        open(open_regular(path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0) as file,
    ):
        kept = file.read().rfind(b"\n") + 1  # a kill may have cut the last line
        file.truncate(kept)
        file.seek(kept)
        file.write(json.dumps(record).encode() + b"\n")
        os.fsync(file)

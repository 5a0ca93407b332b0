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
from ...process.files import open_regular, reading, replacing, writing
from ..arguments import file_path
from .sampling import sample_population
from .spaces import find_space, read_limits

STUDY, RECIPE, RUNS = "study.yaml", "recipe.yaml", "runs"
POPULATION, RECORDS = "population.jsonl", "records.jsonl"
OPEN = "open"  # status of a model whose failed training is repeated
# Options of train.py that a study does not take -> why.
_REFUSED = {
    "image_resize": "image_size sets it",
    "num_classes": "the study's num_classes sets it",
    "distribute": "devices sets it",
    "val_while_train": "a study needs the errors, so it is on",
    "dry_run": "a study trains",
    **dict.fromkeys(("model", "regnet", "anynet"), "spaces set it"),
    **dict.fromkeys(("ckpt_save_dir", "resume", "resume_opt"), "design-space run sets it"),
    **dict.fromkeys(("summary_dir", "log_samples", "show_batch"), "all models would write there"),
}


@dataclass(frozen=True)
class Study:
    """What study.yaml says.

    Attributes:
        spaces: names of spaces, or declarations of the user's own.
        count: models of each space.
        image_size: pixels; costs are counted and networks trained at it.
        limits: cost (macs, params, activations) -> lowest and highest, both allowed.
        train: options of train.py, and `config`, the recipe that they change.
        workers: trainings at once; each has its share of the cores.
        devices: processes of each training; more than one are started by msrun.
        budget: hours after which a `run` starts no further training; None: no limit.
    """

    spaces: tuple[str | Mapping[str, Any], ...]
    seed: int = 0
    count: int = 60
    image_size: int = 64
    num_classes: int = 10
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    devices: int = 1
    budget: float | None = None


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
    options = {
        **study.train,
        **{"model": "", "regnet": None, "anynet": None},  # a recipe names a model
        "image_resize": study.image_size,
        "num_classes": study.num_classes,
        "distribute": study.devices > 1,
        "val_while_train": True,
    }
    base = options.pop("config", None)
    models = list(sample_population(study))
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
        texts = {
            STUDY: yaml.safe_dump(plain, sort_keys=False),
            RECIPE: dump_config(recipe),
            POPULATION: "".join(json.dumps(model) + "\n" for model in models),
        }
        for name, text in texts.items():
            with replacing(folder / name) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
    for space in map(find_space, study.spaces):
        print(f"{space.name}: {plural(study.count, 'model')} of {space.size():.1e} settings")
    print(f"{folder}: {plural(len(models), 'model')}; train them by design-space run")


def read_study(path: str | Path) -> Study:
    """Read study.yaml.

    Raises:
        ConfigError: it cannot be read, or a key or value is wrong.
    """
    with reading(path, ConfigError), open(path, encoding="utf-8") as file:
        try:
            values = _StudyLoader(file).get_single_data()
        except ConfigError:  # a key that is set twice
            raise
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{path}: not valid yaml: {error}") from None
    if not isinstance(values, dict) or "spaces" not in values:
        raise ConfigError(f"{path}: expected lines `key: value`, among them spaces")
    known = Study.__dataclass_fields__
    if unknown := [str(key) for key in values if key not in known]:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    try:
        values |= {key: _number(key, values[key]) for key in _LOWEST if key in values}
        values["limits"] = read_limits(values.get("limits") or {})
        spaces, train = values["spaces"], values.get("train") or {}
        if not isinstance(spaces, list) or not spaces:
            raise ValueError(f"spaces: expected a list of names and of own spaces, got {spaces}")
        if not isinstance(train, dict):
            raise ValueError(f"train: expected options of train.py, got {train}")
        if refused := [key for key in train if key in _REFUSED]:
            raise ValueError(f"train: {refused[0]}: {_REFUSED[refused[0]]}; leave it out")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Study(**{**values, "spaces": tuple(spaces), "train": train})


def _number(key: str, value: Any) -> float | None:
    try:
        number = convert(None if value is None else str(value), get_type_hints(Study)[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if number is not None and number < _LOWEST[key]:
        raise ValueError(f"{key}: {value} is out of range, expected at least {_LOWEST[key]}")
    return number


class _StudyLoader(yaml.SafeLoader):
    """Refuses a key that is set twice, and leaves `off` in `train` a text, as in a recipe."""

    def construct_document(self, node):
        for key, options in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == "train" and isinstance(options, yaml.MappingNode):
                for _, option in options.value:
                    if option.tag == "tag:yaml.org,2002:bool":
                        option.tag = "tag:yaml.org,2002:str"
        return super().construct_document(node)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"{self.name}:{line}: {key.value} is set twice; keep one")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _with_full_paths(config: Config) -> Config:
    """Return the config with full paths of what exists, so that `run` may start anywhere."""
    paths = {name for name, entry in OPTIONS.items() if entry.metadata["is_path"]}
    given = {name: getattr(config, name) for name in paths if getattr(config, name)}
    return replace(config, **{n: os.path.abspath(p) for n, p in given.items() if os.path.exists(p)})


def training_config(folder: Path, model: Mapping[str, Any]) -> Config:
    """Return the config of a model's training.

    Raises:
        ConfigError: recipe.yaml and the model make none.
    """
    place = {"ckpt_save_dir": str(folder / RUNS / model["id"])}
    return load_config(str(folder / RECIPE), _options_of(model) | place, _rules)


def _options_of(model: Mapping[str, Any]) -> dict[str, Any]:
    name = model["model"]["name"]
    return {"model": name, name: model["model"]["arguments"]}


def _rules(config: Config) -> Iterator[tuple[str, str]]:
    # msrun starts the processes later.
    yield from (found for found in training_contradictions(config) if found[0] != "distribute")


def read_population(folder: Path) -> list[dict[str, Any]]:
    """Return the models of a study, in their order.

    Raises:
        DataError: population.jsonl is missing or damaged.
    """
    models, rest = _read_lines(folder / POPULATION)
    if rest or not models:
        raise DataError(f"{folder / POPULATION} was cut; sample it anew into another folder")
    return models


def read_records(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the newest record of each model by its id, and notes about what was left out.

    A kill may leave the last line without an end: that record was not made. A model whose newest
    record is `open` has none: its training is to be repeated.

    Raises:
        DataError: records.jsonl is damaged.
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
    """Add a line to records.jsonl, on the disk when this returns.

    Raises:
        RunFolderError: it cannot be written.
    """
    path = folder / RECORDS
    remedy = "; make room, the same command goes on"
    with writing(path, RunFolderError, remedy):
        file = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            end = os.fstat(file).st_size
            kept = os.pread(file, end, 0).rfind(b"\n") + 1
            os.ftruncate(file, kept)  # a line that a kill has cut
            os.pwrite(file, json.dumps(record).encode() + b"\n", kept)
            os.fsync(file)
        finally:
            os.close(file)

"""Make mindcv_utils.json: parameters and figures of MindCV's `utils`.

Run with MindCV and MindSpore on a CPU: `PYTHONPATH=MINDCV python make_mindcv_utils.py`, where
MINDCV is a checkout of its repository.
"""

import inspect
import json
import random
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindcv.utils.path import detect_file_type
from utils_cases import FILE_NAMES, TRAININGS, kept, monitored, train

from mindcv import utils

OWN = ("__init__", "construct")


def parameters(function) -> list[list]:
    """Return name and default of each parameter; a parameter without default has only a name."""
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        has_default = parameter.default is not inspect.Parameter.empty
        found.append([name, repr(parameter.default)] if has_default else [name])
    return found


def interface() -> dict[str, list]:
    """Return the parameters of every function, and of every public method of every class."""
    found = {}
    for name in dir(utils):
        value = getattr(utils, name)
        if not getattr(value, "__module__", "").startswith("mindcv.") or name.startswith("_"):
            continue
        if inspect.isclass(value):
            for method in value.__dict__:
                raw = getattr(value, method)
                if inspect.isfunction(raw) and (method in OWN or method[0] != "_"):
                    found[f"{name}.{method}"] = parameters(raw)
        elif callable(value):
            found[name] = parameters(value)
    return found


def drawn(seed: int, rank: int) -> list[float]:
    utils.set_seed(seed, rank)
    return [random.random(), float(np.random.rand()), ms.get_seed()]


def save_at_once(save):
    """Return `save_checkpoint` without its thread, whose files MindCV removes before they exist."""
    return lambda cell, path, async_save=False: save(cell, path)


def main():
    utils.checkpoint_manager.ms.save_checkpoint = save_at_once(ms.save_checkpoint)
    utils.callbacks.save_checkpoint = save_at_once(utils.callbacks.save_checkpoint)
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")  # MindCV cannot accumulate in PyNative
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "interface": interface(),
            "file_types": {name: detect_file_type(name) for name in FILE_NAMES},
            "metrics": {count: list(utils.get_metrics(count)) for count in (2, 4, 5, 10)},
            "drawn": {f"{seed} {rank}": drawn(seed, rank) for seed, rank in ((42, 0), (1, 3))},
            "trainings": {name: train(utils, options) for name, options in TRAININGS.items()},
            "kept": {policy: kept(utils, policy, Path(folder)) for policy in ("top_k", "latest_k")},
            "monitored": monitored(utils, Path(folder, "monitored")),
        }
    text = json.dumps(found, indent=1)
    Path(__file__).with_name("mindcv_utils.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

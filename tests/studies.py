"""Made-up studies of design spaces, whose errors follow from the models."""

import json
from pathlib import Path

import numpy as np
import yaml

from mindcv.config import Config, dump_config
from mindcv.design_space import plan_regnet


def anynet(rng, shared: bool) -> dict:
    """Return settings of an AnyNetX_A or, with shared b and g and sorted stages, an AnyNetX_E."""
    widths, depths = (rng.integers(*ends, 4).tolist() for ends in ((2, 20), (1, 5)))
    ratios, groups = (rng.choice(values, 4).tolist() for values in ((0.25, 0.5, 1.0), (1, 2, 4)))
    if shared:
        widths, depths, ratios, groups = sorted(widths), sorted(depths), ratios[:1] * 4, [2] * 4
    return {
        "depths": depths,
        "widths": [8 * width for width in widths],
        "bot_muls": ratios,
        "group_ws": groups,
    }


def a_model(space: str, rng) -> tuple[dict, dict]:
    """Return a line of population.jsonl, without its number, and the error it is to have."""
    if space.startswith("regnet"):
        w_a, w_m = rng.uniform(8, 40), rng.uniform(1.5, 3)
        own = {"w_a": round(w_a, 1), "w_0": 24, "w_m": round(w_m, 2), "d": int(rng.integers(4, 12))}
        own |= {"group_w": 8, "bot_mul": 1.0}
        plan = plan_regnet(**own)
        shape = {"widths": plan.widths, "depths": plan.depths, "group_ws": plan.group_widths}
        shape["bot_muls"] = plan.bottleneck_ratios
        model, error = {"name": "regnet", "arguments": own}, 31 - own["d"] / 3
    else:
        shape = anynet(rng, shared=space.endswith("e"))
        letters = {"d": "depths", "w": "widths", "b": "bot_muls", "g": "group_ws"}
        own = {f"{k}{i + 1}": shape[name][i] for k, name in letters.items() for i in range(4)}
        model = {"name": "anynet", "arguments": shape}
        error = 33 - 3 * np.mean(np.diff(shape["widths"]) >= 0)
    line = {"space": space, "model": model, "parameters": own, **shape}
    line |= {"params": 90_000, "macs": int(rng.integers(10**7, 12 * 10**6)), "activations": 7_000}
    return line, error


def make_study(folder: Path, spaces, count: int, *, seed: int = 0, macs: float = 1.0, **options):
    """Write a study; the last model of each space is not trained, the one before failed."""
    rng, population, records = np.random.default_rng(seed), [], []
    for index in range(count + 2):
        for space in spaces:
            line, error = a_model(space, rng)
            name = f"{seed:02x}{index:05x}{spaces.index(space):05x}"
            line |= {"id": name, "index": index, "macs": int(line["macs"] * macs)}
            population.append(line)
            record = {"id": name, "space": space, "status": "done", "errors": [90.0], "loss": 1.5}
            record |= {"error": round(error + rng.normal(0, 0.5), 2), "epochs": 3}
            record |= {"seconds": 36.0, "exit_code": 0, "reason": None}
            if index == count:
                record |= {"status": "failed", "error": None, "exit_code": 3, "reason": "loss nan"}
            if index <= count:
                records.append(record)
    folder.mkdir()
    settings = {"seed": seed, "count": count + 2, "image_size": 64, "num_classes": 10}
    settings |= {"limits": {"macs": [1e7 * macs, 1.2e7 * macs]}, "spaces": list(spaces)}
    settings |= {"train": {"lr": 0.1, **options}, "workers": 2, "devices": 1}
    (folder / "study.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    recipe = dump_config(Config(num_classes=10, image_resize=64, lr=0.1, **options))
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    for name, lines in (("population", population), ("records", records)):
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder

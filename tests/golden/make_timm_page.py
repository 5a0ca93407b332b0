"""Make timm_page.json: what docs/from_timm.md says of timm, for test_from_timm.py.

Run with torch and timm: `python make_timm_page.py CLONE`, with a clone of timm's repository. The
result holds the options of its scripts with their defaults, what its optimizers are, and the rates
of its schedules, one before each update.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import torch

torchvision = torch.library.Library("torchvision", "DEF")
torchvision.define("nms(Tensor a, Tensor b, float c) -> Tensor")
torchvision.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

import timm  # noqa: E402
from timm.optim import create_optimizer_v2  # noqa: E402
from timm.scheduler import create_scheduler_v2  # noqa: E402

SCRIPTS = "train validate inference onnx_export avg_checkpoints clean_checkpoint".split()
EPOCHS, WARMUP, STEPS = 7, 3, 4
SCHEDULES = {
    "cosine": {"min_lr": 0.02},
    "step": {"decay_epochs": 2, "decay_rate": 0.5},
    "poly": {"decay_rate": 0.9, "min_lr": 0.0},
}


def options(source: str) -> dict:
    """Return option -> default of a script's calls of `add_argument`."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument"):
            default = {key.arg: key.value for key in node.keywords}.get("default")
            plain = isinstance(default, ast.Constant)
            for name in node.args:
                found[name.value] = default.value if plain else None
    return {name: value for name, value in found.items() if name.startswith("--")}


def rates(schedule: str, on_updates: bool) -> list[float]:
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler, epochs = create_scheduler_v2(
        sgd,
        sched=schedule,
        num_epochs=EPOCHS,
        warmup_epochs=WARMUP,
        warmup_lr=0.1,
        warmup_prefix=True,
        step_on_epochs=not on_updates,
        updates_per_epoch=STEPS,
        **SCHEDULES[schedule],
    )
    found = []
    for epoch in range(epochs):
        for step in range(STEPS):
            found.append(sgd.param_groups[0]["lr"])
            scheduler.step_update(epoch * STEPS + step + 1)
        scheduler.step(epoch + 1)
    return found


def main(clone: str) -> None:
    model = timm.create_model("regnety_004")
    sources = {
        name: subprocess.check_output(["git", "-C", clone, "show", f"HEAD:{name}.py"], text=True)
        for name in SCRIPTS
    }
    features = timm.create_model("regnety_004", features_only=True, out_indices=(1, 2, 3, 4))
    golden = {
        "timm": timm.__version__,
        "options": {name: options(source) for name, source in sources.items()},
        "nesterov": {
            name: create_optimizer_v2(model, opt=name, lr=0.1).param_groups[0]["nesterov"]
            for name in ("sgd", "momentum")
        },
        "without_decay": sorted(
            {
                p.ndim
                for p in create_optimizer_v2(
                    model, opt="sgd", lr=0.1, weight_decay=1e-4
                ).param_groups[0]["params"]
            }
        ),
        "channels": features.feature_info.channels(),
        "rates": {f"{name} {on}": rates(name, on) for name in SCHEDULES for on in (False, True)},
        "names": [name for name in timm.list_models("regnet*")],
    }
    text = json.dumps(golden, indent=1)
    Path(__file__).with_name("timm_page.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])

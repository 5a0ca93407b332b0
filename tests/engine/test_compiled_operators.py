"""The compiled training step holds only operators that MindSpore documents, see operators.csv."""

import csv
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from commands import tiny_regnet
from mindspore import Tensor, nn

from mindcv import engine
from mindcv.config import Config, load_config
from mindcv.engine import build_step
from mindcv.engine.device import Runtime
from mindcv.engine.sink import EpochOutputs
from mindcv.loss import LOSSES
from mindcv.optim import OPTIMIZERS
from mindcv.optim.clip import CLIP_MODES

ROOT = Path(__file__).parents[2]
RUNTIME = Runtime("CPU", 0, "O0", 0, 1)
CLASSES, SIDE = 10, 32
A_REGNETZ = "regnet_z_500mf"
BORROWED_FOR_Z = ("regnet_x_800mf_ascend", "regnet_y_4_0gf_timm_a3")
with Path(__file__).parents[1].joinpath("operators.csv").open(encoding="utf-8") as _file:
    OPERATORS = {row["operator"]: row for row in csv.DictReader(_file)}
_CALL = re.compile(r"^\s*%\d+\(.*?\) = (?:PrimFunc_)?([A-Za-z_]\w*)\(", re.MULTILINE)


def family_of(config: Config) -> str:
    return config.model.split("_")[1]


def shape_of(config: Config) -> tuple:
    """Return what decides which operators the graph of a training step has."""
    on_device = (config.hflip, config.vflip, config.color_jitter, config.re_prob)
    return (
        family_of(config),
        config.amp_level,
        config.keep_bn_fp32,
        config.amp_cast_list,
        config.loss,
        config.label_smoothing > 0,
        config.bce_target_thresh is not None,
        config.mixup > 0 or config.cutmix > 0,
        config.opt,
        config.use_nesterov,
        config.weight_decay_filter,
        config.layer_decay is not None,
        config.has_dynamic_scale,
        config.drop_overflow_update,
        config.clip_grad and config.clip_mode,
        config.gradient_accumulation_steps > 1,
        config.ema,
        bool(config.drop_rate),
        bool(config.drop_path_rate),
        config.augment_on_device and tuple(map(bool, on_device)),
    )


def recipes() -> Iterable:
    """Return one recipe of each shape, the first in the order of names; RegNetZ borrows two."""
    found = {}
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        config = load_config(
            str(path), {"dry_run": True, "distribute": False, "image_resize": SIDE}
        )
        found.setdefault(shape_of(config), pytest.param(config, id=path.stem))
        if path.stem in BORROWED_FOR_Z:
            config = replace(config, model=A_REGNETZ)
            found.setdefault(shape_of(config), pytest.param(config, id=f"z as {path.stem}"))
    return found.values()


def operators_of(config: Config, network: nn.Cell, folder: Path) -> set[str]:
    """Compile the training step of a config as Ascend's data sink runs it; return its operators."""
    count = engine.count_dropout(network, config.seed)
    mixed = engine.mixed_precision(
        network, config.amp_level, config.amp_cast_list or (), config.keep_bn_fp32
    )
    average = engine.WeightAverage(network, config.ema_decay) if config.ema else None
    optimizer = build_step.build_optimizer(config, network, [0.1, 0.2])
    step = build_step.build_step(
        config,
        RUNTIME,
        mixed,
        optimizer,
        average=average,
        dropout_count=count,
    )
    images = 2 * max(1, config.aug_splits)
    label = Tensor(np.zeros(images), ms.int32)
    if config.mixup or config.cutmix:
        label = Tensor(np.full((images, CLASSES), 0.1), ms.float32)
    batch = [Tensor(np.zeros((images, SIDE, SIDE, 3)), ms.uint8), label]
    if config.augment_on_device:
        batch.append(Tensor(np.zeros((images, 15)), ms.float32))
    return operators_in(compile_to(folder, EpochOutputs(step, 2), *batch))


def compile_to(folder: Path, cell: nn.Cell, *inputs: Tensor) -> Path:
    """Compile a cell; return the file with its graph as it goes to the device's own compiler."""
    mode = ms.get_context("mode")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MS_DEV_DUMP_IR_PASSES", "validate")  # all of them would take minutes
        ms.set_context(mode=ms.GRAPH_MODE, save_graphs=1, save_graphs_path=str(folder))
        try:
            cell.compile(*inputs)
        finally:
            ms.set_context(mode=mode, save_graphs=0)
    return max(folder.rglob("*_validate_*.ir"))


def operators_in(graph: Path) -> set[str]:
    return set(_CALL.findall(graph.read_text(encoding="utf-8")))


def tiny_network(config: Config) -> nn.Cell:
    """Return three blocks with the layers of the model's family: the others have more of these."""
    shape = {
        "x": {"se_r": 0.0},
        "y": {"se_r": 0.25},
        "z": {
            "se_r": 0.25,
            "bot_mul": 4.0,
            "activation": "silu",
            "block_type": "res_bottleneck_linear_block",
        },
    }[family_of(config)]
    rates = {"drop_rate": config.drop_rate or 0.0, "drop_path_rate": config.drop_path_rate or 0.0}
    return tiny_regnet(CLASSES, **shape, **rates)


# What no recipe sets, by the option that brings other operators; on the layers of RegNetZ.
OPTIONS = {
    **{opt: {"opt": opt} for opt in OPTIMIZERS},
    **{f"loss {loss}": {"loss": loss} for loss in LOSSES if loss != "jsd"},
    "jsd": {"loss": "jsd", "aug_splits": 3, "auto_augment": "augmix"},
    **{f"clip {mode}": {"clip_grad": True, "clip_mode": mode} for mode in CLIP_MODES},
    **{f"amp {level}": {"amp_level": level} for level in ("O1", "O2", "O3", "auto")},
    "skip": {"drop_overflow_update": True},
    "accumulate": {"gradient_accumulation_steps": 2},
    "accumulate and scale": {"gradient_accumulation_steps": 2, "loss_scale_type": "dynamic"},
    "dropout": {"drop_rate": 0.2, "drop_path_rate": 0.2},
    "average": {"ema": True},
    "layers": {"layer_decay": 0.7, "opt": "adamw"},
    "device": {"augment_on_device": True, "vflip": 0.5, "re_prob": 0.5},
}


def check(config: Config, network: nn.Cell, folder: Path) -> None:
    found = operators_of(config, network, folder)
    assert {"Conv2D", "Conv2DBackpropFilter", "BatchNormGrad", "MatMul"} <= found
    assert found <= set(OPERATORS), f"operators.csv does not list {found - set(OPERATORS)}"


def test_the_step_of_the_published_recipe_holds_documented_operators_only(tmp_path):
    path = ROOT / "configs/regnet/regnet_x_800mf_ascend.yaml"
    config = load_config(str(path), {"dry_run": True, "distribute": False, "image_resize": SIDE})
    check(config, tiny_network(config), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("config", recipes())
def test_the_step_of_every_recipe_holds_documented_operators_only(config, tmp_path):
    check(config, tiny_network(config), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_every_option_brings_documented_operators_only(options, tmp_path):
    fixed = {"model": A_REGNETZ, "dry_run": True, "image_resize": SIDE}
    config = load_config(None, fixed | options)
    check(config, tiny_network(config), tmp_path)


@pytest.mark.parametrize("row", OPERATORS.values(), ids=list(OPERATORS))
def test_the_list_names_the_devices_of_the_installed_documentation(row):
    if not row["documented"]:
        assert row["note"].startswith("the graph's structure")
        return
    assert platforms(row["documented"]) == set(row["devices"].split())


def platforms(name: str) -> set[str]:
    """Return the devices that the docstring of a name in mindspore lists."""
    found = ms
    for part in name.split("."):
        found = getattr(found, part)
    listed = re.search(r"Supported Platforms:\s*(.*)", found.__doc__)
    if not listed:
        return platforms(re.search(r"[Rr]efer to :\w+:`mindspore\.([\w.]+)`", found.__doc__)[1])
    return set(re.findall(r"Ascend|GPU|CPU", listed[1]))

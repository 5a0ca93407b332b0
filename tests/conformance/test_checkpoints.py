"""Checkpoints of MindCV and ours go both ways: names, training state, optimizer state."""

import hashlib
import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindcv.__main__ import main
from mindcv.design_space import SETTINGS
from mindcv.errors import ConfigError, WeightsError
from mindcv.models import RegNet, create_model, load_weights
from mindcv.optim import create_optimizer
from mindcv.utils import TrainStep
from mindcv.weights import Metadata, WeightFile, ckpt, write_weights
from mindcv.weights.match import sort_contents
from mindcv.weights.schemes import SCHEMES

GOLDEN = Path(__file__).parents[1] / "golden"
# By version of MindCV; see make_mindcv_checkpoints.py.
RECORDED = json.loads((GOLDEN / "mindcv_checkpoints.json").read_text())
STATES = np.load(GOLDEN / "mindcv_checkpoints.npz")
MINDCV = SCHEMES["mindcv"]


@pytest.fixture(scope="module")
def blocks() -> dict[str, list[list[str]]]:
    """Return the names within the first and in a later block of an X and a Y, and the others."""
    found = {}
    for kind in "xy":
        names = [p.name for p in create_model(f"regnet_{kind}_200mf").get_parameters()]
        places = ("stages.3.blocks.0.", "stages.3.blocks.1.")
        found[kind] = [[n.removeprefix(p) for n in names if n.startswith(p)] for p in places]
        found[kind].append([name for name in names if not name.startswith("stages.")])
    return found


def native_names(model: str, blocks) -> list[str]:
    first, later, outside = blocks[model.split("_")[1]]
    depths = SETTINGS[model].plan().depths
    return outside + [
        f"stages.{stage}.blocks.{block}.{name}"
        for stage, depth in enumerate(depths)
        for block in range(depth)
        for name in (later if block else first)
    ]


@pytest.mark.parametrize("model", RECORDED["0.3.0"]["builders"])
def test_names_are_those_of_mindcvs_own_networks_and_come_back(model, blocks):
    native = native_names(model, blocks)
    theirs = [MINDCV.from_native(name, "_y_" in model) for name in native]
    digest = hashlib.sha256("\n".join(sorted(theirs)).encode()).hexdigest()
    for version in RECORDED.values():
        assert version["builders"][model] == [len(native), digest]
    contents = sort_contents(WeightFile("a.ckpt", ckpt.NAME, dict.fromkeys(theirs, np.ones(1))))
    assert contents.scheme == "mindcv" and list(contents.weights) == native


@pytest.mark.parametrize("case", RECORDED["0.3.0"]["training"])
def test_training_checkpoints_of_mindcv_give_their_weights(case, blocks):
    first, later, outside = blocks["y"]
    native = outside + [f"stages.{s}.blocks.0.{name}" for s in range(2) for name in first]
    native += [f"stages.1.blocks.1.{name}" for name in later]
    names = {name: MINDCV.from_native(name, True) for name in native}
    statistics = [name for name in native if "moving_" in name]
    trained = [name for name in native if name not in statistics]
    for version in RECORDED.values():
        prefixes, alone = version["training"][case]
        tensors = dict.fromkeys(alone, np.ones(1))
        for number, (prefix, count) in enumerate(prefixes.items()):
            kind = {50: trained, 24: statistics, 74: native}[count]
            tensors |= {f"{prefix}{names[name]}": np.full(1, number) for name in kind}
        contents = sort_contents(WeightFile("a.ckpt", ckpt.NAME, tensors), native)
        assert set(contents.weights) == set(native)
        raw = "optimizer." if "optimizer." in prefixes else ""
        assert contents.weights["head.fc.bias"] == tensors[f"{raw}head.fc.bias"]
        assert contents.weights["stem.bn.moving_mean"] == tensors["stem.bn.moving_mean"]
        if "ema." in prefixes:
            averaged = sort_contents(WeightFile("a.ckpt", ckpt.NAME, tensors), native, ema=True)
            ema = list(prefixes).index("ema.")
            assert set(averaged.weights) == set(native)
            assert all(value == ema for value in averaged.weights.values())


@pytest.mark.parametrize("wraps", [False, True])
def test_a_whole_train_step_of_ours_gives_its_weights(tmp_path, wraps):
    network = RegNet(w_a=9.0, w_0=24, w_m=2.0, d=3, group_w=8, num_classes=5, drop_rate=0.1)
    names = {p.name for p in network.get_parameters()}
    optimizer = create_optimizer(network, "nadam", lr=[0.1, 0.2])
    loss = nn.WithLossCell(network, nn.CrossEntropyLoss())
    options = {"ema": True, "clip_grad": True, "gradient_accumulation_steps": 2} if wraps else {}
    step = TrainStep(loss, optimizer, nn.DynamicLossScaleUpdateCell(2, 2, 1000), **options)
    ms.save_checkpoint(step, str(tmp_path / "step.ckpt"))
    assert len(ms.load_checkpoint(str(tmp_path / "step.ckpt"))) > 2 * len(names)
    for ema in (False, True)[: 1 + wraps]:
        assert load_weights(network, tmp_path / "step.ckpt", ema=ema).loaded == len(names)


def test_mindspores_own_loader_needs_native_names_and_ours_takes_both(tmp_path):
    network = create_model("regnet_x_200mf")
    native = {p.name: np.full(p.shape, 0.5, np.float32) for p in network.get_parameters()}
    theirs, ours = tmp_path / "theirs.ckpt", tmp_path / "ours.ckpt"
    write_weights(theirs, native, names="mindcv")
    missing, _ = ms.load_param_into_net(network, ms.load_checkpoint(str(theirs)))
    assert len(native) - len(missing) == 7 and len(native) == 222  # as docs/from_mindcv.md says
    assert load_weights(network, theirs).loaded == 222
    parameters = ms.load_checkpoint(str(theirs))
    for name in ("head.fc.weight", "head.fc.bias"):  # as fine-tuning scripts do
        del parameters[name]
    report = load_weights(network, parameters)
    assert report.loaded == 220 and set(report.reinitialized) == {"head.fc.weight", "head.fc.bias"}
    with pytest.raises(WeightsError, match="2 missing"):
        load_weights(network, parameters, new_head=False)
    with pytest.raises(WeightsError, match="'given as parameters' does not fit"):
        load_weights(network, {name: parameters[name] for name in list(parameters)[:-1]})
    main(["convert", str(theirs), str(ours)])
    assert ms.load_param_into_net(network, ms.load_checkpoint(str(ours)))[0] == []
    write_weights(ours, native, Metadata("regnet_x_200mf"))
    report = load_weights(network, ms.load_checkpoint(str(ours)))
    assert report.loaded == 222 and report.set_aside == ()


def resumed(opt: str, path: Path, before: str = ""):
    """Return parameters and an optimizer that starts from MindCV's state after two steps."""
    state = {name: STATES[name] for name in STATES.files if name.startswith(f"{opt}/")}
    tensors = {
        f"{before}{name.split('/')[1]}": a for name, a in state.items() if "after" not in name
    }
    with path.open("wb") as stream:
        ckpt.write(stream, tensors)
    weights = {
        MINDCV.to_native(name.split("/")[2])[1]: value
        for name, value in state.items()
        if "/after/" in name
    }
    parameters = [ms.Parameter(np.zeros_like(value), name=name) for name, value in weights.items()]
    start = {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-10}
    optimizer = create_optimizer(parameters, opt, checkpoint_path=str(path), **start)
    return parameters, optimizer, list(weights.values())


CONTINUED = "sgd momentum adam adamw lion nadam rmsprop adagrad".split()


@pytest.mark.parametrize(
    ("opt", "before"), [*((opt, "") for opt in CONTINUED), ("adam", "optimizer.")]
)
def test_mindcvs_optimizer_file_continues_its_run(tmp_path, opt, before):
    """`optim_<model>.ckpt`; with gradient accumulation its names have a prefix."""
    parameters, optimizer, expected = resumed(opt, tmp_path / "optim_net.ckpt", before)
    rng = np.random.default_rng(2)
    optimizer(tuple(ms.Tensor(rng.normal(size=p.shape), ms.float32) for p in parameters))
    for parameter, after in zip(parameters, expected):
        np.testing.assert_allclose(parameter.asnumpy(), after, rtol=0, atol=2e-6)


def test_state_that_means_something_else_is_refused_and_changes_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"no entry for \d+ of the optimizer's .*difference"):
        resumed("adan", tmp_path / "optim_net.ckpt")

"""Weight files: everything fits and is loaded, or nothing is and the error says why."""

import mindspore as ms
import numpy as np
import pytest
from golden.fill import fill
from mindspore import nn
from weight_files import equal, known_weights, refused, rewrite, state

from mindcv.errors import WeightsError
from mindcv.models import RegNet, create_model, load_weights
from mindcv.optim import create_optimizer
from mindcv.weights import Metadata, has_averages, read_weights, write_weights


def regnet(num_classes: int = 10, **options) -> RegNet:
    """Build a RegNet Y of seven blocks: 2, 3 and 2 in its stages."""
    options = {"w_a": 9.0, "w_0": 24, "w_m": 2.0, "d": 7, "group_w": 8, "se_r": 0.25} | options
    return RegNet(num_classes=num_classes, **options)


def write(path, entries: dict) -> str:
    ms.save_checkpoint([{"name": k, "data": ms.Tensor(v)} for k, v in entries.items()], str(path))
    return str(path)


def mindcv_names(network: RegNet) -> dict[str, str]:
    """Return our name of every parameter -> MindCV's, from the place of its block."""
    names = {p.name: p.name for p in network.get_parameters()}
    for s, stage in enumerate(network.stages):
        for b in range(len(stage.blocks)):
            ours = f"stages.{s}.blocks.{b}."
            theirs = f"0.blocks.{b}." if s == 0 else f"0.blocks.{s}.blocks.{b}."
            names.update({n: theirs + n[len(ours) :] for n in names if n.startswith(ours)})
    return names


def record_ends(content: bytes) -> list[int]:
    """Return where each tensor's record ends in a checkpoint (protobuf, field 1 repeated)."""
    ends, at = [], 0
    while at < len(content):
        assert content[at] == 0x0A
        at, size, shift = at + 1, 0, 0
        while True:
            byte, at = content[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += size
        ends.append(at)
    return ends


@pytest.fixture(scope="module")
def network():
    """One network for all tests; each loads into it or finds it unchanged."""
    return regnet()


@pytest.fixture(scope="module")
def source():
    """One network whose weights others load; nobody changes them."""
    return regnet()


@pytest.fixture
def checkpoint(tmp_path, network):
    return write(tmp_path / "weights.ckpt", known_weights(network))


def test_a_saved_network_comes_back_bit_for_bit(tmp_path, log_lines):
    source, target = regnet(), regnet()
    for parameter in source.get_parameters():
        parameter.set_data(ms.Tensor(fill(parameter.name, parameter.shape)))
    ms.save_checkpoint(source, str(tmp_path / "a.ckpt"))
    report = load_weights(target, str(tmp_path / "a.ckpt"))
    assert equal(state(source), state(target))
    assert (report.loaded, report.set_aside, report.reinitialized) == (len(state(source)), (), ())
    assert log_lines == [
        f"loaded {report.loaded} tensors from {tmp_path / 'a.ckpt'}, native names; "
        "not verified, as the file has no checksum"
    ]


def test_create_model_takes_a_checkpoint(tmp_path):
    weights = known_weights(create_model("regnet_x_200mf", num_classes=3))
    path = write(tmp_path / "x.ckpt", weights)
    created = create_model("regnet_x_200mf", num_classes=3, checkpoint_path=path)
    assert equal(state(created), weights)


def test_weights_can_be_loaded_twice_and_in_half_precision(tmp_path, network, checkpoint):
    load_weights(network, checkpoint)
    halves = {k: v.astype(np.float16) for k, v in known_weights(network).items()}
    load_weights(network, write(tmp_path / "half.ckpt", halves))
    after = state(network)
    assert all(value.dtype == np.float32 for value in after.values())
    assert equal(after, {k: v.astype(np.float32) for k, v in halves.items()})


@pytest.mark.parametrize("name", ["foo.bin", "no_suffix", "a.ckpt.download", ".ckpt", "a b.ckpt"])
def test_the_file_name_says_nothing(tmp_path, network, name):
    weights = {k: v + 1 for k, v in known_weights(network).items()}
    content = tmp_path / "good.ckpt"
    write(content, weights)
    content.rename(tmp_path / name)
    load_weights(network, tmp_path / name)
    assert equal(state(network), weights)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_relative_path_works(tmp_path, network, checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.ckpt").rename(tmp_path / "weights")
    load_weights(network, "weights")
    assert equal(state(network), known_weights(network))


def test_mindcv_names_are_recognised(tmp_path, network):
    weights = {k: v - 1 for k, v in known_weights(network).items()}
    names = mindcv_names(network)
    assert names["stages.0.blocks.0.f.a.weight"] == "0.blocks.0.f.a.weight"
    assert names["stages.0.blocks.1.f.a.weight"] == "0.blocks.1.f.a.weight"
    assert names["stages.2.blocks.1.f.a.weight"] == "0.blocks.2.blocks.1.f.a.weight"
    assert len(set(names.values())) == len(names)
    path = write(tmp_path / "mindcv.ckpt", {names[k]: v for k, v in weights.items()})
    report = load_weights(network, path)
    assert equal(state(network), weights)
    assert report.set_aside == ()


@pytest.mark.parametrize("scheme", ["ours", "mindcv"])
def test_training_state_is_set_aside_and_ema_taken_on_demand(tmp_path, network, scheme, log_lines):
    weights = known_weights(network)
    names = mindcv_names(network) if scheme == "mindcv" else {k: k for k in weights}
    averaged = {p.name: fill(f"average.{p.name}", p.shape) for p in network.trainable_params()}
    scalars = ("learning_rate", "global_step", "momentum", "updates", "scale_sense")
    entries = {names[k]: v for k, v in weights.items()}
    entries |= {f"moments.{names[k]}": np.zeros_like(v) for k, v in averaged.items()}
    entries |= {f"ema.{names[k]}": v for k, v in averaged.items()}
    entries |= {name: np.float32(1) for name in scalars}
    path = write(tmp_path / "run.ckpt", entries)

    report = load_weights(network, path)
    assert equal(state(network), weights)
    assert report.loaded == len(weights)
    assert len(report.set_aside) == len(averaged) + len(scalars)  # averages are weights, too
    assert ": the raw weights; ema True takes the averaged ones; ignored" in log_lines[-1]
    assert f"ignored {len(report.set_aside)} entries" in log_lines[-1]

    for ema in (True, None):  # None: where there are such
        report = load_weights(network, path, ema=ema)
        assert equal(state(network), weights | averaged)  # running statistics have no average
        assert report.loaded == len(weights)
        assert ": the averaged weights; ema False takes the raw ones; ignored" in log_lines[-1]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: nn.SGD(p, 0.1, momentum=0.9),
        lambda p: nn.Momentum(p, [0.1, 0.2], 0.9),
        lambda p: nn.Adam(p, 0.1),
        lambda p: nn.AdamWeightDecay(p, 0.1),
        lambda p: nn.Lamb(p, 0.1),
        lambda p: nn.RMSProp(p, 0.1, centered=True),
        lambda p: nn.Adagrad(p),
        lambda p: create_optimizer(p, "nadam"),
        lambda p: create_optimizer(p, "adan"),
        lambda p: nn.Momentum(
            [{"params": p[:9], "weight_decay": 0.1}, {"params": p[9:]}], 0.1, 0.9
        ),
    ],
    ids="sgd momentum adam adamw lamb rmsprop adagrad nadam adan groups".split(),
)
def test_a_whole_training_step_of_any_optimizer_gives_its_weights(
    tmp_path, network, source, optimizer
):
    step = nn.TrainOneStepCell(
        nn.WithLossCell(source, nn.CrossEntropyLoss()), optimizer(source.trainable_params())
    )
    ms.save_checkpoint(step, str(tmp_path / "step.ckpt"))
    report = load_weights(network, str(tmp_path / "step.ckpt"))
    assert equal(state(network), state(source))
    assert report.loaded == len(state(source)) and report.set_aside


def test_averages_that_are_not_there_are_an_error(tmp_path, network, checkpoint):
    assert "ema" in refused(network, checkpoint, ema=True)
    assert "averaged" not in load_weights(network, checkpoint, ema=None).line


def test_averages_of_a_network_of_any_names_are_found(tmp_path):
    one = {"fc.weight": np.ones((2, 3), np.float32)}
    for beside, found in (("ema.fc.weight", True), ("moments.fc.weight", False)):
        path = write(tmp_path / "own.ckpt", one | {beside: one["fc.weight"]})
        assert has_averages(read_weights(path)) is found


def test_a_classifier_of_as_many_other_classes_is_left_fresh(tmp_path, network, log_lines):
    count = len(network.head.fc.bias)
    names = [f"class {number}" for number in range(count)]
    write_weights(
        tmp_path / "a.ckpt", known_weights(network), Metadata("x", count, 3, tuple(names))
    )
    others = [*names[:2], "another", *names[3:]]
    for here, fresh in ((names, 0), (None, 0), (others, 2)):
        report = load_weights(network, tmp_path / "a.ckpt", class_names=here)
        assert len(report.reinitialized) == fresh
    assert (
        f"re-initialised: {count} classes in the file, {count} here, of other names" in report.line
    )
    assert report.line.endswith("class 2 is 'class 2' there and 'another' here")


def test_averages_of_some_weights_only_are_an_error(tmp_path, network):
    weights = known_weights(network)
    averaged = {f"ema.{p.name}": weights[p.name] for p in network.trainable_params()}
    del averaged["ema.head.fc.weight"]
    message = refused(network, write(tmp_path / "a.ckpt", weights | averaged), ema=True)
    assert "1 missing from the file: head.fc.weight" in message


def test_another_number_of_classes_renews_the_head_only_and_says_so(tmp_path, source, log_lines):
    weights = known_weights(source)
    path = write(tmp_path / "ten.ckpt", weights)
    network = regnet(num_classes=4)
    before = state(network)
    report = load_weights(network, path)
    after = state(network)
    head = {"head.fc.weight", "head.fc.bias"}
    assert equal({k: after[k] for k in head}, {k: before[k] for k in head})
    body = set(after) - head
    assert equal({k: after[k] for k in body}, {k: weights[k] for k in body})
    assert set(report.reinitialized) == head and report.loaded == len(body)
    assert len(log_lines) == 1
    assert "classifier re-initialised: 10 classes in the file, 4 here" in log_lines[0]


def test_another_number_of_classes_is_an_error_where_the_head_must_fit(tmp_path, source):
    path = write(tmp_path / "ten.ckpt", known_weights(source))
    message = refused(regnet(num_classes=4), path, new_head=False)
    assert "2 of another shape" in message
    assert "head.fc.weight (10, 96) for (4, 96)" in message


def test_a_classifier_of_other_features_is_an_error_not_a_new_head(tmp_path, network):
    weights = known_weights(network)
    weights["head.fc.weight"] = np.zeros((10, 97), np.float32)
    assert "1 of another shape" in refused(network, write(tmp_path / "a.ckpt", weights))


def test_another_architecture_is_an_error_with_counts_and_names(tmp_path, network):
    other = regnet(se_r=0.0)
    path = write(tmp_path / "x.ckpt", known_weights(other))
    squeeze = 4 * 7
    message = refused(network, path)
    total = len(known_weights(network))
    assert f"{total - squeeze} tensors in the file, {total} in the model" in message
    assert f"{squeeze} missing from the file: stages.0.blocks.0.f.se.conv_reduce" in message
    path = write(tmp_path / "y.ckpt", known_weights(network))
    assert f"{squeeze} unknown to the model: stages.0.blocks.0.f.se" in refused(other, path)


def test_other_widths_and_depths_are_an_error(tmp_path, network):
    wider = write(tmp_path / "wider.ckpt", known_weights(regnet(w_0=32)))
    assert "of another shape: stages.0.blocks.0" in refused(network, wider)
    deeper = write(tmp_path / "deeper.ckpt", known_weights(regnet(d=8)))
    assert "unknown to the model" in refused(network, deeper)


def test_an_optimizers_file_is_no_network_and_that_is_said(tmp_path, network):
    trained = {p.name: p.asnumpy() for p in network.trainable_params()}
    state = {f"moments.{name}": value for name, value in trained.items()}
    message = refused(network, write(tmp_path / "optim_net.ckpt", trained | state))
    assert "missing from the file: stem.bn.moving_mean" in message
    assert "if this is an optimizer's file (optim_*.ckpt)" in message


def test_half_the_tensors_are_an_error(tmp_path, network):
    weights = known_weights(network)
    half = dict(list(weights.items())[: len(weights) // 2])
    message = refused(network, write(tmp_path / "half.ckpt", half))
    assert f"{len(weights) - len(half)} missing from the file" in message


def test_one_tensor_too_many_is_an_error(tmp_path, network):
    weights = known_weights(network) | {"stem.extra.weight": np.zeros(3, np.float32)}
    message = refused(network, write(tmp_path / "more.ckpt", weights))
    assert "1 unknown to the model: stem.extra.weight" in message
    entries = known_weights(network) | {"trunk_output.block1.block1-0.g.weight": np.zeros(1)}
    message = refused(network, write(tmp_path / "strange.ckpt", entries))
    assert "1 unknown to the model: trunk_output.block1.block1-0.g.weight" in message


def test_a_file_cut_anywhere_is_an_error(tmp_path, network, checkpoint):
    with open(checkpoint, "rb") as file:
        content = file.read()
    ends = record_ends(content)
    assert ends[-1] == len(content) and len(ends) == len(known_weights(network))
    at_boundaries = [ends[0], ends[1], ends[len(ends) // 2], ends[-2]]
    inside = [1, 10, 100, len(content) // 2, ends[3] + 1, ends[-2] + 1, len(content) - 1]
    path = tmp_path / "cut.ckpt"
    for size in at_boundaries + inside:
        rewrite(path, content[:size])
        message = refused(network, path)
        if size in at_boundaries:
            missing = len(ends) - ends.index(size) - 1
            assert f"{missing} missing from the file" in message


def test_a_web_page_saved_as_a_checkpoint_is_an_error(tmp_path, network):
    (tmp_path / "page.ckpt").write_bytes(b"<!DOCTYPE html>\n<html>404 Not Found</html>\n")
    assert "is a web page" in refused(network, tmp_path / "page.ckpt")


def test_no_file_a_directory_and_an_empty_file_are_errors(tmp_path, network):
    assert "does not exist" in refused(network, tmp_path / "none.ckpt")
    (tmp_path / "folder.ckpt").mkdir()
    assert "is a directory" in refused(network, tmp_path / "folder.ckpt")
    (tmp_path / "empty.ckpt").touch()
    assert "is empty" in refused(network, tmp_path / "empty.ckpt")
    (tmp_path / "dangling.ckpt").symlink_to(tmp_path / "gone.ckpt")
    assert "does not exist" in refused(network, tmp_path / "dangling.ckpt")


def test_a_model_of_wrong_weights_is_not_created(tmp_path, checkpoint):
    with pytest.raises(WeightsError):
        create_model("regnet_x_200mf", checkpoint_path=checkpoint)

"""`mindcv.utils` has MindCV's names, parameters and figures; see golden/make_mindcv_utils.py."""

import hashlib
import io
import json
import logging
import random
import re
import tarfile
import zipfile
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from conftest import parameters_of
from mindspore import Tensor, nn, ops
from utils_cases import TRAININGS, Net, dataset, train, trainer_of

from mindcv import create_loss, create_optimizer, utils
from mindcv.errors import ConfigError, DataError
from mindcv.process import archives
from mindcv.process import download as process_download
from mindcv.process.archives import DownloadError
from mindcv.utils import start

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden/mindcv_utils.json").read_text(encoding="utf-8")
)
# Part of how MindCV's class works, which no script calls.
INTERNAL = {"TrainStep.ema_update"}


@pytest.fixture
def pynative_mode():
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("name", sorted(set(GOLDEN["interface"]) - INTERNAL))
def test_a_name_takes_mindcvs_arguments_in_its_order(name):
    function = utils
    for part in name.split("."):
        function = getattr(function, part)
    ours = parameters_of(function)
    for own, (theirs, *default) in zip(ours, GOLDEN["interface"][name], strict=True):
        assert own.name == theirs
        if default:
            assert repr(own.default) == default[0]


@pytest.mark.parametrize("options", GOLDEN["trainings"])
def test_a_trainer_learns_what_mindcvs_learns(options, pynative_mode):
    found, expected = train(utils, TRAININGS[options]), GOLDEN["trainings"][options]
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(("earlier", "batches"), [(1, 2), (2, 2), (4, 2), (2, 1)])
def test_an_accumulated_update_takes_the_rate_of_its_last_batch(earlier, batches, pynative_mode):
    """MindCV's optimizer counts updates, and never reaches the second half of its schedule.

    An earlier trainer of the same optimizer changes nothing.
    """
    network = Net()
    rates = [0.0, 0.5, 0.0, 0.25]
    optimizer = nn.Momentum(network.trainable_params(), rates, 0.0)
    names = [parameter.name for parameter in optimizer.get_parameters()]
    for steps in (earlier, batches):
        loss = nn.WithLossCell(network, nn.CrossEntropyLoss())
        step = utils.TrainStep(loss, optimizer, gradient_accumulation_steps=steps)
    assert [parameter.name for parameter in optimizer.get_parameters()] == names
    batch = next(dataset().create_tuple_iterator())
    moved = []
    for _ in rates:
        before = network.second.bias.asnumpy().copy()
        gradient = ops.grad(step.network, None, optimizer.parameters)(*batch)[3].asnumpy()
        step(*batch)
        moved.append((before - network.second.bias.asnumpy()) / gradient)
    np.testing.assert_allclose(np.mean(moved, 1), rates, atol=1e-4)


def test_the_average_moves_once_an_update(pynative_mode):
    """MindCV's moves once a batch, also while the weights stand still."""
    trainer, network = trainer_of(utils, {"ema": True, "gradient_accumulation_steps": 2})
    moved = []
    for batch in [*dataset().create_tuple_iterator()] * 2:
        trainer.train_network(*batch)
        moved.append(float(trainer.train_network.average.updates.asnumpy()))
    assert moved == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("scale", "mode"), [("fixed", ms.GRAPH_MODE), ("dynamic", ms.PYNATIVE_MODE)]
)
def test_a_bad_batch_changes_nothing_on_a_cpu_either(scale, mode):
    ms.set_context(mode=mode)
    options = {"loss_scale_type": scale, "loss_scale": 8.0, "drop_overflow_update": True}
    trainer, network = trainer_of(utils, options)
    before = network.second.weight.asnumpy().copy()
    bad = Tensor(np.full((4, 12), np.inf), ms.float32)
    trainer.train_network(bad, Tensor([0, 1, 2, 3], ms.int32))
    np.testing.assert_array_equal(network.second.weight.asnumpy(), before)
    trainer.train_network(*next(dataset().create_tuple_iterator()))
    assert not np.array_equal(network.second.weight.asnumpy(), before)


def test_gradients_are_accumulated_and_reduced_once_an_update(pynative_mode):
    network, reduced = Net(), []
    loss = nn.WithLossCell(network, nn.CrossEntropyLoss())
    optimizer = nn.SGD(network.trainable_params(), 0.5)
    accumulate = utils.GradientAccumulation(
        2, optimizer, lambda sums: reduced.append(len(sums)) or sums
    )
    differentiate = ms.value_and_grad(loss, None, optimizer.parameters)
    before, own = network.second.bias.asnumpy().copy(), []
    for batch in list(dataset().create_tuple_iterator())[:2]:
        np.testing.assert_array_equal(network.second.bias.asnumpy(), before)
        value, gradients = differentiate(*batch)
        own.append(gradients[3].asnumpy().copy())
        assert float(accumulate(value, gradients).asnumpy()) == float(value.asnumpy())
    np.testing.assert_allclose(
        network.second.bias.asnumpy(), before - 0.5 * np.mean(own, 0), rtol=1e-5, atol=1e-7
    )
    assert reduced == [4]


def test_a_dynamic_scale_keeps_the_callers_factor_and_window(pynative_mode):
    network = Net()
    scale = nn.DynamicLossScaleUpdateCell(16.0, 4, 2)
    optimizer = nn.SGD(network.trainable_params(), 0.1)
    step = utils.TrainStep(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer, scale)
    for _ in range(2):
        step(*next(dataset().create_tuple_iterator()))
    assert float(step.step.scaler.scale_value.asnumpy()) == 64.0
    with pytest.raises(ValueError, match="scale_factor 1.5 must be a whole number"):
        scale = nn.DynamicLossScaleUpdateCell(16.0, 1.5, 2)
        utils.TrainStep(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer, scale)


@pytest.mark.parametrize(
    ("mode", "ranks"), [("data_parallel", 2), ("hybrid_parallel", 2), ("stand_alone", 1)]
)
def test_gradients_are_averaged_in_each_mode_that_splits_the_data(mode, ranks, monkeypatch):
    context = {"parallel_mode": mode, "device_num": 2}
    monkeypatch.setattr(ms, "get_auto_parallel_context", context.get)
    assert utils.trainer._world_size() == ranks


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss_scale": 0.5}, "loss_scale 0.5 must be at least 1"),
        ({"loss_scale_type": "dynamic"}, "set drop_overflow_update True"),
        ({"loss_scale_type": "other"}, "loss_scale_type 'other'"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps 0"),
        ({"amp_level": "O1", "amp_cast_list": "[nn.Convv]"}, "no layer 'nn.Convv'"),
        ({"amp_level": "O0", "amp_cast_list": "[nn.Dense]"}, "amp_level O0 takes no list"),
        ({"amp_level": "O3", "amp_cast_list": "[nn.Dense]"}, "amp_level O3 takes no list"),
        ({"amp_level": "auto", "amp_cast_list": "[nn.Dense]"}, "amp_level auto takes no list"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        trainer_of(utils, options)


def test_a_cast_list_is_read_without_evaluating_it(pynative_mode):
    network = Net()
    mixed = utils.auto_mixed_precision(network, "O1", "[nn.Dense]")
    logits = mixed(Tensor(np.ones((1, 12)) / 3, ms.float32)).asnumpy()
    exact = Net()(Tensor(np.ones((1, 12)) / 3, ms.float32)).asnumpy()
    assert not np.array_equal(logits, exact)
    np.testing.assert_allclose(logits, exact, atol=0.01)
    with pytest.raises(ConfigError, match="has no layer 'exit'"):
        utils.auto_mixed_precision(network, "O1", "[exit(1)]")


def test_a_functional_loop_trains_with_our_factories():
    """The second of MindCV's ways: value_and_grad, a loss scaler, and the optimizer as a cell."""
    ms.set_context(mode=ms.GRAPH_MODE)
    network, loss = Net(), create_loss("CE", label_smoothing=0.1)
    optimizer = create_optimizer(network.trainable_params(), "momentum", lr=[0.5, 0.25, 0.125])
    scaler = ms.amp.StaticLossScaler(64.0)

    def forward(image, label):
        logits = network(image)
        return scaler.scale(loss(logits, label)), logits

    differentiate = ms.value_and_grad(forward, None, optimizer.parameters, has_aux=True)
    same = Net()
    best = create_optimizer(same, "momentum", lr=[0.5, 0.25, 0.125])
    step = utils.TrainStep(nn.WithLossCell(same, loss), best, 64.0)
    for batch in dataset().create_tuple_iterator():
        (scaled, _), gradients = differentiate(*batch)
        optimizer(scaler.unscale(gradients))
        expected = float(scaler.unscale(scaled).asnumpy())
        assert float(step(*batch).asnumpy()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("key", GOLDEN["drawn"])
def test_a_seed_draws_what_it_draws_in_mindcv(key):
    utils.set_seed(*map(int, key.split()))
    found = [random.random(), float(np.random.rand()), ms.get_seed()]
    assert found == pytest.approx(GOLDEN["drawn"][key], rel=1e-6)


def test_modules_are_attributes_as_in_mindcv():
    assert utils.random.set_seed is utils.set_seed
    assert utils.trainer_factory.create_trainer is utils.create_trainer
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(utils, "no_such_name")  # noqa: B009 (the name stands in the message)


def test_small_tables_are_mindcvs():
    for name, kinds in GOLDEN["file_types"].items():
        assert list(utils.detect_file_type(name)) == kinds
    for name in ("a.txt", "a", "a.tar.txt"):
        with pytest.raises(RuntimeError, match="no archive"):
            utils.detect_file_type(name)
    for count, names in GOLDEN["metrics"].items():
        assert list(utils.get_metrics(int(count))) == names
    assert not utils.require_customized_train_step()
    for options in ({"ema": True}, {"clip_grad": True}, {"gradient_accumulation_steps": 2}):
        assert utils.require_customized_train_step(**options) is True


def test_a_logger_writes_to_the_terminal_and_to_a_file_of_its_rank(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(start, "_set_up", {})
    for rank in (0, 1):
        logger = utils.set_logger(f"own{rank}", str(tmp_path / "log"), rank, color=False)
        assert utils.set_logger(f"own{rank}") is logger and not logger.propagate
        logger.info("loss %.1f", 0.5)
        logger.debug("not shown")
        (line,) = (tmp_path / f"log/rank{rank}.log").read_text(encoding="utf-8").splitlines()
        assert line.endswith(f"own{rank} INFO - loss 0.5") and line.startswith("[20")
        assert len(logger.handlers) == 2 - rank
    assert capsys.readouterr().out.count("loss 0.5") == 1
    with pytest.raises(ConfigError, match="rank0.log cannot be written"):
        utils.set_logger("refused", str(tmp_path / "log/rank0.log"))
    assert "refused" not in start._set_up


def test_levels_have_colors_on_a_terminal_only(monkeypatch):
    record = logging.LogRecord("own", logging.WARNING, "", 0, "text", None, None)
    lines = start._ColoredLines(start._FORMAT)
    assert "\033" not in lines.format(record)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\033[33mWARNING\033[0m - text" in lines.format(record)


def test_whole_numbers_are_added_up_exactly(monkeypatch):
    """Two ranks with the same numbers; MindSpore's CPU backend adds up float32 only."""
    total = utils.AllReduceSum()
    monkeypatch.setattr(total, "all_reduce", lambda x: x + x)
    for values, kind in (([1281167, -5, 2**29], ms.int32), ([2**38 + 1], ms.int64)):
        found = total.construct(Tensor(values, kind))
        assert found.dtype == kind and found.asnumpy().tolist() == [2 * one for one in values]
    assert total.construct(Tensor(7, ms.int32)).shape == ()
    assert float(total.construct(Tensor(0.25)).asnumpy()) == 0.5


@pytest.mark.parametrize("has_filter", [True, False])
def test_archives_are_unpacked_and_none_leaves_its_folder(tmp_path, monkeypatch, has_filter):
    """Also by the first releases of Python 3.10 and 3.11, whose tarfile has no filter."""
    if not has_filter:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        monkeypatch.setattr(archives, "_Unsafe", ValueError)
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    for name, kind in (("x.tar.gz", "w:gz"), ("x.tar", "w"), ("x.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, kind) as archive:
            archive.add(tmp_path / "a.txt", "inside/a.txt")
        folder = utils.DownLoad().extract_archive(str(tmp_path / name), str(tmp_path / f"{name}.d"))
        assert Path(folder, "inside/a.txt").read_text(encoding="utf-8") == "text"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../b.txt", "text")
    utils.DownLoad().extract_archive(str(tmp_path / "x.zip"), str(tmp_path / "zip/inside"))
    assert not (tmp_path / "zip/b.txt").exists()
    outside, link = tarfile.TarInfo("../../out.txt"), tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    for member in (outside, link):
        with tarfile.open(tmp_path / "bad.tar", "w") as archive:
            archive.addfile(member, io.BytesIO())
        with pytest.raises(DataError, match="bad.tar is not safe to unpack"):
            utils.DownLoad().extract_archive(str(tmp_path / "bad.tar"), str(tmp_path / "deep/er"))
        assert not (tmp_path / "out.txt").exists()
        assert not (tmp_path / "deep/er/link").is_symlink()


URL = "https://x.invalid/set.bin"


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def unreachable(*_):
    raise process_download.Failure("nobody answers", again=False)


def test_a_file_that_is_there_is_not_fetched_and_plain_http_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "set.bin"
    file.write_bytes(b"content")
    utils.DownLoad().download_url(URL, str(tmp_path), md5=md5_of(b"content"))
    assert file.read_bytes() == b"content"
    with pytest.raises(DownloadError, match="the address is not https; fetch it by other means"):
        utils.DownLoad().download_url("http://x.invalid/other.bin", str(tmp_path))
    monkeypatch.setenv("MINDCV_OFFLINE", "1")
    with pytest.raises(OSError, match="MINDCV_OFFLINE is set"):
        utils.DownLoad().download_and_extract_archive("https://x.invalid/o.zip", str(tmp_path))


@pytest.mark.parametrize("refusal", ["http", "offline", "unreachable"])
def test_a_refused_download_leaves_the_file_that_is_there(tmp_path, monkeypatch, refusal):
    file, scheme = tmp_path / "set.bin", "http" if refusal == "http" else "https"
    file.write_bytes(b"mine")
    monkeypatch.setenv("MINDCV_OFFLINE", "01"[refusal == "offline"])
    monkeypatch.setattr(process_download, "_transfer", unreachable)
    url, mine, theirs = f"{scheme}://x.invalid/set.bin", md5_of(b"mine"), md5_of(b"theirs")
    with pytest.raises(DownloadError, match="cannot be fetched"):
        utils.DownLoad().download_file(url, str(file))
    told = f"{file} is another file, its md5 is {mine}, not {theirs}; {url} cannot be fetched"
    with pytest.raises(DownloadError, match=re.escape(told)):
        utils.DownLoad().download_url(url, str(tmp_path), md5=theirs)
    assert file.read_bytes() == b"mine"
    utils.DownLoad().download_url(url, str(tmp_path), md5=mine.upper())


def test_a_file_of_another_hash_is_replaced_by_the_right_one_only(tmp_path, monkeypatch):
    file = tmp_path / "set.bin"
    file.write_bytes(b"old")

    def transfer(client, url, part, size):
        part.write_bytes(b"new")
        return False

    monkeypatch.delenv("MINDCV_OFFLINE", raising=False)
    monkeypatch.setattr(process_download, "_transfer", transfer)
    with pytest.raises(DownloadError, match=f"cannot be fetched: its md5 is {md5_of(b'new')}"):
        utils.DownLoad().download_url(URL, str(tmp_path), md5=md5_of(b"right"))
    assert file.read_bytes() == b"old"
    utils.DownLoad().download_url(URL, str(tmp_path), md5=md5_of(b"new"))
    assert file.read_bytes() == b"new"
    file.write_bytes(b"old")
    utils.DownLoad().download_file(URL, str(file))
    assert file.read_bytes() == b"new"

"""MindCV's `StateMonitor` and `CheckpointManager`; see golden/make_mindcv_utils.py."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from conftest import ROOT
from mindspore import Tensor, nn
from utils_cases import Net, dataset, kept, monitored, trainer_of

from mindcv import utils
from mindcv.errors import NonFiniteLossError
from mindcv.utils import callbacks

GOLDEN = json.loads((ROOT / "tests/golden/mindcv_utils.json").read_text(encoding="utf-8"))


@pytest.fixture
def pynative_mode():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def test_the_monitor_leaves_mindcvs_files_and_figures(tmp_path, pynative_mode):
    found, expected = monitored(utils, tmp_path / "run"), dict(GOLDEN["monitored"])
    np.testing.assert_allclose(found.pop("rows"), expected.pop("rows"), atol=2e-6)
    assert found == expected
    assert list((tmp_path / "run/summary").iterdir())


def test_the_monitor_evaluates_averaged_weights_and_counts_on(tmp_path, log_lines, pynative_mode):
    trainer, network = trainer_of(utils, {"ema": True, "ema_decay": 0.5})
    monitor = utils.StateMonitor(
        trainer,
        "net",
        model_ema=True,
        last_epoch=3,
        dataset_val=dataset(seed=1),
        metric_name=["Top_1_Accuracy"],
        ckpt_save_dir=str(tmp_path),
        summary_dir=str(tmp_path / "summary"),
        log_interval=2,
    )
    seen = []
    monitor.model = ModelSpy(lambda: seen.append(network.second.weight.asnumpy().copy()))
    trainer.train(1, dataset(), callbacks=[monitor], dataset_sink_mode=False)
    average = trainer.train_network.average
    (kept,) = [one for one in average.averages if one.name == "ema.second.weight"]
    np.testing.assert_array_equal(seen[0], kept.asnumpy())
    assert not np.array_equal(network.second.weight.asnumpy(), seen[0])
    assert (tmp_path / "net-4_3.ckpt").exists()
    batches = [line.split("batch: ")[1][:5] for line in log_lines if line.startswith("Epoch: [4/")]
    assert batches == ["[1/3]", "[2/3]", "[3/3]"]


class ModelSpy:
    def __init__(self, look):
        self.look = look

    def eval(self, *args, **kwargs):
        self.look()
        return {"Top_1_Accuracy": 0.5}


def test_the_accuracy_of_several_ranks_counts_every_image_once(tmp_path, monkeypatch):
    """Rank 0 has 1 of 1 right, rank 1 has 1 of 3: 2 of 4, where MindCV's mean is 2/3."""
    monkeypatch.setattr(callbacks, "AllReduceSum", lambda: lambda own: own + Tensor([1.0, 3.0]))
    monitor = utils.StateMonitor(
        None, rank_id=0, device_num=2, ckpt_save_dir=str(tmp_path), metric_name=["Top_1_Accuracy"]
    )

    def evaluate(counted):
        counted.images = 1
        return np.array([1.0], np.float32)

    monitor._evaluate = evaluate
    np.testing.assert_array_equal(monitor.apply_eval(None), [0.5])


def test_one_process_evaluates_a_network_with_any_outputs(tmp_path, pynative_mode):
    class Evaluation(nn.Cell):
        def construct(self, image, label):
            return image[:, :6], label, image.mean()  # MindSpore's own end with the labels

    model = ms.Model(
        Net(), eval_network=Evaluation(), metrics=utils.get_metrics(4), eval_indexes=[2, 0, 1]
    )
    monitor = utils.StateMonitor(model, dataset_val=dataset(), ckpt_save_dir=str(tmp_path))
    (image, label) = next(dataset(12).batch(3).create_tuple_iterator(output_numpy=True))
    right = image.reshape(12, 12)[:, :6].argmax(1) == label.ravel()
    np.testing.assert_allclose(monitor.apply_eval(None), [right.mean()], rtol=1e-6)


@pytest.mark.parametrize("policy", ["top_k", "latest_k"])
def test_a_path_that_is_saved_again_is_kept_and_counts_once(policy, tmp_path):
    manager, network, path = utils.CheckpointManager(policy), Net(), tmp_path / "net.ckpt"
    for number in range(3):
        network.second.bias.set_data(Tensor(np.full(6, number), ms.float32))
        manager.save_ckpoint(network, num_ckpt=1, metric=number, save_path=str(path))
        assert manager.ckpoint_num == 1
        assert ms.load_checkpoint(str(path))["second.bias"].asnumpy()[0] == number


@pytest.mark.parametrize("policy", ["top_k", "latest_k"])
def test_a_policy_keeps_the_files_that_mindcv_keeps(policy, tmp_path):
    assert kept(utils, policy, tmp_path) == GOLDEN["kept"][policy]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == set(GOLDEN["kept"][policy][-1])
    manager = utils.CheckpointManager(policy)
    manager.update_ckpoint_filelist(str(tmp_path), policy)
    assert {Path(path).name for path in manager.ckpoint_filelist} == left


def test_weights_that_are_not_finite_replace_no_file(tmp_path):
    network, path = Net(), tmp_path / "net.ckpt"
    manager = utils.CheckpointManager()
    manager.save_ckpoint(network, save_path=str(path))
    before = path.read_bytes()
    network.second.bias.set_data(Tensor(np.full(6, np.nan), ms.float32))
    with pytest.raises(NonFiniteLossError, match="e.g. second.bias, so .*net.ckpt is not written"):
        manager.save_ckpoint(network, save_path=str(path))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["net.ckpt"]

"""Both of MindCV's loops, `Model.train` with callbacks and a functional one, with our factories."""

import json

import mindspore as ms
import numpy as np
import pytest
from conftest import ROOT, launcher, run_command
from mindspore import Tensor
from utils_cases import Losses, train

from mindcv import (
    create_dataset,
    create_loader,
    create_loss,
    create_optimizer,
    create_scheduler,
    create_transforms,
    utils,
)
from mindcv.models import RegNet, load_weights

EPOCHS, CLASSES = 2, 6


@pytest.fixture(autouse=True)
def pynative_mode():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def network() -> RegNet:
    net, rng = RegNet(8, 8, 2.0, 3, 8, num_classes=CLASSES), np.random.default_rng(0)
    for parameter in net.trainable_params():
        if parameter.ndim > 1:
            values = rng.standard_normal(parameter.shape) / np.sqrt(np.prod(parameter.shape[1:]))
            parameter.set_data(Tensor(values, ms.float32))
    return net


def loader(folder, split: str):
    """Return batches of 8 images in the order of the files, none of them changed at random."""
    rows = create_dataset("", str(folder), split, shuffle=False, num_parallel_workers=1)
    transforms = create_transforms("", 32, is_training=False)
    return create_loader(rows, 8, transform=transforms, num_parallel_workers=1)


def parts(net: RegNet, steps: int) -> tuple:
    rates = create_scheduler(
        steps, "cosine_decay", lr=0.02, warmup_epochs=1, decay_epochs=1, num_epochs=EPOCHS
    )
    optimizer = create_optimizer(net, "momentum", lr=rates, weight_decay=1e-3)
    return create_loss("CE", label_smoothing=0.1), optimizer


def by_model(folder, run_folder) -> tuple[list[float], RegNet]:
    net, batches = network(), loader(folder, "train")
    loss, optimizer = parts(net, batches.get_dataset_size())
    metrics = utils.get_metrics(CLASSES)
    trainer = utils.create_trainer(
        net, loss, optimizer, metrics, amp_level="O0", amp_cast_list=None, loss_scale_type="fixed"
    )
    monitor = utils.StateMonitor(
        trainer,
        "net",
        dataset_sink_mode=False,
        dataset_val=loader(folder, "val"),
        metric_name=list(metrics),
        ckpt_save_dir=str(run_folder),
        summary_dir=str(run_folder / "summary"),
    )
    losses = Losses()
    trainer.train(EPOCHS, batches, callbacks=[monitor, losses], dataset_sink_mode=False)
    return losses.found, net


def by_function(folder) -> tuple[list[float], RegNet]:
    net, batches = network().set_train(), loader(folder, "train")
    loss, optimizer = parts(net, batches.get_dataset_size())

    def forward(image, label):
        logits = net(image)
        return loss(logits, label), logits

    differentiate = ms.value_and_grad(forward, None, optimizer.parameters, has_aux=True)
    losses = []
    for _ in range(EPOCHS):
        for image, label in batches.create_tuple_iterator():
            (value, _), gradients = differentiate(image, label)
            optimizer(gradients)
            losses.append(float(value.asnumpy()))
    return losses, net


def test_both_loops_learn_the_same_and_leave_weights_that_load(image_folder, tmp_path):
    losses, trained = by_model(image_folder, tmp_path)
    others, same = by_function(image_folder)
    assert len(losses) == 12
    np.testing.assert_allclose(losses, others, rtol=1e-4)
    assert np.mean(losses[6:]) < np.mean(losses[:6])
    loaded = network()
    load_weights(loaded, str(tmp_path / "net-2_6.ckpt"))
    image = next(loader(image_folder, "val").create_tuple_iterator())[0]
    logits = [net.set_train(False)(image).asnumpy() for net in (trained, same, loaded)]
    np.testing.assert_array_equal(logits[0], logits[2])
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-3, atol=1e-3)
    rows = (tmp_path / "result.log").read_text(encoding="utf-8").splitlines()
    right = sum(
        int((trained(batch).asnumpy().argmax(1) == label.asnumpy()).sum())
        for batch, label in loader(image_folder, "val").create_tuple_iterator()
    )
    assert rows[-1].split()[2] == f"{right / 11:.4%}"


# Each rank trains on its half of every batch, as MindCV's scripts set it up.
RANK = """
import json, sys
import mindspore as ms
from mindspore import Tensor
from mindspore.communication import get_group_size, get_rank, init
sys.path.insert(0, sys.argv[1])
import utils_cases
from mindcv import utils

init()
rank, ranks = get_rank(), get_group_size()
ms.set_auto_parallel_context(
    device_num=ranks, parallel_mode="data_parallel", gradients_mean=True
)
ms.set_context(mode=ms.GRAPH_MODE)
whole = utils_cases.dataset
utils_cases.dataset = lambda count=12, seed=0: whole(count, seed, rank, ranks)
found = utils_cases.train(utils, {"clip_grad": True, "clip_value": 0.05})
found["sum"] = int(utils.AllReduceSum()(Tensor(1281167 + rank, ms.int32)))
with open(f"{sys.argv[2]}/{rank}.json", "w") as file:
    json.dump(found, file)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
def test_two_ranks_learn_what_one_process_learns(tmp_path):
    """MindCV's clipping of each rank's own gradient learns something else."""
    script = tmp_path / "rank.py"
    script.write_text(RANK, encoding="utf-8")
    done = run_command(
        script,
        *(ROOT / "tests/golden", tmp_path),
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        launcher=launcher(2),
    )
    assert done.returncode == 0, (tmp_path / "worker_0.log").read_text(errors="replace")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["weights"] == second["weights"]
    assert first["sum"] == second["sum"] == 2 * 1281167 + 1
    alone = train(utils, {"clip_grad": True, "clip_value": 0.05})
    np.testing.assert_allclose(first["weights"], alone["weights"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-5)  # of all ranks

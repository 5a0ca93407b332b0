"""Both of MindCV's loops, `Model.train` with callbacks and a functional one, with our factories."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from utils_cases import Losses

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

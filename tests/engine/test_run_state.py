"""What a run depends on is saved whole, put back to the last bit, and compared before."""

import itertools
import os
import signal
import types
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindcv import create_loss, create_optimizer, engine
from mindcv.checkpoint import CheckpointWriter, Position
from mindcv.config import Config, describe_config
from mindcv.config.continuation import check_unchanged
from mindcv.engine.replaced_layers import count_dropout
from mindcv.errors import ConfigError, DataError, WeightsError
from mindcv.optim import OPTIMIZERS
from mindcv.process.signals import StopSignal
from mindcv.weights import Metadata

RUNTIME = engine.Runtime("CPU", 0, "O1", 0, 1)


pytestmark = pytest.mark.usefixtures("pynative_mode")


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Dense(12, 8), nn.Dense(8, 5)
        self.dropout = nn.Dropout(p=0.3)
        rng = np.random.default_rng(0)
        for parameter in self.get_parameters():
            parameter.set_data(Tensor(rng.standard_normal(parameter.shape) / 3, ms.float32))

    def construct(self, x):
        return self.second(self.dropout(ops.tanh(self.first(x))))


def batches(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (
            Tensor(rng.standard_normal((4, 12)), ms.float32),
            Tensor(rng.integers(0, 5, 4), ms.int32),
        )
        for _ in range(count)
    ]


def build(opt="momentum", **options) -> tuple[engine.TrainStep, engine.RunState]:
    network = Net()
    count = count_dropout(network, seed=3)
    rates = [0.1 / (step + 1) for step in range(20)]
    optimizer = create_optimizer(network, opt, lr=rates, weight_decay=1e-2, momentum=0.9, **options)
    step = engine.TrainStep(
        network,
        create_loss(),
        optimizer,
        loss_scale=8.0,
        dynamic=True,
        accumulation=2,
        average=engine.WeightAverage(network, 0.9),
        dropout_count=count,
    )
    progress = engine.Progress(engine.FiniteWatch(rates, 4), 4, 100)
    table = engine.MetricsTable(has_average=True)
    return step, engine.RunState(network, step, progress=progress, table=table, runtime=RUNTIME)


def everything(step) -> dict[str, np.ndarray]:
    parameters = [*step.network.get_parameters(), *step.state, *step.own_state]
    return {parameter.name: parameter.asnumpy().copy() for parameter in parameters}


def saved(folder, snapshot):
    record = {"runtime": {"world_size": 1}}
    writer = CheckpointWriter(folder, "net", record=record)
    files = snapshot.files(Metadata("net", 5))
    writer.save(Position(1, 3), files, snapshot.figures, is_midway=True)
    writer.wait()
    return writer.store.newest()[0]


CASES = [*((opt, {}) for opt in OPTIMIZERS), ("adamw", {"weight_decay_filter": "auto"})]


@pytest.mark.parametrize(("opt", "options"), CASES, ids=str)
def test_every_optimizer_goes_on_as_if_uninterrupted(opt, options, tmp_path):
    """Three batches, amid an update; then three more, by the same step and by one made anew."""
    step, state = build(opt, **options)
    bad = (Tensor(np.full((4, 12), np.inf), ms.float32), batches(1)[0][1])
    for batch in (*batches(3), bad, batches(1, seed=1)[0]):
        step(*batch)
    manifest = saved(tmp_path, state.capture(within_epoch=True))
    again, restored = build(opt, **options)
    restored.restore(manifest)
    before = everything(step)
    for name, value in everything(again).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    for batch in batches(3, seed=2):
        first, second = step(*batch), again(*batch)
        assert first[0].asnumpy() == second[0].asnumpy()
    after = everything(again)
    for name, value in everything(step).items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    assert not np.array_equal(after["first.weight"], before["first.weight"])


def test_a_snapshot_does_not_change_while_the_training_goes_on():
    step, state = build()
    step(*batches(1)[0])
    snapshot = state.capture(within_epoch=True)
    before = {name: value.copy() for name, value in {**snapshot.weights, **snapshot.state}.items()}
    for batch in batches(3, seed=4):
        step(*batch)
    for name, value in {**snapshot.weights, **snapshot.state}.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_a_checkpoint_of_another_network_changes_nothing(tmp_path):
    step, state = build()
    snapshot = state.capture(within_epoch=True)
    del snapshot.weights["updates"], snapshot.weights["scale_value"]
    manifest = saved(tmp_path, snapshot)
    before = everything(step)
    step(*batches(1)[0])
    with pytest.raises(WeightsError, match="2 missing from the file: updates, scale_value"):
        state.restore(manifest)
    assert not np.array_equal(everything(step)["accumulated.first.weight"], 0)
    np.testing.assert_array_equal(everything(step)["first.weight"], before["first.weight"])


def test_weights_go_on_moving_after_they_were_exchanged_with_their_average():
    """In either mode: `set_data` leaves an optimizer of PyNative mode with the old memory."""
    for mode in (ms.PYNATIVE_MODE, ms.GRAPH_MODE):
        ms.set_context(mode=mode)
        network = Net()
        average = engine.WeightAverage(network, 0.9)
        optimizer = create_optimizer(network, "momentum", lr=0.1)
        step = engine.TrainStep(network, create_loss(), optimizer, average=average)
        values = []
        for batch in batches(3):
            step(*batch)
            values.append([p.asnumpy().copy() for p in (*average.weights, *average.averages)])
            with average.in_place_of_the_weights():
                network(batch[0])
        for first, second in itertools.pairwise(values):
            assert all(not np.array_equal(one, other) for one, other in zip(first, second)), mode


def test_each_step_drops_otherwise():
    step, _ = build()
    batch = batches(1)[0]
    losses = {float(step(*batch)[0].asnumpy()) for _ in range(2)}
    assert len(losses) == 2  # amid an update: the weights are still the same
    assert int(step.dropout_count.asnumpy()) == 2


def test_options_that_change_the_run_are_refused_with_both_values():
    before = Config(model="net", lr=0.1, epoch_size=90, scale=(0.08, 1.0))
    after = replace(before, lr=0.2, scale=(0.5, 1.0), log_interval=7, epoch_size=100)
    with pytest.raises(ConfigError) as told:
        check_unchanged(describe_config(before), after, 90)
    lines = str(told.value).splitlines()[1:-1]
    assert lines == [
        "  scale: [0.08, 1.0] -> [0.5, 1.0]",
        "  epoch_size: 90 -> 100 (with cosine_decay only the first 3 epochs would have had the "
        "learning rates that they had, and 90 are done or begun)",
        "  lr: 0.1 -> 0.2",
    ]
    check_unchanged(describe_config(before), replace(before, log_interval=7, data_dir="/moved"))
    without = {k: v for k, v in describe_config(before).items() if k != "mixup"}
    check_unchanged(without, before)  # an option that did not exist then
    with pytest.raises(ConfigError, match="mixup: 0.0 -> 0.8"):
        check_unchanged(without, replace(before, mixup=0.8))


@pytest.mark.parametrize(
    "options, epochs",
    [
        (dict(scheduler="constant"), 90),
        (dict(scheduler="exponential_decay"), 90),
        (dict(scheduler="step_decay", decay_epochs=30), 90),
        (dict(scheduler="multi_step_decay"), 90),
        (dict(scheduler="cosine_decay", decay_epochs=87), 90),  # then at min_lr
        (dict(scheduler="cosine_decay"), 3),  # the warm-up
        (dict(scheduler="polynomial_decay"), 3),
        (dict(scheduler="wsd"), 81),  # the plateau: a tenth of the run decays
        (dict(scheduler="wsd", decay_epochs=20, warmup_steps=500), 70),
        (dict(scheduler="one_cycle", warmup_epochs=0), 0),
        (dict(scheduler="cyclic", warmup_epochs=0), 0),
    ],
)
def test_a_run_may_be_as_long_as_its_rates_so_far_allow(options, epochs, log_lines):
    before = Config(model="net", epoch_size=90, **options)
    for size in (91, 180):
        after = replace(before, epoch_size=size)
        if epochs:
            check_unchanged(describe_config(before), after, epochs)
            assert (
                f"epoch_size: 90 -> {size}; the learning rates of {epochs} epoch" in log_lines[-1]
            )
        if epochs < 90:
            with pytest.raises(
                ConfigError, match=f"{epochs or 'no'} epoch.*, and {epochs + 1} are"
            ):
                check_unchanged(describe_config(before), after, epochs + 1)
    with pytest.raises(ConfigError, match="epoch 90 is done or begun"):
        check_unchanged(describe_config(before), replace(before, epoch_size=89), 90)


def test_what_is_measured_at_evaluations_binds_their_interval():
    before = Config(model="net", val_while_train=True)
    check_unchanged(describe_config(before), replace(before, val_interval=5))
    before = replace(before, precise_bn_samples=100)
    with pytest.raises(ConfigError, match="val_interval: 1 -> 5"):
        check_unchanged(describe_config(before), replace(before, val_interval=5))


def test_the_weights_of_a_run_that_goes_on_come_from_its_checkpoint():
    before = Config(model="net", pretrained="torchvision_v2")
    after = replace(before, pretrained=False, ckpt_path="net-3_4.ckpt", resume_opt=True)
    check_unchanged(describe_config(before), after)
    with pytest.raises(ConfigError, match="ckpt_path: {2}-> net-3_4.ckpt"):
        check_unchanged(describe_config(before), replace(after, resume_opt=False))


def description(**changes):
    data = {
        "class_names": ["ant", "bee", "cat"],
        "images_of_classes": [5, 6, 7],
        "fingerprint": "abc",
    }
    parts = {
        "config": {},
        "runtime": {"world_size": 2, "device_target": "CPU", "mode": 0, "jit_level": "O1"},
        "versions": {"mindspore": "2.10.0"},
        "workers": 2,
        "update": {"images": 8, "batches": 1, "images_of_epoch": 16},
        "data": data,
    }
    for key, value in changes.items():
        places = [parts["runtime"], parts["data"], parts]
        target = next(place for place in places if key in place)
        target[key] = value
    return parts


def manifest_of(record):
    return types.SimpleNamespace(path="run/net-3_4.json", record=record)


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"jit_level": "O0"}, ConfigError, "jit_level O1, this one has O0"),
        ({"class_names": ["ant", "cat", "dog"]}, DataError, "class 1 was bee and is cat"),
        ({"class_names": ["ant", "bee"]}, DataError, "class 2 was cat and is not there"),
        ({"images_of_classes": [5, 6, 6]}, DataError, "class cat had 7 training images and has 6"),
        ({"fingerprint": "abd"}, DataError, "as many training images .* under other names"),
    ],
    ids=str,
)
def test_another_device_or_dataset_is_refused_by_its_first_difference(changes, error, what):
    manifest = manifest_of(description())
    engine.check_same_run(manifest, description())
    with pytest.raises(error, match=what):
        engine.check_same_run(manifest, description(**changes))


def test_other_versions_and_threads_are_warned_of(log_lines):
    versions = {"mindspore": "2.11.0"}
    engine.check_same_run(manifest_of(description()), description(versions=versions, workers=1))
    assert "mindspore was 2.10.0 and is 2.11.0" in log_lines[0]
    assert "threads was 2 and is 1" in log_lines[1]


def test_ranks_that_got_their_images_otherwise_are_warned_of(log_lines):
    before = description()
    del before["update"]
    engine.check_same_run(manifest_of(before), description())
    assert "in whole batches; the run goes on with the same images in each step" in log_lines[0]
    before["runtime"]["world_size"] = 1  # the order of one process is what it always was
    engine.check_same_run(manifest_of(before), description(world_size=1))
    assert len(log_lines) == 1


def test_the_second_signal_leaves_at_once(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    stop = StopSignal()
    before = signal.getsignal(signal.SIGTERM)
    with stop.listening():
        assert stop.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM and not left
        os.kill(os.getpid(), signal.SIGTERM)
        assert left == [143]
    assert signal.getsignal(signal.SIGTERM) == before

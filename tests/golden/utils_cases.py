"""What MindCV's `utils` and ours both do: train a small network, and keep files."""

import os
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn, ops

# Arguments of `create_trainer` beside a fixed loss scale; loss_scale is the optimizer's too.
TRAININGS = {
    "plain": {},
    "scaled": {"loss_scale": 64.0},
    "clipped": {"clip_grad": True, "clip_value": 0.05},
    "averaged": {"ema": True, "ema_decay": 0.9},
    "accumulated": {"gradient_accumulation_steps": 2},
    "together": {"ema": True, "clip_grad": True, "clip_value": 0.5},
}
FILE_NAMES = ("a.tar", "a.tar.gz", "b.c.tar.bz2", "a.tgz", "a.tbz2", "a.tbz", "a.zip", "a.gz")
# Scores of checkpoints saved one after the other.
SCORES = (0.5, 0.75, 0.25, 0.75, 0.875)


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Dense(12, 8), nn.Dense(8, 6)
        rng = np.random.default_rng(0)
        for parameter in self.get_parameters():
            parameter.set_data(Tensor(rng.standard_normal(parameter.shape) / 3, ms.float32))

    def construct(self, x):
        return self.second(ops.tanh(self.first(x)))


def dataset(count: int = 12, seed: int = 0, rank: int = 0, ranks: int = 1) -> ds.Dataset:
    """Return batches of 4 rows (float32 (12,), int32), or a rank's share of each batch."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 12)).astype(np.float32)
    labels = rng.integers(0, 6, count).astype(np.int32)
    own = (rows[rank::ranks], labels[rank::ranks])
    return ds.NumpySlicesDataset(own, ["image", "label"], shuffle=False).batch(4 // ranks)


class Losses(ms.Callback):
    def __init__(self):
        self.found = []

    def on_train_step_end(self, run_context):
        self.found.append(float(np.mean(run_context.original_args().net_outputs.asnumpy())))


def trainer_of(utils, options: dict) -> tuple[ms.Model, nn.Cell]:
    network = Net()
    scale = options.get("loss_scale", 1.0)
    rates = [0.5 / (step + 1) for step in range(6)]
    if options.get("gradient_accumulation_steps", 1) > 1:
        rates = 0.5
    optimizer = nn.Momentum(network.trainable_params(), rates, 0.9, 1e-3, scale)
    named = {"amp_level": "O0", "amp_cast_list": None, "loss_scale_type": "fixed", **options}
    trainer = utils.create_trainer(
        network, nn.CrossEntropyLoss(), optimizer, utils.get_metrics(6), **named
    )
    return trainer, network


def train(utils, options: dict) -> dict[str, list[float]]:
    """Return the losses of two epochs, the metrics, the weights and their averages."""
    trainer, network = trainer_of(utils, options)
    losses = Losses()
    trainer.train(2, dataset(), callbacks=[losses], dataset_sink_mode=False)
    found = {"losses": losses.found}
    found["metrics"] = list(trainer.eval(dataset(seed=1), dataset_sink_mode=False).values())
    found["weights"] = network.second.weight.asnumpy().ravel().tolist()
    averages = {one.name: one for one in trainer.train_network.get_parameters()}
    if options.get("ema"):
        found["average"] = averages["ema.second.weight"].asnumpy().ravel().tolist()
    return found


def monitored(utils, folder: Path) -> dict:
    """Return the names and the log of what `StateMonitor` leaves in a folder."""
    trainer, _ = trainer_of(utils, {})
    monitor = utils.StateMonitor(
        trainer,
        "net",
        dataset_sink_mode=False,
        dataset_val=dataset(seed=1),
        metric_name=list(utils.get_metrics(6)),
        ckpt_save_dir=str(folder),
        ckpt_save_policy="latest_k",
        ckpt_keep_max=1,
        summary_dir=str(folder / "summary"),
    )
    trainer.train(2, dataset(), callbacks=[monitor], dataset_sink_mode=False)
    lines = (folder / "result.log").read_text(encoding="utf-8").splitlines()
    names = sorted(name for name in os.listdir(folder) if name.endswith(".ckpt"))
    saved = ms.load_checkpoint(str(folder / "net-2_3.ckpt"))
    return {
        "files": names,
        "header": lines[0].split(),
        "rows": [[float(cell.rstrip("%")) for cell in line.split()[:4]] for line in lines[1:]],
        "saved": sorted(saved),
    }


def kept(utils, policy: str, folder: Path) -> list[list[str]]:
    """Return the files that stay after each save, at most two."""
    manager, network, found = utils.CheckpointManager(policy), Net(), []
    for number, score in enumerate(SCORES):
        path = str(folder / f"{policy}-{number}.ckpt")
        manager.save_ckpoint(network, num_ckpt=2, metric=Tensor(score), save_path=path)
        listed = manager.ckpoint_filelist
        paths = [entry if isinstance(entry, str) else entry[0] for entry in listed]
        found.append(sorted(Path(path).name for path in paths))
    return found

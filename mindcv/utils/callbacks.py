"""MindCV's callbacks for `Model.train` and `Model.eval`, and its keeping of checkpoints.

Files are written atomically and never with NaN or infinity.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from time import time

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..engine.nonfinite import is_finite
from ..engine.state import copies
from ..errors import NonFiniteLossError, WeightsError
from ..process.files import replacing, writing
from ..weights import ckpt
from .start import AllReduceSum

_logger = logging.getLogger(__name__)


def save_parameters(cell: nn.Cell, path: str | os.PathLike) -> None:
    """Write all parameters of a cell to a MindSpore checkpoint.

    Raises:
        NonFiniteLossError: one is not finite; a file at the path stays as it was.
        WeightsError: the file cannot be written.
    """
    tensors = copies(cell.get_parameters())
    bad = [name for name, values in tensors.items() if not is_finite(values)]
    if bad:
        raise NonFiniteLossError(
            f"{len(bad)} of {len(tensors)} tensors are not finite, e.g. {bad[0]}, so {path} is not "
            "written; lower lr, lengthen the warm-up or check the data"
        )
    with writing(path, WeightsError), replacing(Path(path)) as unfinished:
        with open(unfinished, "wb") as file:
            ckpt.write(file, tensors)


class CheckpointManager:
    """Saves checkpoints and removes superfluous ones.

    Args:
        ckpt_save_policy: latest_k, top_k by metric, or None to keep all.

    Attributes:
        ckpoint_filelist: paths, the oldest first; with top_k (path, metric), the best first.
    """

    def __init__(self, ckpt_save_policy: str | None = None):
        self.ckpt_save_policy = ckpt_save_policy
        self.ckpoint_filelist: list = []

    @property
    def ckpoint_num(self) -> int:
        return len(self.ckpoint_filelist)

    def update_ckpoint_filelist(self, directory: str, prefix: str) -> None:
        """Take over the files `<prefix>-<digits…>.ckpt` of a folder, the oldest first."""
        found = [
            path
            for path in Path(directory).glob("*.ckpt")
            if path.name.startswith(f"{prefix}-")
            and not any(letter.isalpha() for letter in path.stem[len(prefix) :])
        ]
        self.ckpoint_filelist = [str(path) for path in sorted(found, key=os.path.getmtime)]

    def remove_ckpoint_file(self, file_name: str) -> None:
        """Delete a file; log a warning if that fails."""
        try:
            os.remove(file_name)
        except OSError as error:
            _logger.warning("checkpoint %s cannot be removed: %s", file_name, error.strerror)

    def remove_oldest_ckpoint_file(self) -> None:
        self.remove_ckpoint_file(self.ckpoint_filelist.pop(0))

    def keep_one_ckpoint_per_minutes(self, minutes: float, cur_time: float) -> None:
        """Of the files written in the last `minutes` before `cur_time`, keep only the oldest."""
        times = {path: os.path.getmtime(path) for path in self.ckpoint_filelist}
        late = [path for path in times if cur_time - times[path] < 60 * minutes]
        for path in sorted(late, key=times.get)[1:]:
            self.remove_ckpoint_file(path)
            self.ckpoint_filelist.remove(path)

    def top_K_checkpoint(
        self, network: nn.Cell, K: int = 10, metric: float | Tensor | None = None, save_path=""
    ) -> None:
        """Save if the metric is among the K highest, and remove what no longer is."""
        score = float(metric.asnumpy() if isinstance(metric, Tensor) else metric)
        if self.ckpoint_num >= K and score <= self.ckpoint_filelist[-1][1]:
            return
        save_parameters(network, save_path)
        others = [pair for pair in self.ckpoint_filelist if not _is_same(pair[0], save_path)]
        ranked = [*others, (save_path, score)]
        ranked.sort(key=lambda pair: -pair[1])  # stable: the earlier of equals stays ahead
        for path, _ in ranked[K:]:
            self.remove_ckpoint_file(path)
        self.ckpoint_filelist = ranked[:K]

    def latest_K_checkpoint(self, network: nn.Cell, K: int = 10, save_path: str = "") -> None:
        """Save, and remove the oldest if there are more than K; K 0 keeps all."""
        save_parameters(network, save_path)
        others = [path for path in self.ckpoint_filelist if not _is_same(path, save_path)]
        self.ckpoint_filelist = [*others, save_path]
        while 0 < K < self.ckpoint_num:
            self.remove_oldest_ckpoint_file()

    def save_ckpoint(
        self,
        network: nn.Cell,
        num_ckpt: int = 10,
        metric: float | Tensor | None = None,
        save_path: str = "",
    ) -> list | None:
        """Save by the policy; return `ckpoint_filelist`, or None without a policy.

        Raises:
            ValueError: the policy is unknown, or top_k has no metric.
            NonFiniteLossError, WeightsError: see `save_parameters`.
        """
        if self.ckpt_save_policy is None:
            save_parameters(network, save_path)
            return None
        if self.ckpt_save_policy == "top_k":
            if metric is None:
                raise ValueError("ckpt_save_policy top_k needs the metric of each checkpoint")
            self.top_K_checkpoint(network, K=num_ckpt, metric=metric, save_path=save_path)
            ranked = "\n".join(f"{path}\t{score}" for path, score in self.ckpoint_filelist)
            _logger.info("Top-k accuracy checkpoints:\n%s", ranked)
        elif self.ckpt_save_policy == "latest_k":
            self.latest_K_checkpoint(network, K=num_ckpt, save_path=save_path)
        else:
            raise ValueError(
                f"ckpt_save_policy {self.ckpt_save_policy!r} is unknown: expected latest_k, top_k "
                "or None"
            )
        return self.ckpoint_filelist


class StateMonitor(ms.Callback):
    """Logs, evaluates and saves a training by `Model.train`, in MindCV's words and file names.

    `<ckpt_save_dir>/<model_name>-<epoch>_<steps>.ckpt` and `<model_name>_best.ckpt` hold all
    parameters of the training step, `optim_<model_name>.ckpt` those of the optimizer, and
    `result.log` a line an epoch. Over several processes, an accuracy counts every image once.

    Args:
        model: the `Model` that trains; it evaluates `dataset_val` if that is given.
        model_ema: evaluate the averaged weights; the trainer must have `ema`.
        last_epoch: epochs done before, to count on.
        metric_name: names of the model's metrics, in order; the first decides which is best.
        val_start_epoch: first epoch to evaluate.
        rank_id, device_num: None for a single process.
    """

    def __init__(
        self,
        model: ms.Model,
        model_name: str = "",
        model_ema: bool = False,
        last_epoch: int = 0,
        dataset_sink_mode: bool = True,
        dataset_val=None,
        metric_name: Sequence[str] = ("accuracy",),
        val_interval: int = 1,
        val_start_epoch: int = 1,
        save_best_ckpt: bool = True,
        ckpt_save_dir: str = "./",
        ckpt_save_interval: int = 1,
        ckpt_save_policy: str | None = None,
        ckpt_keep_max: int = 10,
        summary_dir: str = "./",
        log_interval: int = 100,
        rank_id: int | None = None,
        device_num: int | None = None,
    ):
        super().__init__()
        self.model, self.model_name, self.model_ema = model, model_name, model_ema
        self.last_epoch, self.dataset_sink_mode = last_epoch, dataset_sink_mode
        self.dataset_val, self.metric_name = dataset_val, list(metric_name)
        self.val_interval, self.val_start_epoch = val_interval, val_start_epoch
        self.save_best_ckpt, self.ckpt_save_dir = save_best_ckpt, ckpt_save_dir
        self.ckpt_save_interval, self.ckpt_keep_max = ckpt_save_interval, ckpt_keep_max
        self.ckpt_manager = CheckpointManager(ckpt_save_policy)
        self.summary_dir, self.log_interval = summary_dir, log_interval
        self.rank_id = rank_id or 0
        self.device_num = device_num or 1
        self.best_res, self.best_epoch = 0.0, -1
        self.all_reduce = AllReduceSum() if self.device_num > 1 else None
        self.log_file = os.path.join(ckpt_save_dir, "result.log")
        self.epoch_ts = self.step_ts = time()
        self.step_time_accum = 0.0
        if self.rank_id == 0:
            with writing(self.log_file, WeightsError):
                os.makedirs(ckpt_save_dir, exist_ok=True)
                Path(self.log_file).unlink(missing_ok=True)
            times = ("TrainTime", "EvalTime", "TotalTime")
            self._write_result("Epoch", "TrainLoss", *self.metric_name, *times)

    def __enter__(self):
        self.summary_record = ms.SummaryRecord(self.summary_dir)
        return self

    def __exit__(self, *exc_args):
        self.summary_record.close()

    def apply_eval(self, run_context) -> np.ndarray:
        """Return the metrics of the network, or of its averaged weights, over all processes."""
        counted = _ImageCount()
        if self.model_ema:
            average = getattr(_step_of(run_context), "average", None)
            if average is None:
                raise ValueError("model_ema True needs a trainer that averages: ema True")
            with average.in_place_of_the_weights():
                found = self._evaluate(counted)
        else:
            found = self._evaluate(counted)
        if self.all_reduce is None:
            return found
        # Ranks may have different numbers of images, so each counts with its own.
        sums = np.append(found * counted.images, counted.images).astype(np.float32)
        *totals, images = self.all_reduce(Tensor(sums)).asnumpy()
        return np.array(totals, np.float32) / images

    def _evaluate(self, counted: "_ImageCount") -> np.ndarray:
        callbacks = [counted] if self.all_reduce is not None else None
        found = self.model.eval(self.dataset_val, dataset_sink_mode=False, callbacks=callbacks)
        return np.array(list(found.values()), np.float32)

    def on_train_epoch_begin(self, run_context):
        self.epoch_ts = time()

    def on_train_step_begin(self, run_context):
        self.step_ts = time()

    def on_train_step_end(self, run_context):
        self.step_time_accum += time() - self.step_ts
        epoch, batch, _, params = self._position(run_context)
        if batch == 1 or batch == params.batch_num or batch % self.log_interval == 0:
            _logger.info(
                f"Epoch: [{epoch}/{params.epoch_num}], batch: [{batch}/{params.batch_num}], "
                f"loss: {_loss_of(params):.6f}, lr: {_rate(_step_of(run_context).optimizer):.6f}, "
                f"time: {self.step_time_accum:.6f}s"
            )
            self.step_time_accum = 0.0

    def on_train_epoch_end(self, run_context):
        epoch, batch, step, params = self._position(run_context)
        train_time, loss, val_time = time() - self.epoch_ts, _loss_of(params), 0.0
        res = np.zeros(len(self.metric_name), np.float32)
        late = epoch - self.val_start_epoch
        if self.dataset_val is not None and late >= 0 and late % self.val_interval == 0:
            begin = time()
            res = self.apply_eval(run_context)
            val_time = time() - begin
            values = [f"{name}: {value:.4%}" for name, value in zip(self.metric_name, res)]
            _logger.info("Validation %s, time: %.6fs", ", ".join(values), val_time)
            if res[0] > self.best_res:
                self.best_res, self.best_epoch = float(res[0]), epoch
                _logger.info("the best so far: %s %.4f%%", self.metric_name[0], 100 * res[0])
        if self.rank_id == 0:
            self._save(run_context, epoch=epoch, batch=batch, metric=float(res[0]))
        total_time = time() - self.epoch_ts
        _logger.info(
            f"Total time since last epoch: {total_time:.6f}(train: {train_time:.6f}, "
            f"val: {val_time:.6f})s, ETA: {(params.epoch_num - epoch) * total_time:.6f}s"
        )
        _logger.info("-" * 80)
        if self.rank_id == 0:
            times = [f"{seconds:.2f}" for seconds in (train_time, val_time, total_time)]
            self._write_result(epoch, f"{loss:.6f}", *(f"{one:.4%}" for one in res), *times)
        values = {"train_loss": loss}
        values |= {f"val_{name}": value for name, value in zip(self.metric_name, res)}
        for name, value in values.items():
            scalar = Tensor(value, ms.float32)
            self.summary_record.add_value("scalar", f"{name}_{self.rank_id}", scalar)
        self.summary_record.record(step)

    def on_train_end(self, run_context):
        _logger.info("Finish training!")
        if self.dataset_val is not None:
            _logger.info(
                f"The best validation {self.metric_name[0]} is: {self.best_res:.4%} "
                f"at epoch {self.best_epoch}."
            )
        _logger.info("=" * 80)

    def _position(self, run_context) -> tuple:
        """Return epoch and batch, from 1, the step of the run, and MindSpore's own figures."""
        params = run_context.original_args()
        step = params.cur_step_num + self.last_epoch * params.batch_num
        batch = (step - 1) % params.batch_num + 1
        return params.cur_epoch_num + self.last_epoch, batch, step, params

    def _save(self, run_context, *, epoch: int, batch: int, metric: float) -> None:
        params = run_context.original_args()
        folder, name, network = self.ckpt_save_dir, self.model_name, params.train_network
        if self.save_best_ckpt and self.best_epoch == epoch:
            save_parameters(network, os.path.join(folder, f"{name}_best.ckpt"))
        if epoch % self.ckpt_save_interval == 0 or epoch == params.epoch_num:
            optimizer = _step_of(run_context).optimizer
            save_parameters(optimizer, os.path.join(folder, f"optim_{name}.ckpt"))
            path = os.path.join(folder, f"{name}-{epoch}_{batch}.ckpt")
            _logger.info("Saving model to %s", path)
            self.ckpt_manager.save_ckpoint(
                network, num_ckpt=self.ckpt_keep_max, metric=metric, save_path=path
            )

    def _write_result(self, *cells) -> None:
        with writing(self.log_file, WeightsError), open(self.log_file, "a") as file:
            file.write("".join(f"{cell:<20}" for cell in cells) + "\n")


class _ImageCount(ms.Callback):
    """Counts the images of an evaluation; outputs end with the labels, see nn.WithEvalCell."""

    images = 0

    def on_eval_step_end(self, run_context):
        self.images += len(run_context.original_args().net_outputs[-1])


class ValCallback(ms.Callback):
    """Prints the batches that an evaluation has done, and the seconds since the last line."""

    def __init__(self, log_interval: int = 100):
        super().__init__()
        self.log_interval, self.ts = log_interval, time()

    def on_eval_step_end(self, run_context):
        params = run_context.original_args()
        step, count = params.cur_step_num, params.batch_num
        if step == count or step % self.log_interval == 0:
            print(f"batch: {step}/{count}, time: {time() - self.ts:.6f}s")
            self.ts = time()


def _is_same(path: str, other: str) -> bool:
    return os.path.abspath(path) == os.path.abspath(other)


def _step_of(run_context) -> nn.Cell:
    """Return the cell with the optimizer; MindSpore's data sink wraps it."""
    cell = run_context.original_args().train_network
    while not hasattr(cell, "optimizer"):
        cell = cell.network
    return cell


def _loss_of(params) -> float:
    """Return the mean loss of a step, which comes alone or first of several outputs."""
    outputs = params.net_outputs
    loss = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    return float(np.mean(loss.asnumpy()))


def _rate(optimizer: nn.Optimizer) -> float:
    """Return the learning rate of the last update, of the first group of parameters."""
    rate = optimizer.learning_rate
    if optimizer.is_group_lr:
        rate = rate[0]
    if optimizer.dynamic_lr:
        last = np.maximum(optimizer.global_step.asnumpy() - 1, 0)
        rate = rate(Tensor(last, ms.int32))
    return float(np.ravel(rate.asnumpy())[0])

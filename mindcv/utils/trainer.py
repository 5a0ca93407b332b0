"""MindCV's `create_trainer` and its parts: MindSpore's `Model` around this library's step."""

import re

import mindspore as ms
from mindspore import Tensor, amp, nn, ops, train
from mindspore.nn.learning_rate_schedule import LearningRateSchedule

from .. import engine
from ..engine.replaced_layers import FLOAT16_LAYERS
from ..engine.train_step import Accumulator

AMP_WHITE_LIST = FLOAT16_LAYERS
AMP_BLACK_LIST = tuple(amp.get_black_list())

_SCALES = ("fixed", "dynamic", "auto")


def get_metrics(num_classes: int) -> dict[str, train.Metric]:
    """Return the metrics Top_1_Accuracy and, from 5 classes on, Top_5_Accuracy; both fractions."""
    metrics = {"Top_1_Accuracy": train.Top1CategoricalAccuracy()}
    if num_classes >= 5:
        metrics["Top_5_Accuracy"] = train.Top5CategoricalAccuracy()
    return metrics


def require_customized_train_step(
    ema: bool = False,
    clip_grad: bool = False,
    gradient_accumulation_steps: int = 1,
    amp_cast_list: str | None = None,
) -> bool:
    """Return whether MindCV needs its own `TrainStep`; here every trainer has one."""
    return bool(ema or clip_grad or gradient_accumulation_steps > 1 or amp_cast_list)


def auto_mixed_precision(
    network: nn.Cell, amp_level: str = "O0", amp_cast_list: str | None = None
) -> nn.Cell:
    """Make a network compute in mixed precision, see `engine.mixed_precision`.

    The network is changed in place; what is returned computes the same and has float32 outputs.

    Args:
        amp_cast_list: layers instead of the own ones of O1 or O2, such as "[nn.Conv2d, nn.Dense]".

    Raises:
        ConfigError: the list names no layer of `mindspore.nn`, or none of the network, or the level
            takes no list.
    """
    return engine.mixed_precision(network, amp_level, re.findall(r"[\w.]+", amp_cast_list or ""))


class TrainStep(nn.Cell):
    """Map a batch to its loss, and update the parameters of the optimizer.

    It skips an update, clips, accumulates and averages as `engine.TrainStep` does, on every device.

    Args:
        network: maps a batch to a scalar loss, such as nn.WithLossCell.
        scale_sense: loss scale, or MindSpore's FixedLossScaleUpdateCell or
            DynamicLossScaleUpdateCell, with which updates that overflow are skipped.
        ema: average the weights, as `ema.<weight>`.
        clip_grad: clip the joint norm of the gradients to `clip_value`.
        gradient_accumulation_steps: batches per update. The optimizer's rates are one per batch, as
            `create_scheduler` makes them; an update takes that of its last batch.
    """

    def __init__(
        self,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        scale_sense: float | Tensor | nn.Cell = 1.0,
        ema: bool = False,
        ema_decay: float = 0.9999,
        clip_grad: bool = False,
        clip_value: float = 15.0,
        gradient_accumulation_steps: int = 1,
    ):
        super().__init__(auto_prefix=False)
        if optimizer.dynamic_lr:
            _use_rates_of_batches(optimizer, gradient_accumulation_steps)
        self.network, self.optimizer = network, optimizer
        self.average = engine.WeightAverage(network, ema_decay) if ema else None
        self.step = _LossStep(
            network,
            None,
            optimizer,
            loss_scale=float(getattr(scale_sense, "loss_scale_value", scale_sense)),
            dynamic=isinstance(scale_sense, nn.DynamicLossScaleUpdateCell),
            skip_overflow=isinstance(scale_sense, nn.Cell),
            world_size=_world_size(),
            accumulation=gradient_accumulation_steps,
            clip_mode="global_norm" if clip_grad else None,
            clip_value=clip_value,
            average=self.average,
        )
        if self.step.dynamic:
            self.step.scaler = amp.DynamicLossScaler(
                float(scale_sense.loss_scale_value),
                _whole("scale_factor", scale_sense.scale_factor),
                _whole("scale_window", scale_sense.scale_window),
            )

    def construct(self, *inputs):
        loss, applied = self.step(*inputs)
        return ops.depend(loss, applied)


class _LossStep(engine.TrainStep):
    def scaled_loss(self, *inputs):
        return self.scaler.scale(self.network(*inputs))


class _RateOfLastBatch(LearningRateSchedule):
    """Maps the number of an update to the rate of the last of its batches."""

    def __init__(self, rates: nn.Cell, batches: int):
        super().__init__()
        self.rates, self.batches = rates, batches

    def construct(self, global_step):
        return self.rates(global_step * self.batches + (self.batches - 1))


def _use_rates_of_batches(optimizer: nn.Optimizer, batches: int) -> None:
    rates = optimizer.learning_rate
    found = list(rates) if optimizer.is_group_lr else [rates]
    # An earlier trainer of this optimizer may have had another number of batches.
    cells = [cell.rates if isinstance(cell, _RateOfLastBatch) else cell for cell in found]
    if batches == 1 and cells == found:
        return
    names = [(one, one.name) for cell in cells for one in cell.get_parameters()]
    used = [_RateOfLastBatch(cell, batches) for cell in cells] if batches > 1 else cells
    optimizer.learning_rate = nn.CellList(used) if optimizer.is_group_lr else used[0]
    for parameter, name in names:
        parameter.name = name  # a cell prefixes the names of parameters it is given


def _whole(name: str, value: Tensor) -> int:
    number = float(value.asnumpy())
    if not number.is_integer():
        raise ValueError(f"scale_sense: {name} {number:g} must be a whole number")
    return int(number)


def _world_size() -> int:
    mode = ms.get_auto_parallel_context("parallel_mode")
    is_parallel = mode in (ms.ParallelMode.DATA_PARALLEL, ms.ParallelMode.HYBRID_PARALLEL)
    return ms.get_auto_parallel_context("device_num") if is_parallel else 1


class GradientAccumulation(nn.Cell):
    """Map (loss, gradients) to the loss, and update once every `max_accumulation_step` batches.

    The gradient of an update is the mean of its batches'. The optimizer's rates are one per update
    here, one per batch in `TrainStep`.
    """

    def __init__(self, max_accumulation_step: int, optimizer: nn.Optimizer, grad_reducer: nn.Cell):
        super().__init__(auto_prefix=False)
        self.accumulator = Accumulator(optimizer.parameters, max_accumulation_step)
        self.optimizer, self.grad_reducer = optimizer, grad_reducer
        self.always = Tensor(True)

    def construct(self, loss, grads):
        sums = self.accumulator.add(grads)
        is_complete, _ = self.accumulator(sums, self.always)
        if is_complete:
            loss = ops.depend(loss, self.optimizer(self.grad_reducer(sums)))
        return ops.depend(loss, is_complete)


def create_trainer(
    network: nn.Cell,
    loss: nn.Cell,
    optimizer: nn.Optimizer,
    metrics: dict | set | None,
    amp_level: str,
    amp_cast_list: str | None,
    loss_scale_type: str,
    loss_scale: float = 1.0,
    drop_overflow_update: bool = False,
    ema: bool = False,
    ema_decay: float = 0.9999,
    clip_grad: bool = False,
    clip_value: float = 15.0,
    gradient_accumulation_steps: int = 1,
) -> ms.Model:
    """Return a MindSpore `Model` that trains and evaluates a network.

    Args:
        network: images to logits; mixed precision changes it in place.
        loss: (logits, labels) to a scalar.
        metrics: see `get_metrics`.
        amp_level, amp_cast_list: see `auto_mixed_precision`.
        loss_scale_type: fixed, dynamic, or auto (dynamic where float16 is used, else fixed).
        loss_scale: the scale, or the first one of a dynamic scale, where 1 means 65536. An
            optimizer that divides by a scale of its own still gets the gradients it expects.
        drop_overflow_update: skip updates that are not finite; a dynamic scale always does.
        ema, ema_decay, clip_grad, clip_value, gradient_accumulation_steps: see `TrainStep`.

    Raises:
        ValueError: an argument is out of range, or the arguments contradict each other.
    """
    kind = loss_scale_type.lower()
    if kind not in _SCALES:
        raise ValueError(f"loss_scale_type {loss_scale_type!r}: expected {', '.join(_SCALES)}")
    if loss_scale < 1.0:
        raise ValueError(f"loss_scale {loss_scale} must be at least 1")
    if gradient_accumulation_steps < 1:
        raise ValueError(
            f"gradient_accumulation_steps {gradient_accumulation_steps} must be at least 1"
        )
    if kind == "dynamic" and not drop_overflow_update:
        raise ValueError(
            "a dynamic loss scale skips updates that overflow: set drop_overflow_update True"
        )
    mixed = auto_mixed_precision(network, amp_level, amp_cast_list)
    scale = float(loss_scale)
    if kind == "dynamic" or (kind == "auto" and amp_level != "O0"):
        start = scale if scale > 1.0 else engine.train_step.DYNAMIC_START
        scale = nn.DynamicLossScaleUpdateCell(start, 2, engine.train_step.DYNAMIC_WINDOW)
    elif drop_overflow_update:
        scale = nn.FixedLossScaleUpdateCell(scale)
    step = TrainStep(
        nn.WithLossCell(mixed, loss),
        optimizer,
        scale,
        ema=ema,
        ema_decay=ema_decay,
        clip_grad=clip_grad,
        clip_value=clip_value,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )
    if not metrics:
        return ms.Model(step)
    evaluation = nn.WithEvalCell(mixed, loss)
    return ms.Model(step, eval_network=evaluation, metrics=metrics, eval_indexes=[0, 1, 2])

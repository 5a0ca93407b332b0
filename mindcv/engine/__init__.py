"""Training and evaluation of a network on one or several devices."""

from ..process.signals import StopSignal
from ..process.terminal import start_logging
from .agreement import check_equal_ranks
from .batch_norm import (
    PreciseBatchNorm,
    average_batch_statistics,
    check_batch_statistics,
    synchronize_batch_norm,
)
from .callbacks import EpochEnd, Progress, columns_of
from .checkpoint import CheckpointKeeper
from .device import Runtime, start_runtime
from .dropout import count_dropout
from .evaluation import Accuracy, EvaluationStep, evaluate, non_finite_outputs
from .events import EventFiles, open_event_writer
from .fit import fit
from .precision import mixed_precision
from .resume import check_same_run, describe_run, find_checkpoint
from .sample_log import SampleLog
from .saving import SavePoints
from .sink import HandOut, uses_sink
from .state import RunState, Snapshot
from .summary import describe_end, describe_model, describe_schedule
from .tables import MetricsTable, write_text, writing
from .train_step import TrainStep
from .update import WeightAverage

from . import build  # isort: skip  # which uses the names above

__all__ = [
    "Accuracy",
    "CheckpointKeeper",
    "EpochEnd",
    "EvaluationStep",
    "EventFiles",
    "HandOut",
    "MetricsTable",
    "PreciseBatchNorm",
    "Progress",
    "RunState",
    "Runtime",
    "SavePoints",
    "Snapshot",
    "StopSignal",
    "SampleLog",
    "TrainStep",
    "WeightAverage",
    "average_batch_statistics",
    "build",
    "check_batch_statistics",
    "check_equal_ranks",
    "check_same_run",
    "columns_of",
    "count_dropout",
    "describe_end",
    "describe_model",
    "describe_run",
    "describe_schedule",
    "evaluate",
    "find_checkpoint",
    "fit",
    "mixed_precision",
    "non_finite_outputs",
    "open_event_writer",
    "start_logging",
    "start_runtime",
    "synchronize_batch_norm",
    "uses_sink",
    "write_text",
    "writing",
]

"""Training and evaluation of a network on one or several devices."""

from .batch_norm import PreciseBatchNorm, synchronize_batch_norm
from .callbacks import EpochEnd, Progress
from .checkpoint import CheckpointKeeper
from .evaluation import Accuracy, EvaluationStep, evaluate
from .events import EventFiles, open_event_writer
from .fit import fit
from .logs import start_logging
from .precision import mixed_precision
from .runtime import Runtime, start_runtime
from .sample_log import SampleLog
from .summary import describe_model, describe_schedule
from .train_step import TrainStep
from .weight_average import WeightAverage

__all__ = [
    "Accuracy",
    "CheckpointKeeper",
    "EpochEnd",
    "EvaluationStep",
    "EventFiles",
    "PreciseBatchNorm",
    "Progress",
    "Runtime",
    "SampleLog",
    "TrainStep",
    "WeightAverage",
    "describe_model",
    "describe_schedule",
    "evaluate",
    "fit",
    "mixed_precision",
    "open_event_writer",
    "start_logging",
    "start_runtime",
    "synchronize_batch_norm",
]

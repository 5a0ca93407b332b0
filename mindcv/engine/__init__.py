"""Training and evaluation of a network on one or several devices."""

from mindspore.amp import auto_mixed_precision

from .callbacks import EpochEnd, Progress
from .checkpoint import CheckpointKeeper
from .evaluation import Accuracy, EvaluationStep, evaluate
from .events import EventFiles, open_event_writer
from .fit import fit
from .logs import start_logging
from .runtime import Runtime, start_runtime
from .summary import describe_model, describe_schedule
from .train_step import TrainStep

__all__ = [
    "Accuracy",
    "CheckpointKeeper",
    "EpochEnd",
    "EvaluationStep",
    "EventFiles",
    "Progress",
    "Runtime",
    "TrainStep",
    "auto_mixed_precision",
    "describe_model",
    "describe_schedule",
    "evaluate",
    "fit",
    "open_event_writer",
    "start_logging",
    "start_runtime",
]

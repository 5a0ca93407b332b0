"""Train and evaluate a network on one or several devices."""

from ..process import environment  # noqa: F401
from ..process.terminal import start_logging
from .agreement import check_equal_ranks
from .batch_norm import (
    PreciseBatchNorm,
    average_batch_statistics,
    check_batch_statistics,
)
from .compile_cache import open_compile_cache
from .device import Runtime, start_runtime
from .early_stop import EarlyStop
from .elastic import Division
from .evaluation import Accuracy, AugmentedStep, EvaluationStep, evaluate
from .loop import Run, SavePoints, train
from .multi_label import evaluator_of
from .nonfinite import FiniteWatch
from .profile import Profile
from .progress import Progress
from .replaced_layers import count_dropout, mixed_precision, synchronize_batch_norm
from .results import ClassFigures, Evaluation, Outcomes, compare, write_evaluations
from .resume import check_same_run, describe_run, find_checkpoint, resume_run
from .sink import drive_by_sink, uses_sink
from .state import RunState, Snapshot
from .summary import describe_data, describe_end, describe_model, describe_schedule
from .tables import MetricsTable, SampleLog, write_text, writing
from .trackers import Figures, Track, begin_trackers, event_files, register_tracker
from .train_step import TrainStep
from .update import WeightAverage

from . import build, classes  # isort: skip  # it uses the names above

__all__ = [
    "Accuracy",
    "AugmentedStep",
    "ClassFigures",
    "Division",
    "EarlyStop",
    "Evaluation",
    "EvaluationStep",
    "Figures",
    "FiniteWatch",
    "MetricsTable",
    "Outcomes",
    "PreciseBatchNorm",
    "Profile",
    "Progress",
    "Run",
    "RunState",
    "Runtime",
    "SampleLog",
    "SavePoints",
    "Snapshot",
    "Track",
    "TrainStep",
    "WeightAverage",
    "average_batch_statistics",
    "begin_trackers",
    "build",
    "check_batch_statistics",
    "check_equal_ranks",
    "check_same_run",
    "classes",
    "compare",
    "count_dropout",
    "describe_data",
    "describe_end",
    "describe_model",
    "describe_run",
    "describe_schedule",
    "drive_by_sink",
    "evaluate",
    "evaluator_of",
    "event_files",
    "find_checkpoint",
    "mixed_precision",
    "open_compile_cache",
    "register_tracker",
    "resume_run",
    "start_logging",
    "start_runtime",
    "synchronize_batch_norm",
    "train",
    "uses_sink",
    "write_evaluations",
    "write_text",
    "writing",
]

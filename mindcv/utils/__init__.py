"""The names that scripts written for MindCV import, each a few lines over the rest of the library.

A new program of your own needs none of them: `mindcv.engine` and the factories do more.
"""

# ruff: noqa: F401
from typing import TYPE_CHECKING

from ..mindcv_paths import at_first_use

if TYPE_CHECKING:  # the names that `__getattr__` finds
    from ..process.archives import (
        DownLoad,
        detect_file_type,
        get_default_download_root,
        set_default_download_root,
    )
    from .callbacks import CheckpointManager, StateMonitor, ValCallback
    from .start import AllReduceSum, set_logger, set_seed
    from .trainer import (
        AMP_BLACK_LIST,
        AMP_WHITE_LIST,
        GradientAccumulation,
        TrainStep,
        auto_mixed_precision,
        create_trainer,
        get_metrics,
        require_customized_train_step,
    )

__getattr__, __all__ = at_first_use(__name__)


def __dir__():
    return sorted(__all__)

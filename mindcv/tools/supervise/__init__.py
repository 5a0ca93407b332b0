"""Restart a failed training from its newest checkpoint. Nothing here imports mindspore.

msrun has no restart of its own that would do (read in 2.7 and 2.10): it hands its processes to
Ascend's cluster software (TaskD with MindIO, `MS_ENABLE_TFT`) where that is installed, on Ascend
only; without it the first failure ends all. `MS_ENABLE_RECOVERY` keeps the other processes waiting
for one that somebody else starts anew, and is documented for GPU only.
"""

from .attempts import supervise
from .command import Job, read_job

__all__ = ["Job", "read_job", "supervise"]

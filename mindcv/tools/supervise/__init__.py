"""Restart a failed training from its newest checkpoint. Imports no mindspore.

msrun has no suitable restart of its own (as of 2.7 and 2.10). It hands its processes to Ascend's
cluster software (TaskD with MindIO, `MS_ENABLE_TFT`) if that is installed, on Ascend only;
otherwise the first failure ends the whole job. `MS_ENABLE_RECOVERY` only keeps the other processes
waiting until somebody restarts the failed process, and is documented for GPU only.
"""

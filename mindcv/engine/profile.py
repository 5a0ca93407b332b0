"""MindSpore's profiler over a few steps of a run."""

import logging
from pathlib import Path

import mindspore as ms
from tqdm import tqdm

_logger = logging.getLogger("mindcv.train")

_SKIPPED = 2  # the first step compiles, the second one still allocates


class Profile:
    """Profiles `steps` steps after the second one of this process.

    The folder gets MindSpore's own files: on Ascend what its kernels, its host and its links did,
    on CPU each operator's time. ASCEND_PROFILER_OUTPUT/trace_view.json, of that name on every
    device, is a timeline in the format of Chrome's traces.
    """

    def __init__(self, folder: Path, steps: int, device_target: str):
        self.folder, self.steps, self.device_target = folder, steps, device_target
        self._done, self._profiler = 0, None

    def after_step(self) -> None:
        self._done += 1
        if self._profiler is not None and hasattr(self._profiler, "step"):
            self._profiler.step()
        if self._done == _SKIPPED:
            self._profiler = self._create()
            self._profiler.start()
        elif self._done == _SKIPPED + self.steps:
            self.close()

    def close(self) -> None:
        """End the profile, also of fewer steps; the analysis takes seconds."""
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            with tqdm.external_write_mode():  # the analysis prints its own progress
                profiler.stop()
                if isinstance(profiler, ms.Profiler):
                    profiler.analyse()
        if self._done <= _SKIPPED:
            _logger.warning(
                "profile: nothing was profiled, since that begins after step %d of a process and "
                "this one ended after %d",
                _SKIPPED,
                self._done,
            )
        elif profiler is not None:
            steps = f"{_SKIPPED + 1} to {self._done}"
            _logger.info("profiled steps %s of this process: see %s", steps, self.folder)

    def _create(self):
        if not hasattr(ms.profiler, "profile"):  # before 2.6; the older class warns since then
            return ms.Profiler(output_path=str(self.folder), start_profile=False)
        kinds = ms.profiler.ProfilerActivity  # 2.3.1 has none
        activities = [kinds.CPU]
        if self.device_target == "Ascend":
            activities.append(kinds.NPU)
        handler = ms.profiler.tensorboard_trace_handler(str(self.folder))
        return ms.profiler.profile(
            activities=activities, on_trace_ready=handler, start_profile=False
        )

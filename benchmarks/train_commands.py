"""The training commands, this library's train.py and MindCV's: the first step, and whole runs.

    python benchmarks/train_commands.py {first_step,epochs} --mindcv-python PYTHON \\
        --mindcv-checkout FOLDER --photos FOLDER

FOLDER holds MindCV's train.py and config.py, which its package lacks: a checkout of its
repository's tag v0.3.0. They are copied into a temporary folder, so that they import the installed
package. Both commands get the same recipe, as one file.

`first_step` measures from the start of the process to the line that shows the first loss; MindCV
runs as it is, and at the fast level of oneDNN. `epochs` measures whole processes: reading,
augmenting, training, validating and saving; MindCV runs at the fast level only. PHOTOS holds
train/<class>/ and val/<class>/.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from sides import (
    ROOT,
    create_parser,
    environment,
    last_lines,
    library_versions,
    say,
    take_turns,
)
from tables import Table, markdown, write_results

FAST = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
ROWS = {"first_step": "process start to the end of the first step", "epochs": "whole run"}
FIRST_LOSS = re.compile(r"\bloss:? \d")  # both commands write it in a line of a step
# regnet_x_200mf's published recipe, in float32 and for a few epochs of a few photographs.
RECIPE = dict(
    val_while_train=True,
    num_parallel_workers=2,
    interpolation="bicubic",
    color_jitter=0.4,
    re_prob=0.1,
    label_smoothing=0.1,
    scheduler="cosine_decay",
    lr=0.01,
    min_lr=0.0,
    warmup_epochs=1,
    warmup_factor=0.01,
    opt="momentum",
    momentum=0.9,
    weight_decay=5e-5,
    dataset_sink_mode=False,
)
ONE_STEP = dict(
    model="regnet_x_800mf",
    batch_size=8,
    opt="adam",
    lr=0.001,
    epoch_size=1,
    warmup_epochs=0,
    decay_epochs=1,
    num_parallel_workers=2,
    log_interval=1,
    dataset_sink_mode=False,
)
EPOCHS = RECIPE | dict(
    model="regnet_x_200mf", batch_size=32, epoch_size=3, decay_epochs=2, log_interval=100
)


def main() -> None:
    parser = create_parser(__doc__.splitlines()[0])
    parser.add_argument("section", choices=("first_step", "epochs"))
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--mindcv-checkout", type=Path, required=True)
    asked = parser.parse_args()
    recipe = (ONE_STEP if asked.section == "first_step" else EPOCHS) | dict(
        data_dir=str(asked.photos.resolve())
    )
    if asked.quick:
        recipe |= dict(model="regnet_x_200mf", image_resize=64, batch_size=8)
    table = describe(asked, recipe)
    with tempfile.TemporaryDirectory() as folder:
        commands = Commands(Path(folder), recipe, asked)
        table.rows[ROWS[asked.section]] = take_turns(
            {name: lambda name=name: commands.seconds(name) for name in commands.variables},
            asked.rounds,
        )
    versions = library_versions(asked.mindcv_python)
    write_results(asked.json, [table], versions, is_finished=True)
    print(markdown(table))


def describe(asked, recipe: dict) -> Table:
    size = recipe.get("image_resize", 224)
    setting = f"{recipe['model']}, {size} pixels, batch {recipe['batch_size']}, {recipe['opt']}"
    if asked.section == "first_step":
        return Table("First step of train.py", setting, "s")
    train, val = (
        sum(1 for path in (asked.photos / split).rglob("*") if path.is_file())
        for split in ("train", "val")
    )
    setting += (
        f", {recipe['epoch_size']} epochs of {train} photographs, validation on {val} and a "
        "checkpoint after each"
    )
    return Table("Whole runs of train.py", setting, "s")


class Commands:
    """Runs the commands with the recipe, each time in a new run folder."""

    def __init__(self, folder: Path, recipe: dict, asked):
        self.folder, self.asked, self.runs = folder, asked, 0
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        self.variables = {"ours": {}, "MindCV, AVX2": FAST}
        if asked.section == "first_step":
            self.variables = {"ours": {}, "MindCV": {}, "MindCV, AVX2": FAST}
        for name in ("train.py", "config.py"):
            shutil.copy(asked.mindcv_checkout / name, folder)

    def seconds(self, name: str) -> float:
        """Run a side's command and return what the section measures."""
        self.runs += 1
        is_ours = name == "ours"
        script = ROOT / "train.py" if is_ours else self.folder / "train.py"
        python = sys.executable if is_ours else self.asked.mindcv_python
        run_folder = self.folder / f"run_{self.runs}"
        command = [python, script, "--config", self.recipe, "--ckpt_save_dir", run_folder]
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            start = time.perf_counter()
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env=environment(is_ours, **self.variables[name]),
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                text=True,
            )
            wait = until_first_loss if self.asked.section == "first_step" else until_end
            try:
                seconds = wait(process, start)
            finally:  # also what it started itself, and when this program is interrupted
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            if seconds is None:
                what = f"{name}'s train.py failed with code {process.returncode}"
                raise SystemExit(f"{what}: {last_lines(errors)}")
        shutil.rmtree(run_folder, ignore_errors=True)
        say(f"{name}: {seconds:.1f} s")
        return seconds


def until_first_loss(process: subprocess.Popen, start: float) -> float | None:
    """Return seconds until a line with a loss; None: there was none."""
    for line in process.stdout:
        if FIRST_LOSS.search(line):
            return time.perf_counter() - start
    process.wait()
    return None


def until_end(process: subprocess.Popen, start: float) -> float | None:
    """Return seconds until the process has ended; None: it failed."""
    for _ in process.stdout:
        pass
    return None if process.wait() else time.perf_counter() - start


if __name__ == "__main__":
    main()

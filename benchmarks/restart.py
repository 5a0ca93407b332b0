"""From the kill of a training to its next trained step: benchmarks/restart.py --photos FOLDER.

`mindcv supervise` runs train.py on photographs; the training is killed (kill -9) once it has saved
a checkpoint within its epoch, and restarted. The parts are those that the supervisor prints. Both
sides are this library: with the compile cache, which an earlier start has filled, and without it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
from sides import ROOT, create_parser, environment, say
from tables import Table, markdown, write_results
from train_commands import ONE_STEP

sys.path.insert(0, str(ROOT))
import mindcv  # noqa: E402

PARTS = re.compile(r"training ([\d.]+) s after the failure: (.*)")
SIDES = ("ours", "without the compile cache")
OPTIONS = ONE_STEP | dict(
    opt="momentum", lr=0.01, epoch_size=2, distribute=False, ckpt_save_steps=3
)


def main() -> None:
    parser = create_parser(__doc__.splitlines()[0].partition(":")[0])
    parser.add_argument("--photos", type=Path, required=True)
    arguments = parser.parse_args()
    model = "regnet_x_200mf" if arguments.quick else OPTIONS["model"]
    options = OPTIONS | {"model": model, "data_dir": arguments.photos.resolve()}
    rows: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="restart-") as folder:
        for number in range(arguments.rounds):
            for side in SIDES:
                say(f"round {number + 1}, {side}")
                cache = Path(folder, "graphs") if side == "ours" else "off"
                run = Path(folder, f"{number}-{side.split()[0]}")
                words = options | {"compile_cache": cache, "ckpt_save_dir": run}
                for part, seconds in restart(words, run).items():
                    rows.setdefault(part, {}).setdefault(side, []).append(seconds)
    setting = f"{model}, batch 8, one process, kill -9 after a checkpoint within the epoch"
    table = Table("From a kill to the next trained step", setting, "s", rows)
    versions = {"ours": f"{mindcv.__version__}, MindSpore {ms.__version__}"}
    write_results(arguments.json, [table], versions, is_finished=True)
    print(markdown(table))


def restart(options: dict, run: Path) -> dict[str, float]:
    """Kill a supervised training once; return the seconds of each part of its restart."""
    words = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    supervise = [sys.executable, "-m", "mindcv", "supervise", "--", sys.executable]
    process = subprocess.Popen(
        [*supervise, str(ROOT / "train.py"), *words],
        cwd=run.parent,
        env=environment(is_ours=True),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not list(run.glob("*-1_[0-9]*.json")):
            if process.poll() is not None:
                raise SystemExit(process.stderr.read())
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children.split()[0]), signal.SIGKILL)
        for line in process.stderr:
            if found := PARTS.search(line):
                parts = (part.rsplit(" ", 1) for part in found[2].split(", "))
                whole = {"kill to trained step": float(found[1])}
                return whole | {name: float(seconds) for name, seconds in parts}
        raise SystemExit("the training was not restarted")
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    main()

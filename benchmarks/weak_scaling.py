"""Measure weak scaling: train.py under msrun with 1 and 2 workers, the same images per worker.

    python benchmarks/weak_scaling.py PHOTOS [--model regnet_x_200mf] [--size 160] [--batch 16]
        [--steps 12] [--rounds 5] [--port 8218]

PHOTOS holds train/<class>/ with at least 2 x steps x batch images, as benchmarks/pipeline/
make_photos.py writes them. Each worker has one core of its own (--bind_core) and one thread for
reading. Three cases take turns: one worker; two workers of one run; two runs of one worker each at
the same time, which exchange nothing and so show what the second core is worth. A round gives the
images/s that the first rank logs at its end, without the first step, which compiles.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from sides import ROOT, environment, last_lines, take_turns

SPEED = re.compile(r"done in .*?(\d+) images/s")


def images_per_second(runs: list[int], asked: argparse.Namespace) -> int:
    """Train, all runs at once, each with its number of workers; return the images/s of them all."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        started = []
        for number, workers in enumerate(runs):
            place = Path(folder, str(number))
            place.mkdir()
            errors = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            mine, cores = cores[:workers], cores[workers:]
            command = ["taskset", "-c", ",".join(map(str, mine)), *training(workers, number, asked)]
            # msrun starts the "python" that PATH names.
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            started.append(
                (
                    place,
                    errors,
                    subprocess.Popen(
                        command,
                        cwd=place,
                        env=environment(is_ours=True, PATH=path),
                        stdout=errors,
                        stderr=errors,
                    ),
                )
            )
        return sum(speed(*run) for run in started)


def training(workers: int, number: int, asked: argparse.Namespace) -> list[str]:
    options = dict(
        ckpt_save_dir="run",
        model=asked.model,
        data_dir=asked.photos,
        image_resize=asked.size,
        batch_size=asked.batch,
        num_samples=asked.steps * asked.batch * workers,
        epoch_size=1,
        warmup_epochs=0,
        num_parallel_workers=1,
        opt="momentum",
        lr=0.01,
        distribute=True,
        val_while_train=False,
        dataset_sink_mode=False,
    )
    command = [Path(sys.executable).with_name("msrun"), "--bind_core=True", "--join=True"]
    command += [f"--worker_num={workers}", f"--local_worker_num={workers}"]
    command += [f"--master_port={asked.port + number}", "--log_dir=logs", ROOT / "train.py"]
    return [str(part) for part in command] + [f"--{key}={it}" for key, it in options.items()]


def speed(place: Path, errors: IO[str], process: subprocess.Popen) -> int:
    if code := process.wait():
        sys.exit(f"{place.name}: code {code}: {last_lines(errors)}")
    found = SPEED.search((place / "run" / "train.log").read_text(encoding="utf-8"))
    if found is None:
        sys.exit(f"{place.name}: the log names no images/s; take more --steps")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="regnet_x_200mf")
    for name, default in dict(size=160, batch=16, steps=12, rounds=5, port=8218).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    asked.photos = asked.photos.resolve()
    count = sum(1 for path in (asked.photos / "train").rglob("*") if path.is_file())
    if count < (needed := 2 * asked.steps * asked.batch):
        sys.exit(f"{asked.photos}/train holds {count} images; {needed} are needed")
    cases = {"one worker": [1], "two workers": [2], "two runs of one worker": [1, 1]}
    turns = {name: lambda runs=runs: images_per_second(runs, asked) for name, runs in cases.items()}
    speeds = take_turns(turns, asked.rounds)
    print(f"{asked.model}, {asked.size} pixels, {asked.batch} images per worker and step")
    print("| case | images/s, median | lowest … highest | to one worker |\n|---|---|---|---|")
    for name, found in speeds.items():
        ratio = statistics.median(b / a for a, b in zip(speeds["one worker"], found))
        spread = f"{min(found)} … {max(found)}"
        print(f"| {name} | {statistics.median(found):.0f} | {spread} | {ratio:.2f} |")


if __name__ == "__main__":
    main()

"""Measure weak scaling: train.py under msrun with 1 and 2 workers, the same images per worker.

    python benchmarks/weak_scaling.py PHOTOS [--model regnet_x_200mf] [--size 96] [--batch 16]
        [--steps 30] [--rounds 5] [--port 8218]

PHOTOS holds train/<class>/ with at least 2 x steps x batch images, as benchmarks/pipeline/
make_photos.py writes them. One and two workers take turns, each worker with one thread for reading;
a round gives the images/s that the first rank logs at its end, without the first step, which
compiles. Both workers share the machine's cores, so run it where there are at least two per worker
and nothing else runs; ideal is a ratio of 2.00, and on cores that one worker fills already, 1.00.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sides import ROOT, environment, last_lines, take_turns

SPEED = re.compile(r"done in .*?(\d+) images/s")


def images_per_second(workers: int, asked: argparse.Namespace) -> int:
    """Train with some workers; return the images/s of all of them together."""
    images = asked.steps * asked.batch * workers
    options = dict(
        model=asked.model,
        data_dir=asked.photos,
        image_resize=asked.size,
        batch_size=asked.batch,
        num_samples=images,
        epoch_size=1,
        warmup_epochs=0,
        num_parallel_workers=1,
        opt="momentum",
        lr=0.01,
        distribute=True,
        val_while_train=False,
        dataset_sink_mode=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("msrun"), f"--worker_num={workers}"]
        command += [f"--local_worker_num={workers}", f"--master_port={asked.port}", "--join=True"]
        command += [f"--log_dir={folder}/logs", ROOT / "train.py", f"--ckpt_save_dir={folder}/run"]
        command += [f"--{key}={value}" for key, value in options.items()]
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            done = subprocess.run(
                list(map(str, command)),
                cwd=folder,
                env=environment(is_ours=True),
                stdout=errors,
                stderr=errors,
            )
            if done.returncode:
                sys.exit(f"{workers} workers: code {done.returncode}: {last_lines(errors)}")
        found = SPEED.search(Path(folder, "run", "train.log").read_text(encoding="utf-8"))
        if found is None:
            sys.exit(f"{workers} workers: the log names no images/s; take more --steps")
        return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="regnet_x_200mf")
    for name, default in dict(size=96, batch=16, steps=30, rounds=5, port=8218).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    asked.photos = asked.photos.resolve()
    count = sum(1 for path in (asked.photos / "train").rglob("*") if path.is_file())
    if count < (needed := 2 * asked.steps * asked.batch):
        sys.exit(f"{asked.photos}/train holds {count} images; {needed} are needed")
    turns = {n: lambda n=n: images_per_second(n, asked) for n in (1, 2)}
    speeds = take_turns(turns, asked.rounds)
    ratios = [two / one for one, two in zip(*speeds.values())]
    print(f"{asked.model}, {asked.size} pixels, {asked.batch} images per worker and step")
    print("| workers | images/s, median | lowest … highest |\n|---|---|---|")
    for workers, found in speeds.items():
        print(f"| {workers} | {statistics.median(found):.1f} | {min(found)} … {max(found)} |")
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})")


if __name__ == "__main__":
    main()

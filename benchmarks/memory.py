"""Compare the memory that `python -m mindcv plan` expects of a training step with what it takes.

    python benchmarks/memory.py [--model regnet_x_200mf] [--batches 8 16 32] [--json FILE]

Each batch size runs in a process of its own on CPU, in float32 with momentum. Measured is what the
largest resident set grows by between the end of the imports and the end of the second step; the
growth per image between two batch sizes is free of what compiling and the libraries take.
"""

import argparse
import json
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
KILOBYTE = 1024  # the unit of ru_maxrss on Linux


def measure(model: str, batch: int, size: int) -> int:
    """Train two steps in this process; return the bytes that its largest resident set grew by."""
    import mindspore as ms
    import numpy as np

    import mindcv

    mindcv.engine.start_runtime()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = mindcv.create_model(model, num_classes=1000)
    optimizer = mindcv.create_optimizer(network, "momentum", lr=0.01)
    step = mindcv.engine.TrainStep(network, mindcv.create_loss(), optimizer)
    image = ms.Tensor(np.random.default_rng(0).random((batch, 3, size, size), np.float32))
    label = ms.Tensor(np.arange(batch) % 10, ms.int32)
    for _ in range(2):
        step(image, label)[0].asnumpy()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KILOBYTE


def measure_elsewhere(model: str, batch: int, size: int) -> int:
    """Return what `measure` finds in a new process, bytes."""
    words = [sys.executable, __file__, "--model", model, "--size", str(size), "--one", str(batch)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(model: str, batches: list[int], size: int) -> list[dict]:
    """Return a row of measured and planned bytes for each batch size, and for each growth."""
    from mindcv.design_space import SETTINGS
    from mindcv.tools.plan.estimate import card_memory

    plan = SETTINGS[model].plan()
    rows = []
    for batch in batches:
        planned = card_memory(plan, batch, size, opt="momentum", amp_level="O0", on_cpu=True)
        rows.append(
            dict(what=f"{batch} images", measured=measure_elsewhere(model, batch, size))
            | dict(planned=planned["sum"], batch=batch)
        )
    for small, large in pairwise(list(rows)):
        more = large["batch"] - small["batch"]
        growth = {key: (large[key] - small[key]) / more for key in ("measured", "planned")}
        what = f"an image more, {small['batch']} to {large['batch']}"
        rows.append(dict(what=what, batch=more) | growth)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="regnet_x_200mf")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.model, asked.one, asked.size)))
        return
    rows = compare(asked.model, asked.batches, asked.size)
    print(f"| {asked.model}, {asked.size} pixels | measured, MB | planned, MB | ratio |")
    print("|---|---|---|---|")
    for row in rows:
        mega = [row[key] / 1e6 for key in ("measured", "planned")]
        print(f"| {row['what']} | {mega[0]:.1f} | {mega[1]:.1f} | {mega[0] / mega[1]:.2f} |")
    if asked.json:
        Path(asked.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

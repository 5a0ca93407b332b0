"""Compare the graph compilation levels O0 and O1 on CPU: compile time and training speed.

    python benchmarks/jit_level.py [--model regnet_x_200mf] [--size 64] [--batch 32] [--rounds 5]

Each round runs both levels in turn, in processes of their own, so that a machine whose speed drifts
treats them alike; the table shows medians and the median of the paired ratios.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
STEPS = 8


def measure(model: str, size: int, batch: int, level: str) -> dict[str, float]:
    """Train a few steps in this process; return seconds."""
    import mindspore as ms
    import numpy as np

    import mindcv

    mindcv.engine.start_runtime(jit_level=level)
    network = mindcv.create_model(model, num_classes=10)
    optimizer = mindcv.create_optimizer(network, "momentum", lr=0.01)
    step = mindcv.engine.TrainStep(network, mindcv.create_loss(), optimizer)
    image = ms.Tensor(np.random.default_rng(0).random((batch, 3, size, size), np.float32))
    label = ms.Tensor(np.arange(batch) % 10, ms.int32)
    seconds = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        step(image, label)[0].asnumpy()
        seconds.append(time.perf_counter() - start)
    return {"first step": seconds[0], "step": statistics.median(seconds[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="regnet_x_200mf")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--level", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.level:
        print(json.dumps(measure(asked.model, asked.size, asked.batch, asked.level)))
        return
    found = {"O0": [], "O1": []}
    for _ in range(asked.rounds):
        for level, results in found.items():
            words = [sys.executable, __file__, "--level", level, "--model", asked.model]
            words += ["--size", str(asked.size), "--batch", str(asked.batch)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{asked.model}, {asked.size} pixels, batch {asked.batch}, {asked.rounds} rounds")
    print("| | O0 | O1 | O1 / O0 |\n|---|---|---|---|")
    for name in ("first step", "step"):
        pairs = [(zero[name], one[name]) for zero, one in zip(found["O0"], found["O1"])]
        zero, one = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {name} | {zero:.2f} s | {one:.2f} s | {ratio:.2f} |")


if __name__ == "__main__":
    main()

"""Compile time and step time of each optimizer beside MindCV's, on random gradients.

    python benchmarks/optimizers.py --peer PYTHON [--rounds 5] [--model NAME] [--json FILE]

PYTHON is one of an environment with mindcv==0.3.0 and the same MindSpore; without it only this
library is measured. A round runs each side in a process of its own, in turn. The graph holds the
optimizer and nothing else; its compile time is the first call's less a step's, after a small graph
that warms the process up. A time without a value means that the optimizer does not run on CPU.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = "sgd momentum adam adamw nadam adan lion lamb rmsprop adagrad".split()


def measure(model: str, names: list[str], steps: int) -> dict[str, dict | None]:
    """Return seconds to compile and seconds a step of the optimizers of the imported mindcv."""
    import mindspore as ms
    import numpy as np

    from mindcv.models import create_model
    from mindcv.optim import create_optimizer

    def run(network, name):
        optimizer = create_optimizer(network, name, lr=[1e-3] * 100, weight_decay=1e-4)
        draw = np.random.default_rng(0).standard_normal
        gradients = tuple(ms.Tensor(draw(w.shape), ms.float32) for w in optimizer.parameters)
        seconds = []
        for _ in range(1 + steps):
            start = time.perf_counter()
            optimizer(gradients)
            ms.hal.synchronize()
            optimizer.parameters[-1].asnumpy()
            seconds.append(time.perf_counter() - start)
        step = statistics.median(seconds[1:])
        return {"compile": seconds[0] - step, "step": step}

    ms.set_context(mode=ms.GRAPH_MODE)
    run(ms.nn.Dense(3, 2), "sgd")
    network, found = create_model(model), {}
    for name in names:
        try:
            found[name] = run(network, name)
        except (RuntimeError, TypeError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            found[name] = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="Python of an environment with MindCV")
    parser.add_argument("--model", default="regnet_x_800mf")
    parser.add_argument("--opt", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the times there, too")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(measure(asked.model, asked.opt, asked.steps)))
        return
    pythons = {"ours": sys.executable} | ({"MindCV": asked.peer} if asked.peer else {})
    rounds = [
        {side: run_side(side, python, asked) for side, python in pythons.items()}
        for _ in range(asked.rounds)
    ]
    print(report(asked, rounds))
    if asked.json:
        asked.json.write_text(json.dumps({"model": asked.model, "rounds": rounds}, indent=1))


def run_side(side: str, python: str, asked) -> dict[str, dict | None]:
    words = [python, __file__, "--side", "--model", asked.model, "--steps", str(asked.steps)]
    path = {"PYTHONPATH": str(ROOT) if side == "ours" else ""}
    done = subprocess.run(
        [*words, "--opt", *asked.opt],
        env={**os.environ, "GLOG_v": "4", **path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(asked, rounds: list[dict]) -> str:
    import mindspore

    lines = [
        f"{asked.model}, {asked.rounds} rounds of {asked.steps} steps; {os.cpu_count()} cores, "
        f"{platform.machine()}, MindSpore {mindspore.__version__}; medians (lowest-highest), ratio "
        "of the medians; load at the end "
        f"{os.getloadavg()[0]:.1f}\n",
        "| | compile, s: ours | MindCV | ratio | step, ms: ours | MindCV | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in asked.opt:
        cells = [name]
        for part, factor, digits in (("compile", 1, 2), ("step", 1e3, 1)):
            ours, peer = (
                [
                    factor * found[side][name][part]
                    for found in rounds
                    if found.get(side, {}).get(name)
                ]
                for side in ("ours", "MindCV")
            )
            for times in (ours, peer):
                cells.append(
                    f"{statistics.median(times):.{digits}f} "
                    f"({min(times):.{digits}f}-{max(times):.{digits}f})"
                    if times
                    else "-"
                )
            both = ours and peer
            cells.append(
                f"{statistics.median(ours) / statistics.median(peer):.2f}" if both else "-"
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Which oneDNN implementations a training step runs, and where its time goes.

    python benchmarks/primitives.py [MODEL …] [--batch_size 2] [--image_size 64]

A row a model: the implementations of its convolutions and normalisation with their share of
oneDNN's time, as ONEDNN_VERBOSE prints them, and oneDNN's share of the step. `ref` is reference
code, to be avoided. Without names: all models, each in a process of its own.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter

_MARK = "second step took"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--step", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        _take_two_steps(arguments.models[0], arguments.batch_size, arguments.image_size)
        return
    print("| model | oneDNN implementations, share of its time | oneDNN's share of the step |")
    print("|---|---|---|")
    for model in arguments.models or _all_models():
        words = [__file__, model, "--step", "--batch_size", str(arguments.batch_size)]
        done = subprocess.run(
            [sys.executable, *words, "--image_size", str(arguments.image_size)],
            env={**os.environ, "ONEDNN_VERBOSE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        print(f"| {model} | {' | '.join(_shares(done.stdout))} |", flush=True)


def _all_models() -> list[str]:
    from mindcv import list_models

    return list_models()


def _take_two_steps(model: str, batch_size: int, image_size: int) -> None:
    import mindspore as ms
    import numpy as np

    import mindcv
    from mindcv.engine import TrainStep

    ms.set_context(mode=ms.GRAPH_MODE)
    network = mindcv.create_model(model, num_classes=10)
    optimizer = mindcv.create_optimizer(network, "momentum", lr=0.01)
    step = TrainStep(network, mindcv.create_loss(), optimizer)
    images = ms.Tensor(np.ones((batch_size, 3, image_size, image_size), np.float32))
    labels = ms.Tensor(np.zeros(batch_size, np.int32))
    step(images, labels)[0].asnumpy()
    print(f"\n{_MARK}", flush=True)
    began = time.perf_counter()
    step(images, labels)[0].asnumpy()
    print(f"\n{_MARK} {time.perf_counter() - began}", flush=True)


def _shares(printed: str) -> tuple[str, str]:
    _, second, seconds = printed.split(_MARK)
    times = Counter()
    # …,exec,cpu,<primitive>,<implementation>,<direction>,…,<milliseconds>
    for found in re.finditer(r",exec,cpu,(\w+),([^,]+),.*,([\d.]+)$", second, re.MULTILINE):
        times[found[1], found[2]] += float(found[3])
    total = sum(times.values())
    shown = [f"{kind} {name} {t / total:.0%}" for (kind, name), t in times.most_common()]
    return ", ".join(shown), f"{total / float(seconds) / 1000:.0%}"


if __name__ == "__main__":
    main()

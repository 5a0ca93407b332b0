"""Draw RegNets and count their costs: networks per second, beside pycls in the same run.

    PEERS_PYTHON=/path/to/env/bin/python python benchmarks/sampling.py

PEERS_PYTHON has torch and pycls 0.1.1. Both draw from the ranges of the paper's RegNetX (section
3.3) and count parameters, multiply-accumulates and activations of each candidate; pycls one after
another, by the functions that its sweeps call, we in blocks of arrays. Then 500 networks of 360 to
400 million multiply-accumulates and four stages. Both sides count 300 networks that we drew alike.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROUNDS, OURS, THEIRS = 5, 1 << 17, 400  # candidates of a round


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from mindcv.tools.design_space.sampling import _candidates, _expand, sample
    from mindcv.tools.design_space.spaces import SPACES

    space = replace(SPACES["regnet_x"], constraints=())
    command = [os.environ.get("PEERS_PYTHON", sys.executable), __file__, "--peer"]
    peer = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(question) -> list:
        print(json.dumps(question), file=peer.stdin, flush=True)
        return json.loads(peer.stdout.readline())

    # pycls counts outputs of the classifier as activations, and additions of its bias.
    lines = sample(space, 300)
    ours = [[line["params"], line["activations"] + 1000, line["macs"] + 1000] for line in lines]
    theirs = ask([line["model"]["arguments"] for line in lines])
    assert ours == theirs, "the sides count differently"

    rates = []
    for seed in range(ROUNDS):
        begin, counted = time.perf_counter(), 0
        for candidates in _candidates(space, seed):
            costs = _expand(space, candidates, num_classes=1000)._costs(224)
            counted += len(costs.params)
            if counted >= OURS:
                break
        ours = counted / (time.perf_counter() - begin)
        rates.append((ours, *ask(seed)))
    peer.stdin.close()
    peer.wait()
    columns = [sorted(column) for column in zip(*rates)]
    ratios = sorted(ours / theirs for ours, theirs in rates)
    middle = ROUNDS // 2
    print("| RegNetX, 224 pixels | ours | pycls 0.1.1 | ratio |")
    print("|---|---|---|---|")
    spread = [f"{c[middle]:,.0f} ({c[0]:,.0f} … {c[-1]:,.0f})" for c in columns]
    ratio = f"{ratios[middle]:.0f} ({ratios[0]:.0f} … {ratios[-1]:.0f})"
    print(f"| drawn and counted, networks a second | {' | '.join(spread)} | {ratio} |")
    seconds = []
    for seed in range(ROUNDS):
        begin = time.perf_counter()
        sample(SPACES["regnet_x"], 500, seed=seed, limits={"macs": (360e6, 400e6)})
        seconds.append(time.perf_counter() - begin)
    seconds.sort()
    figures = f"{seconds[middle]:.2f} ({seconds[0]:.2f} … {seconds[-1]:.2f})"
    print(f"| 500 of 360 to 400 million MACs, seconds | {figures} | | |")


def peer() -> None:
    """Answer settings with their costs, and a seed with candidates per second."""
    from pycls.core import net
    from pycls.core.config import cfg
    from pycls.models.regnet import RegNet

    cfg.TRAIN.IM_SIZE, cfg.MODEL.NUM_CLASSES = 224, 1000

    def count(values) -> list:
        names = ("WA", "W0", "WM", "DEPTH", "GROUP_W", "BOT_MUL")
        for name, value in zip(names, values):
            cfg.REGNET[name] = value
        costs = net.complexity(RegNet)
        return [costs["params"], costs["acts"], costs["flops"]]

    for line in sys.stdin:
        question = json.loads(line)
        if isinstance(question, list):
            keys = ("w_a", "w_0", "w_m", "d", "group_w", "bot_mul")
            answer = [count([setting[key] for key in keys]) for setting in question]
        else:
            rng, begin = np.random.default_rng(question), time.perf_counter()
            for _ in range(THEIRS):
                count(
                    (
                        round(float(np.exp(rng.uniform(np.log(8), np.log(256)))), 1),
                        int(np.ceil(np.exp(rng.uniform(np.log(4), np.log(248))) / 8)) * 8,
                        round(float(np.exp(rng.uniform(np.log(1.5), np.log(3)))), 3),
                        int(rng.integers(1, 64)),
                        2 ** int(rng.integers(0, 6)),
                        0.5 ** int(rng.integers(0, 3)),
                    )
                )
            answer = [THEIRS / (time.perf_counter() - begin)]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    peer() if "--peer" in sys.argv else main()

"""Draw RegNets and count their costs: networks per second, beside pycls in the same run.

    PEERS_PYTHON=/path/to/env/bin/python python benchmarks/sampling.py

PEERS_PYTHON has torch and pycls 0.1.1. Both draw from the ranges of the paper's RegNetX (section
3.3) and count parameters, multiply-accumulates and activations; pycls one network after another, by
the functions that its sweeps call, we in blocks of arrays: of all candidates, and of those of four
stages, as the paper's are. Both sides must count 300 networks alike.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROUNDS, OURS, THEIRS = 5, 1 << 18, 2000  # candidates of a round


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from mindcv.tools.design_space.sampling import sample
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

    print("| RegNetX, 224 pixels, candidates a second | ours | pycls 0.1.1 | ratio |")
    print("|---|---|---|---|")
    for what, four in (("all counted", False), ("those of four stages counted", True)):
        drawn = SPACES["regnet_x"] if four else space
        rates = [(_rate(drawn, seed), *ask([seed, four])) for seed in range(ROUNDS)]
        columns = [sorted(column) for column in zip(*rates)]
        columns.append(sorted(ours / theirs for ours, theirs in rates))
        cells = (f"{c[ROUNDS // 2]:,.0f} ({c[0]:,.0f} … {c[-1]:,.0f})" for c in columns)
        print(f"| {what} | {' | '.join(cells)} |")
    peer.stdin.close()
    peer.wait()
    seconds = []
    for seed in range(ROUNDS):
        begin = time.perf_counter()
        sample(SPACES["regnet_x"], 500, seed=seed, limits={"macs": (360e6, 400e6)})
        seconds.append(time.perf_counter() - begin)
    seconds.sort()
    middle = seconds[ROUNDS // 2]
    print(
        f"\n500 of four stages and 360 to 400 million multiply-accumulates: {middle:.2f} s "
        f"({seconds[0]:.2f} … {seconds[-1]:.2f})"
    )


def _rate(space, seed: int) -> float:
    """Return how many candidates a second are drawn, and counted if they meet the constraints."""
    from mindcv.design_space.complexity import complexities
    from mindcv.tools.design_space import sampling

    begin, drawn = time.perf_counter(), 0
    for candidates in sampling._candidates(space, seed):
        like, stages = sampling.expand(space, candidates, num_classes=1000)
        complexities(like, **stages, image_size=224)
        drawn += sampling._BLOCK
        if drawn >= OURS:
            return drawn / (time.perf_counter() - begin)


def peer() -> None:
    """Answer settings with their costs, and (seed, four stages only) with candidates a second."""
    from pycls.core import net
    from pycls.core.config import cfg
    from pycls.models.regnet import RegNet, generate_regnet

    cfg.TRAIN.IM_SIZE, cfg.MODEL.NUM_CLASSES = 224, 1000

    def count(values, four: bool = False) -> list:
        if four and generate_regnet(*values[:4])[1:3] != (4, 4):
            return []
        names = ("WA", "W0", "WM", "DEPTH", "GROUP_W", "BOT_MUL")
        for name, value in zip(names, values):
            cfg.REGNET[name] = value
        costs = net.complexity(RegNet)
        return [costs["params"], costs["acts"], costs["flops"]]

    for line in sys.stdin:
        question = json.loads(line)
        if isinstance(question[0], dict):
            keys = ("w_a", "w_0", "w_m", "d", "group_w", "bot_mul")
            answer = [count([setting[key] for key in keys]) for setting in question]
        else:
            seed, four = question
            rng, begin = np.random.default_rng(seed), time.perf_counter()
            for _ in range(THEIRS):
                count(
                    (
                        round(float(np.exp(rng.uniform(np.log(8), np.log(256)))), 1),
                        int(np.ceil(np.exp(rng.uniform(np.log(4), np.log(248))) / 8)) * 8,
                        round(float(np.exp(rng.uniform(np.log(1.5), np.log(3)))), 3),
                        int(rng.integers(1, 64)),
                        2 ** int(rng.integers(0, 6)),
                        0.5 ** int(rng.integers(0, 3)),
                    ),
                    four,
                )
            answer = [THEIRS / (time.perf_counter() - begin)]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    peer() if "--peer" in sys.argv else main()

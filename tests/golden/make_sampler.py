"""Make repeat_sampler.json: lengths and indices of timm's RepeatAugSampler for data/test_data.py.

Run with torch and timm: `python make_sampler.py`.
"""

import json
from pathlib import Path

import torch

torchvision = torch.library.Library("torchvision", "DEF")
torchvision.define("nms(Tensor a, Tensor b, float c) -> Tensor")
torchvision.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

from timm.data.distributed_sampler import RepeatAugSampler  # noqa: E402


def main():
    cases = []
    for size in (1, 5, 6, 12, 255, 256, 257, 511, 520, 1000, 1281167):
        for shards in (1, 2, 3, 8):
            for repeats in (2, 3):
                sampler = RepeatAugSampler(range(size), shards, 0, num_repeats=repeats)
                cases.append([size, shards, repeats, len(sampler)])
    positions = {}  # without shuffling, an index is the position in the epoch's random order
    for size, shards, repeats in ((12, 2, 3), (7, 3, 2), (5, 2, 3), (300, 4, 3)):
        positions[f"{size} {shards} {repeats}"] = [
            list(RepeatAugSampler(range(size), shards, rank, False, repeats))
            for rank in range(shards)
        ]
    golden = {"lengths": cases, "positions": positions}
    Path(__file__).with_name("repeat_sampler.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()

"""What the work that was moved into the graph costs there on CPU."""

import statistics
import time

import mindspore as ms
import numpy as np
from cases import BATCH, SIDE
from mindspore import Tensor, ops

from mindcv.data import create_normalize


def main() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype(np.uint8)
    normalize = create_normalize("imagenet")
    cells = {
        "planes and normalised float32 of uint8 (N, H, W, C)": normalize,
        "of these the planes": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    }
    print("| in the graph, on CPU | ms/image |\n|---|---|")
    for name, cell in cells.items():
        image = Tensor(pixels)
        cell(image).asnumpy()
        times = []
        for _ in range(15):
            begin = time.perf_counter()
            cell(image).asnumpy()
            times.append(1e3 * (time.perf_counter() - begin) / BATCH)
        print(f"| {name} | {statistics.median(times):.2f} |")


if __name__ == "__main__":
    main()

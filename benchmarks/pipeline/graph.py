"""What the work that was moved into the graph costs there on CPU."""

import statistics
import time

import mindspore as ms
import numpy as np
from cases import BATCH, CASES, SIDE
from mindspore import Tensor, ops

from mindcv.data import Normalize, channel_statistics, create_normalize, create_transforms


class OfPlanes(Normalize):
    """The same of images that come as planes: what is left where the host makes them."""

    def construct(self, x):
        return (ops.cast(x, ms.float32) - self.mean) / self.std


def main() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype(np.uint8)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    statistics_of_imagenet = channel_statistics("imagenet")
    cells = {
        "normalise (N, H, W, 3) uint8": (Normalize(*statistics_of_imagenet), Tensor(pixels)),
        "normalise (N, 3, H, W) uint8": (OfPlanes(*statistics_of_imagenet), Tensor(planes)),
    }
    print("| in the graph, on CPU | ms/image | CPU ms/image |\n|---|---|---|")
    for case in ("crop+flip", "recipe"):
        on_device = dict(normalize_on_device=True, augment_on_device=True)
        transform = create_transforms("imagenet", SIDE, **on_device, **CASES[case])
        draws = Tensor(transform[-1].draw(BATCH, np.random.default_rng(0)))
        cell = create_normalize("imagenet", transform=transform)
        cells[f"what {case} leaves to the device"] = (cell, Tensor(pixels), draws)
    for name, (cell, *images) in cells.items():
        cell(*images).asnumpy()
        rounds = []
        for _ in range(15):
            begin, used = time.perf_counter(), time.process_time()
            cell(*images).asnumpy()
            rounds.append((time.perf_counter() - begin, time.process_time() - used))
        columns = [f"{1e3 * statistics.median(times) / BATCH:.2f}" for times in zip(*rounds)]
        print(f"| {name} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()

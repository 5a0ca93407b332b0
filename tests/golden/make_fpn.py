"""Write fpn.npz: torchvision's feature pyramid on three small maps, with its weights.

Needs torch and torchvision. `python tests/golden/make_fpn.py`.
"""

from pathlib import Path

import numpy as np
import peers  # noqa: F401  # first: it lets torchvision be imported
import torch
from torchvision.ops import FeaturePyramidNetwork

CHANNELS = (3, 4, 6)


def main() -> None:
    rng = np.random.default_rng(11)
    maps = [rng.standard_normal((2, c, 12 // 2**i, 8 // 2**i)) for i, c in enumerate(CHANNELS)]
    network = FeaturePyramidNetwork(list(CHANNELS), 5).double()
    arrays = {f"map {level}": values for level, values in enumerate(maps)}
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(torch.from_numpy(rng.standard_normal(tuple(weight.shape))))
            arrays[name] = weight.numpy()
        found = network({str(level): torch.from_numpy(values) for level, values in enumerate(maps)})
    arrays |= {f"out {level}": values.numpy() for level, values in found.items()}
    np.savez_compressed(
        Path(__file__).with_name("fpn.npz"), **{k: np.float32(v) for k, v in arrays.items()}
    )


if __name__ == "__main__":
    main()

"""timm's and torchvision's RegNets with the weights of fill.py, and what they answer.

Needs torch, timm and torchvision. `python tests/golden/peers.py MODEL OUT.npz 224x224 192x192`
writes the logits of one network, by this library's name for it, to OUT.npz: key
"timm 224x224", and "torchvision 224x224" where torchvision has the network, float64 (1000,) each.

The networks are evaluated in float64 from float32 weights, so that the answers carry no rounding of
their own. torchvision's compiled operators may not load (they want the torch they were built
for); RegNets need none of them, so two empty ones are defined before the import.
"""

import re
import sys

import numpy as np
import torch
from fill import fill, images

torch.set_num_threads(1)
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402

SIZES = "200mf 400mf 600mf 800mf 1_6gf 3_2gf 4_0gf 6_4gf 8_0gf 12gf 16gf 32gf".split()
# The names of this library, timm and torchvision. torchvision rounds the widths of three networks
# its own way: its regnet_x_400mf is not the paper's, and has another name here.
TIMM = {
    f"regnet_{family}_{size}": f"regnet{family}_{number}"
    for family in "xy"
    for size, number in zip(
        SIZES, "002 004 006 008 016 032 040 064 080 120 160 320".split(), strict=True
    )
} | {
    "regnet_x_400mf_tv": "regnetx_004_tv",
    "regnet_y_800mf_tv": "regnety_008_tv",
    "regnet_y_8_0gf_tv": "regnety_080_tv",
    "regnet_y_128gf": "regnety_1280",
}
TORCHVISION = {
    "regnet_x_400mf_tv": "regnet_x_400mf",
    "regnet_x_800mf": "regnet_x_800mf",
    "regnet_x_1_6gf": "regnet_x_1_6gf",
    "regnet_x_3_2gf": "regnet_x_3_2gf",
    "regnet_x_8_0gf": "regnet_x_8gf",
    "regnet_x_16gf": "regnet_x_16gf",
    "regnet_x_32gf": "regnet_x_32gf",
    "regnet_y_400mf": "regnet_y_400mf",
    "regnet_y_800mf_tv": "regnet_y_800mf",
    "regnet_y_1_6gf": "regnet_y_1_6gf",
    "regnet_y_3_2gf": "regnet_y_3_2gf",
    "regnet_y_8_0gf_tv": "regnet_y_8gf",
    "regnet_y_16gf": "regnet_y_16gf",
    "regnet_y_32gf": "regnet_y_32gf",
    "regnet_y_128gf": "regnet_y_128gf",
}

_TIMM_PARTS = (
    (r"\bs(\d)\.b(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{int(m[2]) - 1}."),
    (r"downsample\.conv\.", "proj."),
    (r"downsample\.bn\.", "bn."),
    (r"conv1\.conv\.", "f.a."),
    (r"conv1\.bn\.", "f.a_bn."),
    (r"conv2\.conv\.", "f.b."),
    (r"conv2\.bn\.", "f.b_bn."),
    (r"conv3\.conv\.", "f.c."),
    (r"conv3\.bn\.", "f.c_bn."),
    (r"\bse\.fc1\.", "f.se.conv_reduce."),
    (r"\bse\.fc2\.", "f.se.conv_expand."),
)
_TORCHVISION_PARTS = (
    (
        r"trunk_output\.block(\d)\.block\d-(\d+)\.",
        lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}.",
    ),
    (r"stem\.0\.", "stem.conv."),
    (r"stem\.1\.", "stem.bn."),
    (r"proj\.0\.", "proj."),
    (r"proj\.1\.", "bn."),
    (r"\bf\.([abc])\.0\.", r"f.\1."),
    (r"\bf\.([abc])\.1\.", r"f.\1_bn."),
    (r"\bf\.se\.fc1\.", "f.se.conv_reduce."),
    (r"\bf\.se\.fc2\.", "f.se.conv_expand."),
    (r"^fc\.", "head.fc."),
)
_NORMALISATION = (
    (r"bn\.weight$", "bn.gamma"),
    (r"bn\.bias$", "bn.beta"),
    (r"running_mean$", "moving_mean"),
    (r"running_var$", "moving_variance"),
)


def build(name: str, peer: str = "timm", dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    """Return a peer's network, given by this library's name, with the weights of fill.py."""
    if peer == "timm":
        network = timm.create_model(TIMM[name])
    else:
        network = getattr(torchvision.models, TORCHVISION[name])()
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(fill(canonical(key), tuple(tensor.shape))))
    return network.to(dtype).eval()


def canonical(name: str) -> str:
    """Translate timm's or torchvision's parameter name into this library's."""
    parts = _TIMM_PARTS
    if name.startswith("trunk_output") or re.match(r"stem\.\d|fc\.", name):
        parts = _TORCHVISION_PARTS
    for pattern, replacement in parts + _NORMALISATION:
        name = re.sub(pattern, replacement, name)
    return name


def logits(network: torch.nn.Module, size: str, batch: int = 1) -> np.ndarray:
    """Return the logits, (1000,), of the last of so many images of a size like 224x160."""
    height, width = (int(side) for side in size.split("x"))
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        return network(torch.from_numpy(images((batch, 3, height, width))).to(dtype)).numpy()[-1]


def main(name: str, out: str, *sizes: str) -> None:
    answers = {}
    for peer, names in (("timm", TIMM), ("torchvision", TORCHVISION)):
        if name in names:
            network = build(name, peer)
            answers |= {f"{peer} {size}": logits(network, size) for size in sizes}
    np.savez(out, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write explain.npz: Grad-CAM and features of a picture by torch, on timm's regnety_004.

Needs torch, torchvision and timm. `python tests/golden/make_explain.py`. The weights are those of
fill.py, in float64; the gradient comes from torch's autograd, by a hook on the last stage.
"""

from pathlib import Path

import numpy as np
import peers  # first: it lets torchvision be imported
import torch
from evaluation_cases import picture

MEAN, STD = (np.array(v) * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
CLASSES = (7, 500)


def main() -> None:
    network = peers.build("regnet_y_400mf")
    kept = {}

    def keep(module, inputs, output):
        kept["maps"] = output
        output.retain_grad()

    hook = network.s4.register_forward_hook(keep)
    image = torch.from_numpy(((picture(96, 96) - MEAN) / STD).transpose(2, 0, 1)[None])
    arrays = {}
    for index in CLASSES:
        network(image.requires_grad_())[0, index].backward()
        maps = kept["maps"]
        weights = maps.grad.mean((2, 3), keepdim=True)
        arrays[f"cam {index}"] = torch.relu((weights * maps).sum(1))[0].detach().numpy()
    hook.remove()
    with torch.no_grad():
        features = network.forward_head(network.forward_features(image), pre_logits=True)
    arrays["features"] = features[0].numpy()
    np.savez_compressed(Path(__file__).with_name("explain.npz"), **arrays)


if __name__ == "__main__":
    main()

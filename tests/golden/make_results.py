"""Write results.npz: the figures of classes by scikit-learn, several views of a picture by timm.

Needs scikit-learn, torch, torchvision, timm and Pillow. `python tests/golden/make_results.py`.
`labels` and `predicted` are made up: class 3 has no image, class 4 is never predicted, class 5
neither. The views are torchvision's `FiveCrop` of pictures of evaluation_cases.py; the
probabilities are the means over views of the softmax of timm's regnetx_002, in float64.
"""

from pathlib import Path

import numpy as np
import peers  # first: it lets torchvision be imported
import torch
from evaluation_cases import picture
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torchvision import transforms

MEAN, STD = (np.array(v) * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
PICTURES, SIDE, CROP_PCT = ((90, 121), (133, 84)), 64, 0.875


def figures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], 80)
    predicted = np.where(rng.random(80) < 0.6, labels, rng.choice([0, 1, 2, 3], 80))
    predicted[predicted == 4] = 0
    found = {"labels": labels, "predicted": predicted}
    found["confusion"] = confusion_matrix(labels, predicted, labels=range(6))
    how = dict(zero_division=0)
    found["classes"] = np.array(
        precision_recall_fscore_support(labels, predicted, labels=range(6), **how)
    )
    for average in ("macro", "weighted"):
        means = precision_recall_fscore_support(labels, predicted, average=average, **how)
        found[average] = np.array(means[:3])
    return found


def views(height: int, width: int) -> np.ndarray:
    image = Image.fromarray(picture(height, width))
    image = transforms.Resize(int(SIDE / CROP_PCT))(image)
    return np.stack([np.asarray(crop) for crop in transforms.FiveCrop(SIDE)(image)])


def probabilities(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    planes = ((images - MEAN) / STD).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return network(torch.from_numpy(planes)).softmax(1).mean(0).numpy()


def main() -> None:
    network = peers.build("regnet_x_200mf")
    arrays = figures()
    for number, size in enumerate(PICTURES):
        crops = views(*size)
        mirrored = crops[:, :, ::-1]
        arrays |= {
            f"views {number}": crops,
            f"flip {number}": probabilities(network, np.stack([crops[4], mirrored[4]])),
            f"5crop {number}": probabilities(network, crops),
            f"10crop {number}": probabilities(network, np.concatenate([crops, mirrored])),
        }
    np.savez_compressed(Path(__file__).with_name("results.npz"), **arrays)


if __name__ == "__main__":
    main()

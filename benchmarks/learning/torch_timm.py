"""The other side, torch and timm: `torch_timm.py curve WORK [float64]`, `… accuracy WORK SEED`.

Prints one JSON line. Network, transforms, loss and schedule are timm's, the optimizer torch's. The
first weights are those that ours.py wrote to WORK.
"""

import json
import sys
from pathlib import Path

import numpy as np
import recipe

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests" / "golden"))
import peers  # before timm: see its docstring
import torch
from PIL import Image
from timm.data import create_transform
from timm.loss import LabelSmoothingCrossEntropy
from timm.scheduler import CosineLRScheduler

UNIT = {"mean": (recipe.MEAN / 255,) * 3, "std": (recipe.STD / 255,) * 3}  # timm's 0-1 scale


def curve(work: Path, dtype: torch.dtype) -> list[float]:
    """Return the first losses without augmentation."""
    images, labels = recipe.digits(work, "train")
    batches = recipe.batches(0, 0, recipe.CURVE_BATCH)
    network = first_network(recipe.initial_weights(work, "curve", 0)).to(dtype)
    sgd = torch.optim.SGD(network.parameters(), lr=recipe.CURVE["lr"], **recipe.SGD)
    trainer = Trainer(network, sgd, len(batches), recipe.CURVE)
    losses = []
    for which in batches[: recipe.CURVE_STEPS]:
        # Contiguous: torch's kernel for the other layout adds up an image's constant background one
        # pixel after the other, and its float32 mean is wrong by 3e-5.
        image = torch.from_numpy(np.ascontiguousarray(images[which].transpose(0, 3, 1, 2)))
        image = (image.to(dtype) - recipe.MEAN) / recipe.STD
        losses.append(trainer.step(image, torch.from_numpy(labels[which]).long()))
    return losses


def accuracy(work: Path, seed: int) -> dict:
    """Return the mean loss of each epoch with augmentation, and the final top-1 in percent."""
    peers.timm.utils.random_seed(seed)
    network = first_network(recipe.initial_weights(work, "accuracy", seed))
    adamw = torch.optim.AdamW(network.parameters(), lr=recipe.ACCURACY["lr"], **recipe.ADAMW)
    steps = len(recipe.batches(seed, 0, recipe.BATCH))
    trainer = Trainer(network, adamw, steps, recipe.ACCURACY)
    augment = create_transform(
        recipe.SIDE, is_training=True, auto_augment=f"rand-{recipe.POLICY}", **recipe.CROP, **UNIT
    )
    images, labels = recipe.digits(work, "train")
    losses = []
    for epoch in range(recipe.ACCURACY["num_epochs"]):
        batches = recipe.batches(seed, epoch, recipe.BATCH)
        losses.append(np.mean([trainer.step(*batch(images, labels, w, augment)) for w in batches]))
        print(f"timm, seed {seed}, epoch {epoch}: loss {losses[-1]:.4f}", file=sys.stderr)
    images, labels = recipe.digits(work, "val")
    plain = create_transform(recipe.SIDE, crop_pct=1.0, interpolation="bilinear", **UNIT)
    network.eval()
    hits = 0
    with torch.no_grad():
        for which in np.split(np.arange(len(labels)), 10):
            image, label = batch(images, labels, which, plain)
            hits += int((network(image).argmax(1) == label).sum())
    return {"losses": [float(loss) for loss in losses], "top1": 100.0 * hits / len(labels)}


def batch(images, labels, which, transform) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.stack([transform(Image.fromarray(images[index])) for index in which])
    return image, torch.from_numpy(labels[which]).long()


def first_network(file: Path) -> torch.nn.Module:
    network = peers.timm.create_model(peers.TIMM[recipe.MODEL], num_classes=recipe.CLASSES)
    with np.load(file) as weights, torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(weights[peers.canonical(name)]))
    return network


class Trainer:
    """A network in training with its optimizer and schedule."""

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        steps_per_epoch: int,
        schedule: dict,
    ):
        self.network = network.train()
        self.loss = LabelSmoothingCrossEntropy(recipe.SMOOTHING)
        self.optimizer = optimizer
        warmup = schedule["warmup_steps"]
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=schedule["num_epochs"] * steps_per_epoch - warmup,
            warmup_t=warmup,
            warmup_prefix=True,
            t_in_epochs=False,
        )
        self.done = 0

    def step(self, image: torch.Tensor, label: torch.Tensor) -> float:
        self.schedule.step_update(self.done)
        loss = self.loss(self.network(image), label)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss.item()


if __name__ == "__main__":
    kind, work, *rest = sys.argv[1:]
    if kind == "curve":
        result = curve(Path(work), torch.float64 if rest == ["float64"] else torch.float32)
    else:
        result = accuracy(Path(work), int(rest[0]))
    print(json.dumps(result))

"""This library's side: `ours.py curve WORK` or `ours.py accuracy WORK SEED`; prints one JSON line.

The first weights of a seed are this library's own; they are written to WORK for the other side.
"""

import io
import json
import sys
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import recipe
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from mindcv import (
    create_loader,
    create_loss,
    create_model,
    create_optimizer,
    create_scheduler,
    create_transforms,
)
from mindcv.data import create_normalize
from mindcv.engine import EvaluationStep, TrainStep, evaluate, start_runtime

SCALE = {"mean": (recipe.MEAN,) * 3, "std": (recipe.STD,) * 3}


def curve(work: Path) -> list[float]:
    """Return the first losses of fine-tuning without augmentation."""
    start_runtime(seed=0)
    network = create_network()
    train(network, work, seed=1, schedule=recipe.PRETRAIN)
    network.reset_classifier(recipe.CLASSES)
    save_weights(network, recipe.initial_weights(work, "curve", 0))
    return train(network, work, seed=0, schedule=recipe.CURVE)[: recipe.CURVE_STEPS]


def train(network: ms.nn.Cell, work: Path, seed: int, schedule: dict) -> list[float]:
    """Train without augmentation; return the loss of every step."""
    images, labels = recipe.digits(work, "train")
    steps = len(recipe.batches(seed, 0, recipe.CURVE_BATCH))
    step = train_step(network, steps, schedule, "momentum", recipe.SGD)
    losses = []
    for epoch in range(schedule["num_epochs"]):
        for which in recipe.batches(seed, epoch, recipe.CURVE_BATCH):
            image = ms.Tensor(images[which])
            losses.append(float(step(image, ms.Tensor(labels[which]))[0].asnumpy()))
    return losses


def accuracy(work: Path, seed: int) -> dict:
    """Return the mean loss of each epoch with augmentation, and the final top-1 in percent."""
    runtime = start_runtime(seed=seed)
    network = create_network()
    save_weights(network, recipe.initial_weights(work, "accuracy", seed))
    augment = create_transforms(
        image_resize=recipe.SIDE,
        is_training=True,
        auto_augment=f"randaug-{recipe.POLICY}",
        normalize_on_device=True,
        **recipe.CROP,
        **SCALE,
    )
    rows = ds.GeneratorDataset(
        Rows(work, "train"), ["image", "label"], sampler=Order(seed), num_parallel_workers=1
    )
    loader = create_loader(rows, recipe.BATCH, True, is_training=True, transform=augment)
    steps = loader.get_dataset_size()
    step = train_step(network, steps, recipe.ACCURACY, "adamw", recipe.ADAMW)
    epochs = recipe.ACCURACY["num_epochs"]
    iterator = loader.create_tuple_iterator(num_epochs=epochs)
    losses = []
    for epoch in range(epochs):
        losses.append(np.mean([step(*batch)[0].asnumpy() for batch in iterator]))
        print(f"ours, seed {seed}, epoch {epoch}: loss {losses[-1]:.4f}", file=sys.stderr)
    plain = create_transforms(
        image_resize=recipe.SIDE, crop_pct=1.0, normalize_on_device=True, **SCALE
    )
    rows = ds.GeneratorDataset(Rows(work, "val"), ["image", "label"], shuffle=False)
    loader = create_loader(rows, recipe.BATCH, transform=plain)
    counting = EvaluationStep(network, recipe.CLASSES, create_normalize(**SCALE))
    top1 = evaluate(counting, loader, recipe.BATCH, runtime).top1
    return {"losses": [float(loss) for loss in losses], "top1": top1}


def create_network() -> ms.nn.Cell:
    return create_model(recipe.MODEL, num_classes=recipe.CLASSES, zero_init_last=True)


def save_weights(network: ms.nn.Cell, file: Path) -> None:
    np.savez(file, **{p.name: p.asnumpy() for p in network.get_parameters()})


def train_step(
    network: ms.nn.Cell, steps_per_epoch: int, schedule: dict, opt: str, options: dict
) -> TrainStep:
    rates = create_scheduler(
        steps_per_epoch, "cosine_decay", min_lr=0.0, decay_epochs=None, **schedule
    )
    optimizer = create_optimizer(network, opt, lr=rates, **options)
    loss = create_loss("CE", label_smoothing=recipe.SMOOTHING)
    return TrainStep(network, loss, optimizer, create_normalize(**SCALE))


class Rows:
    """The images as the bytes of PNG files, as from a folder, and their labels."""

    def __init__(self, work: Path, split: str):
        images, self.labels = recipe.digits(work, split)
        self.files = [png(image) for image in images]

    def __getitem__(self, index):
        return self.files[index], self.labels[index]

    def __len__(self):
        return len(self.files)


def png(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


class Order(ds.Sampler):
    """The recipe's order of the images, another one each epoch."""

    def __init__(self, seed: int):
        super().__init__(num_samples=recipe.batches(seed, 0, recipe.BATCH).size)
        self.seed, self.epoch = seed, 0

    def __iter__(self):
        batches = recipe.batches(self.seed, self.epoch, recipe.BATCH)
        self.epoch += 1
        return iter(batches.ravel().tolist())


if __name__ == "__main__":
    kind, work, *seed = sys.argv[1:]
    result = curve(Path(work)) if kind == "curve" else accuracy(Path(work), int(seed[0]))
    print(json.dumps(result))

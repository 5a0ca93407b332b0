"""One side of the comparison, a process of its own: a request is the name of a pipeline.

    python side.py {ours,MindCV,timm} PHOTOS

An answer is one pass over all photographs: images, seconds, seconds to the first batch, and
seconds of processor time (of this process; timm's workers are others).
"""

import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from sides import serve  # noqa: E402


def main() -> None:
    side, photos = sys.argv[1:]
    pipelines = {"ours": Ours, "MindCV": MindCV, "timm": Timm}[side](photos)
    serve(pipelines.version, lambda name: one_pass(pipelines, name))


def one_pass(pipelines, name: str) -> dict:
    begin, used = time.perf_counter(), os.times()
    first, images = None, 0
    for batch in pipelines.batches(name):
        first = first or time.perf_counter() - begin
        images += len(batch)
    seconds, end = time.perf_counter() - begin, os.times()
    busy = end.user + end.system - used.user - used.system
    return dict(images=images, seconds=seconds, first=first, busy=busy)


class _OfMindSpore:
    def __init__(self, photos: str):
        import mindspore
        import mindspore.dataset as ds
        from cases import WORKERS

        import mindcv

        self.photos, self.loaders = photos, {}
        self.version = f"{mindcv.__version__}, MindSpore {mindspore.__version__}"
        ds.config.set_seed(1)
        ds.config.set_num_parallel_workers(WORKERS)

    def batches(self, name: str):
        """Yield the image tensors of a pass, as `Model.train` would get them."""
        if name not in self.loaders:
            self.loaders[name] = self.loader(name)
        for image, *_ in self.loaders[name].create_tuple_iterator(num_epochs=1):
            yield image

    def dataset(self, is_training: bool):
        from cases import WORKERS

        from mindcv.data import create_dataset

        return create_dataset(
            "imagenet", self.photos, "train", shuffle=is_training, num_parallel_workers=WORKERS
        )

    def make(self, dataset, transform, is_training: bool, **arguments):
        from cases import BATCH, WORKERS

        from mindcv.data import create_loader

        return create_loader(
            dataset,
            BATCH,
            is_training=is_training,
            transform=transform,
            num_parallel_workers=WORKERS,
            **arguments,
        )


class MindCV(_OfMindSpore):
    def loader(self, name: str):
        from cases import CASES, SIDE

        from mindcv.data import create_transforms

        is_training = CASES[name]["is_training"]
        transform = create_transforms("imagenet", SIDE, **CASES[name])
        return self.make(self.dataset(is_training), transform, is_training)


class Ours(_OfMindSpore):
    """`case` is create_loader's, `case/run` a training run's; `case/LEVER` lacks a lever."""

    def loader(self, name: str):
        import mindspore.dataset as ds
        from cases import BATCH, CASES, WORKERS
        from levers import LEVERS
        from mindspore.dataset import vision

        if name == "bound":
            folder = ds.ImageFolderDataset(
                f"{self.photos}/train", num_parallel_workers=WORKERS, shuffle=True
            )
            decode = vision.RandomCropDecodeResize(224)
            return folder.map(decode, "image", num_parallel_workers=WORKERS).batch(BATCH)
        case, _, lever = name.partition("/")
        is_training = CASES[case]["is_training"]
        dataset = self.dataset(is_training)
        if lever == "run":
            return self._run(case, dataset)
        if lever:
            return LEVERS[lever](self, case)
        return self.make(dataset, self.transform(case), is_training)

    def transform(self, case: str, **arguments):
        from cases import CASES, SIDE

        from mindcv.data import create_transforms

        arguments = dict(normalize_on_device=True) | CASES[case] | arguments
        return create_transforms("imagenet", SIDE, **arguments)

    def _run(self, case: str, dataset):
        from cases import BATCH, CASES, SIDE, WORKERS

        from mindcv.data import (
            EpochBatches,
            Preprocessing,
            create_evaluation_loader,
            open_samples,
        )

        if not CASES[case]["is_training"]:
            samples = open_samples("imagenet", self.photos, "train")
            arguments = (samples, Preprocessing(SIDE), BATCH)
            return create_evaluation_loader(*arguments, num_parallel_workers=WORKERS)
        transform = self.transform(case)

        def loader_of_epoch(rows):
            return self.make(rows, transform, True)

        return EpochBatches(dataset, loader_of_epoch, BATCH).as_dataset()


class Timm:
    """The uint8 batches that timm's PrefetchLoader sends to the device.

    It normalises and erases there; that is not counted.
    """

    def __init__(self, photos: str):
        import torch

        # torchvision's wheel was built for another torch: it lacks these operators.
        self.library = torch.library.Library("torchvision", "DEF")
        self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        self.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import timm

        self.photos, self.version, self.loaders = photos, timm.__version__, {}

    def batches(self, name: str):
        if name not in self.loaders:
            self.loaders[name] = self._loader(name)
        for image, _ in self.loaders[name].loader:
            yield image

    def _loader(self, name: str):
        import torch
        from cases import BATCH, CASES, SIDE, WORKERS
        from timm.data import create_dataset, create_loader

        options = dict(CASES[name])
        if "auto_augment" in options:
            options["auto_augment"] = options["auto_augment"].replace("randaug", "rand")
        is_training = options.pop("is_training")
        if is_training:
            options = dict(color_jitter=None) | options
        return create_loader(
            create_dataset("", root=f"{self.photos}/train", is_training=is_training),
            (3, SIDE, SIDE),
            BATCH,
            is_training=is_training,
            interpolation="bilinear",
            num_workers=WORKERS,
            persistent_workers=True,
            device=torch.device("cpu"),
            **options,
        )


if __name__ == "__main__":
    main()

"""This library's pipeline with one lever taken back, to see what each gave."""

from cases import CASES, WORKERS

from mindcv.data import channel_statistics
from mindcv.data.augment.auto_augment import create_auto_augment
from mindcv.data.image_files import PillowDecode
from mindcv.data.transforms import Transforms


def augmented_in_graph(ours, case: str):
    """The host only draws: the graph flips, changes colours and erases."""
    return _loader(ours, case, ours.transform(case, augment_on_device=True))


def erasing_per_image(ours, case: str):
    """A call of Python for each image, not one for each batch."""
    transform = ours.transform(case)
    return _loader(ours, case, [*transform[:-1], transform[-1].__call__])


def layout_on_host(ours, case: str):
    """Planes are made image by image, on the host; flips and the like are left to the graph."""
    from mindspore.dataset import vision

    usual = ours.transform(case, augment_on_device=CASES[case]["is_training"])
    parts = dict(final=[vision.HWC2CHW()], decode=usual.decode, on_device=usual.on_device)
    return _loader(ours, case, Transforms(usual.clean, usual.varied, **parts))


def float_on_host(ours, case: str):
    """Normalised float32 planes, as MindCV's users get them."""
    return _loader(ours, case, ours.transform(case, normalize_on_device=False))


def cpp_decode(ours, case: str):
    """Evaluation decoded by MindSpore's own decoder."""
    from mindspore.dataset import vision

    transform = [
        vision.Decode() if isinstance(entry, PillowDecode) else entry
        for entry in ours.transform(case)
    ]
    return _loader(ours, case, transform)


def python_policy(ours, case: str):
    """RandAugment on Pillow images; flips are left to the graph."""
    policy = create_auto_augment(CASES[case]["auto_augment"], channel_statistics("imagenet")[0])
    crop = ours.transform("crop+flip", augment_on_device=True)
    return _loader(ours, case, Transforms(crop.clean, [policy], on_device=crop.on_device))


def cpp_reader(ours, case: str):
    """Files read by MindSpore's ImageFolderDataset: no check of the bytes, no order of our own."""
    import mindspore.dataset as ds

    is_training = CASES[case]["is_training"]
    folder = ds.ImageFolderDataset(
        f"{ours.photos}/train", num_parallel_workers=WORKERS, shuffle=is_training
    )
    return ours.make(folder, ours.transform(case), is_training)


def _loader(ours, case: str, transform: list):
    is_training = CASES[case]["is_training"]
    return ours.make(ours.dataset(is_training), transform, is_training)


LEVERS = {
    "augmented in graph": augmented_in_graph,
    "erasing per image": erasing_per_image,
    "layout on host": layout_on_host,
    "float on host": float_on_host,
    "C++ decode": cpp_decode,
    "Python policy": python_policy,
    "C++ reader": cpp_reader,
}
# What is measured of each case beside it as it is, and as a training run has it.
OF_CASE = {
    "recipe": (
        "augmented in graph",
        "erasing per image",
        "layout on host",
        "float on host",
        "C++ reader",
        "run",
    ),
    "crop+flip": ("augmented in graph", "layout on host", "float on host", "C++ reader", "run"),
    "eval": ("layout on host", "float on host", "C++ decode", "C++ reader", "run"),
    "randaugment": ("augmented in graph", "layout on host", "Python policy", "C++ reader", "run"),
}

"""Random draws depend on the pass over the dataset, however a user iterates over it."""

import hashlib
import os
import subprocess
import sys

import mindspore.dataset as ds
import pytest
from pictures import png, random_images, rows_of
from PIL import Image

from mindcv.data import create_dataset, create_loader, create_transforms
from mindcv.data.order import copy_numbers, sample_order

pytestmark = pytest.mark.usefixtures("fixed_seed")

EPOCHS = 3
STILL = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, normalize_on_device=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    for number, image in enumerate(random_images(12, 24)):
        folder = root / "train" / f"class_{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return root


def users_rows() -> ds.Dataset:
    images = [png(image) for image in random_images(12, 24)]
    return rows_of(images, [number % 3 for number in range(12)])


DRAWS = {
    "mixup": (dict(), dict(mixup=0.8)),
    "cutmix, off after an epoch": (dict(), dict(cutmix=1.0, mixup_off_epoch=1)),
    "device": (dict(augment_on_device=True, color_jitter=0.4, re_prob=0.5), dict()),
    "erasing": (dict(re_prob=1.0, re_value="random"), dict()),
    "erasing, mixup": (dict(re_prob=0.7), dict(mixup=0.8)),
    "lighting": (dict(lighting=1.0), dict()),
    "v0": (dict(auto_augment="v0"), dict()),
    "autoaug": (dict(auto_augment="autoaug-mstd0.5"), dict()),
    "3a": (dict(auto_augment="3a"), dict()),
    "augmix": (dict(auto_augment="augmix"), dict()),
    "splits": (dict(auto_augment="augmix", separate=True), dict(separate=True, aug_splits=2)),
}


def loader_of(dataset, how, **options):
    transform, loader = DRAWS[how]
    operations = create_transforms("", 24, True, **STILL, **transform)
    return create_loader(
        dataset, 2, True, True, transform=operations, num_classes=3, **loader, **options
    )


def epoch_of(iterator) -> list[bytes]:
    return [b"".join(part.tobytes() for part in row) for row in iterator]


@pytest.mark.parametrize("is_ours", [True, False], ids=["folder", "users"])
@pytest.mark.parametrize("how", DRAWS)
def test_an_iterator_an_epoch_draws_as_one_for_all(root, how, is_ours):
    def loader():
        ours = create_dataset("", str(root), shuffle=False)
        return loader_of(ours if is_ours else users_rows(), how)

    together = loader().create_tuple_iterator(num_epochs=EPOCHS, output_numpy=True)
    expected = [epoch_of(together) for _ in range(EPOCHS)]
    apart = loader()
    found = [
        epoch_of(apart.create_tuple_iterator(num_epochs=1, output_numpy=True))
        for _ in range(EPOCHS)
    ]
    assert found == expected
    if "off" in how:  # what is not mixed is the same each time
        assert found[0] != found[1] == found[2]
    else:
        assert len(set(map(tuple, found))) == EPOCHS


COMPILED = {
    "crop": dict(scale=(0.2, 1.0)),
    "flip": dict(hflip=0.5),
    "jitter": dict(color_jitter=0.4),
    "randaugment": dict(auto_augment="randaug-m9-mstd0.5-inc1"),
    "trivialaugment": dict(auto_augment="trivialaugwide"),
}


@pytest.mark.parametrize("how", COMPILED)
def test_mindspores_operations_draw_anew_in_each_iterator(root, how):
    def loader(shard=0):
        rows = create_dataset("", str(root), shuffle=False)
        operations = create_transforms("", 24, True, **STILL | COMPILED[how])
        shards = dict(num_shards=2, shard_id=shard)
        return create_loader(rows, 2, is_training=True, transform=operations, **shards)

    def epochs(rows) -> list:
        tuples = rows.create_tuple_iterator(num_epochs=1, output_numpy=True)
        pairs = rows.create_dict_iterator(num_epochs=1, output_numpy=True)
        return [epoch_of(tuples), epoch_of(tuple(row.values()) for row in pairs)]

    first = epochs(loader())
    assert first[0] != first[1]
    assert epochs(loader()) == first
    assert ds.config.get_seed() == 42
    assert epochs(loader(shard=1))[0] != first[0]


def drawn_with(root, **options) -> list[list[bytes]]:
    loader = loader_of(create_dataset("", str(root)), "augmix", **options)
    rows = loader.create_tuple_iterator(num_epochs=2, output_numpy=True)
    return [epoch_of(rows) for _ in range(2)]


# In a process of its own: MindSpore forks its workers, which can wait for ever for a lock that one
# of the many threads of the tests' process held at that moment.
PROCESSES = """
import hashlib, sys
import mindspore.dataset as ds
from test_passes import drawn_with
ds.config.set_seed(42)
if __name__ == "__main__":
    for epoch in drawn_with(sys.argv[1], python_multiprocessing=True, num_parallel_workers=2):
        print(hashlib.sha256(b"".join(epoch)).hexdigest())
"""


def test_processes_draw_by_the_pass_as_threads_do(root):
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES, str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=200,
    )
    expected = [hashlib.sha256(b"".join(epoch)).hexdigest() for epoch in drawn_with(root)]
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.parametrize(
    "how, fewest", [("v0", 20), ("3a", 20), ("augmix", 36), ("lighting", 36), ("erasing", 36)]
)
def test_copies_of_repeated_augmentation_are_drawn_apart(root, how, fewest):
    """Even without a random crop; v0 and 3a leave some copies unchanged or equal."""
    images = []
    for shard in (0, 1):
        rows = create_dataset("", str(root), num_aug_repeats=6, num_shards=2, shard_id=shard)
        loader = loader_of(rows, how, num_shards=2, shard_id=shard)
        for _ in range(3):
            for batch, _ in loader.create_tuple_iterator(num_epochs=1, output_numpy=True):
                images += [image.tobytes() for image in batch]
    assert len(images) == 3 * 12
    assert len(set(images)) >= fewest


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_no_two_copies_of_an_image_have_one_number(shards):
    sampling = dict(shuffle=True, num_aug_repeats=3)
    found = []
    for shard in range(shards):
        place = dict(num_shards=shards, shard_id=shard, **sampling)
        order = sample_order(12, 42, 0, **place)
        found += zip(order.tolist(), copy_numbers(len(order), **place).tolist())
    assert len(set(found)) == len(found) == 12
    assert {number for _, number in found} == {0, 1, 2}


def test_what_draws_nothing_gets_no_further_column():
    loader = create_loader(users_rows(), 2, transform=create_transforms("", 24))
    columns = {name for node in (loader, *loader.children) for name in node.get_col_names()}
    assert columns == {"image", "label"}

"""Flips, colour jitter and erasing of whole batches in the graph, and their random draws."""

from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn
from pictures import batches_of, png, random_images, rows_of

from mindcv.data import create_loader, create_normalize, create_transforms, first_batch
from mindcv.data.augment.batch_operations import AugmentBatch, DeviceAugment
from mindcv.data.augment.pixel_operations import RandomErasing
from mindcv.engine import PreciseBatchNorm, TrainStep

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "jitter.npz")
MEAN = (123.675, 116.28, 103.53)
KINDS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))  # brightness, contrast, saturation


def erasing(prob: float = 1.0) -> RandomErasing:
    fill = dict(value=0, max_attempts=10, mean=MEAN, std=(1.0,) * 3)
    return RandomErasing(prob, (0.02, 0.33), (0.3, 3.3), **fill)


def nothing(count: int) -> np.ndarray:
    return DeviceAugment(16, 0.0, 0.0).draw(count, np.random.default_rng(0))


def test_colours_change_as_torchvisions_functions_do_in_every_order():
    orders, factors = GOLDEN["orders"], GOLDEN["factors"]
    draws = nothing(len(orders))
    for row, order, own in zip(draws, orders, factors):
        row[2:11] = np.ravel([(factor, *KINDS[kind]) for kind, factor in zip(order, own)])
    images = np.stack([GOLDEN["planes"]] * len(orders))
    cell = AugmentBatch(DeviceAugment(16, 0.0, 0.0, (0.4,) * 3))
    np.testing.assert_allclose(
        cell(Tensor(images), Tensor(draws)).asnumpy(), GOLDEN["results"], atol=2e-3
    )


def test_flips_and_rectangles_are_where_they_were_drawn():
    images = np.stack(random_images(4, 16)).transpose(0, 3, 1, 2)
    draws = nothing(4)
    draws[:, :2] = (0, 0), (1, 0), (0, 1), (1, 1)
    draws[1, 11:], draws[3, 11:] = (2, 7, 0, 3), (5, 6, 9, 16)
    cell = AugmentBatch(DeviceAugment(16, 0.5, 0.5, None, erasing()))
    expected = np.float32(images)
    expected[1], expected[2], expected[3] = (
        images[1, :, :, ::-1],
        images[2, :, ::-1],
        images[3, :, ::-1, ::-1],
    )
    expected[1, :, 2:7, 0:3] = expected[3, :, 5:6, 9:16] = np.reshape(MEAN, (3, 1, 1))
    np.testing.assert_array_equal(cell(Tensor(images), Tensor(draws)).asnumpy(), expected)


def test_draws_have_the_distributions_of_torchvision_and_timm():
    draws = DeviceAugment(100, 0.5, 0.25, (0.4, 0.2, 1.5), erasing(0.1)).draw(
        6000, np.random.default_rng(1)
    )
    np.testing.assert_allclose(draws[:, :2].mean(0), (0.5, 0.25), atol=0.02)
    changes = draws[:, 2:11].reshape(-1, 3, 3)
    order = changes[:, :, 1] + 2 * changes[:, :, 2]
    assert (np.sort(order, 1) == (0, 1, 2)).all()
    found, counts = np.unique(order, axis=0, return_counts=True)
    assert len(found) == 6 and counts.min() > 900 and counts.max() < 1100
    for kind, (low, high) in enumerate(((0.6, 1.4), (0.8, 1.2), (0.0, 2.5))):
        factors = changes[:, :, 0][order == kind]
        assert low <= factors.min() < low + 0.01 and high - 0.01 < factors.max() <= high
        assert abs(factors.mean() - (low + high) / 2) < 0.03
    is_erased = draws[:, 12] > 0
    assert 0.08 < is_erased.mean() < 0.12
    top, bottom, left, right = draws[is_erased, 11:].T
    area, aspect = (bottom - top) * (right - left) / 1e4, (bottom - top) / (right - left)
    assert 0.015 < area.min() < 0.04 and 0.27 < area.max() < 0.34
    assert 0.28 < aspect.min() < 0.4 and 2.7 < aspect.max() < 3.6


def on_device(side: int = 16, **options) -> list:
    arguments = dict(normalize_on_device=True, augment_on_device=True) | options
    return create_transforms("", side, True, **arguments)


def loader(transform: list, count: int = 8, **options):
    ds.config.set_seed(5)
    rows = rows_of([png(image) for image in random_images(count, 24)])
    return create_loader(rows, 4, True, True, transform=transform, **options)


def test_batches_bring_their_draws_and_other_batches_and_epochs_other_ones():
    transform = on_device(color_jitter=0.4, re_prob=0.5)
    first = batches_of(loader(transform))
    assert [list(batch) for batch in first] == [["image", "label", "draws"]] * 2
    assert first[0]["image"].dtype == np.uint8 and first[0]["draws"].shape == (4, 15)
    drawn = [batch["draws"] for batch in first]
    drawn += [batch["draws"] for batch in batches_of(loader(transform, num_shards=2, shard_id=1))]
    drawn += [batch["draws"] for batch in batches_of(loader(transform), epochs=2)[2:]]
    # Shard 1 of 2 draws for the batches 1 and 3 of a single process.
    np.testing.assert_array_equal(drawn.pop(2), drawn[1])
    assert len({draws.tobytes() for draws in drawn}) == 5


def test_draws_do_not_depend_on_the_workers():
    transform = on_device(color_jitter=0.4, re_prob=0.5)
    one, two = (batches_of(loader(transform, num_parallel_workers=n)) for n in (1, 2))
    for batch, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(batch["draws"], other["draws"])


def test_without_draws_the_cell_only_normalises():
    transform = on_device(color_jitter=0.4, re_prob=0.5, vflip=0.5)
    images = Tensor(np.stack(random_images(2, 16)))
    cell = create_normalize("imagenet", transform=transform)
    plain = create_normalize("imagenet")(images).asnumpy()
    np.testing.assert_array_equal(cell(images).asnumpy(), plain)
    changed = cell(images, Tensor(transform.on_device.draw(2, np.random.default_rng(0)))).asnumpy()
    assert not np.array_equal(changed, plain)


class Dense(nn.Cell):
    """Mean colour, normalised, to 3 logits."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Dense(3, 3, Tensor(np.eye(3, dtype=np.float32)), "zeros")

    def construct(self, x):
        return self.head(self.norm(x).mean((2, 3)) + x[:, :, 3, 2])


# 2 compiles the accumulating step, which holds the plain one.
@pytest.mark.parametrize("together", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_training_step_sees_what_the_cell_makes_of_the_draws(fixed_seed, together):
    transform = on_device(color_jitter=0.4, re_prob=0.9)
    normalize = create_normalize("imagenet", transform=transform)
    batches = batches_of(loader(transform, 24))
    network, loss = Dense().set_train(), nn.CrossEntropyLoss()
    expected, losses = [], []
    ms.set_context(mode=ms.PYNATIVE_MODE)
    for batch in batches:
        seen = normalize(Tensor(batch["image"]), Tensor(batch["draws"]))
        expected.append(float(loss(network(seen), Tensor(batch["label"] % 3)).asnumpy()))
    ms.set_context(mode=ms.GRAPH_MODE)
    optimizer = nn.SGD(network.trainable_params(), 0.0)  # each loss is that of the same network
    step = TrainStep(network, loss, optimizer, normalize, accumulation=together)
    for batch in batches:
        images, labels, draws = (Tensor(batch[key]) for key in ("image", "label", "draws"))
        losses.append(float(step(images, labels % 3, draws)[0].asnumpy()))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_precise_statistics_are_those_of_the_augmented_images():
    transform = on_device(color_jitter=0.4, re_prob=0.9)
    normalize = create_normalize("imagenet", transform=transform)
    batches = batches_of(loader(transform))
    network = Dense()
    PreciseBatchNorm(network, normalize, lambda: (tuple(b.values()) for b in batches), 2)()
    seen = [normalize(Tensor(b["image"]), Tensor(b["draws"])).asnumpy() for b in batches]
    means = np.mean([images.mean((0, 2, 3)) for images in seen], 0)
    np.testing.assert_allclose(network.norm.moving_mean.asnumpy(), means, rtol=1e-3, atol=1e-4)


def test_a_shown_batch_is_augmented():
    transform = on_device(color_jitter=0.4, re_prob=0.9, hflip=1.0)
    batch = batches_of(loader(transform))[0]
    images, labels = first_batch((part for part in [tuple(batch.values())]), transform)
    expected = AugmentBatch(transform.on_device)(
        Tensor(batch["image"].transpose(0, 3, 1, 2)), Tensor(batch["draws"])
    )
    np.testing.assert_allclose(images, expected.asnumpy().transpose(0, 2, 3, 1), atol=0.501)
    assert images.dtype == np.uint8 and labels is batch["label"]


@pytest.mark.parametrize(
    "options",
    [
        dict(lighting=0.1),
        dict(color_jitter=(0.4, 0.4, 0.4, 0.1)),
        dict(re_prob=0.5, re_value="random"),
        dict(auto_augment="augmix", separate=True),
        dict(normalize_on_device=False),
    ],
    ids=str,
)
def test_what_only_the_host_does_is_refused(options):
    with pytest.raises(ValueError, match="augment_on_device"):
        on_device(**options)


def test_mixing_of_unfinished_images_is_refused():
    with pytest.raises(ValueError, match="augment_on_device"):
        loader(on_device(), mixup=0.2)


def test_a_policy_stays_on_the_host_and_its_flips_go():
    assert len(on_device(auto_augment="randaug-m9-mstd0.5-inc1", re_prob=0.25)) == 3
    assert len(on_device(auto_augment=None)) == 2


def test_a_list_that_a_script_made_longer_keeps_the_operations_of_the_device():
    transform = on_device(hflip=0.5, color_jitter=0.4)
    longer = [*transform[:1], lambda image: image, *transform[1:]]
    assert create_normalize("", transform=longer).augment is not None

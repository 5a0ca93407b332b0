# %% [markdown]
# # Features for detection and segmentation
#
# `create_model(…, features_only=True)` returns a backbone that gives the feature maps of its
# stages. Here a small feature pyramid (Lin et al., 2017) and two heads learn to find drawn discs
# and boxes: one head labels every pixel, the other finds centres and sizes as CenterNet does (Zhou
# et al., 2019).

# %%
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcv import create_model, create_optimizer, create_scheduler

SIZE, STRIDE, CLASSES = 64, 4, 2  # pixels; pixels of a cell of the finest map; disc and box
STEPS = 240
ms.set_seed(1)

# %% [markdown]
# ## Made data
#
# An image has one object in three of its quarters, so that no two touch.


# %%
def make_batch(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return images (N, 3, 64, 64), pixel labels (N, 64, 64), 0 for background, and boxes.

    Boxes are (image, class, x, y, width, height) in pixels, x and y at the centre.
    """
    images = rng.normal(0, 0.2, (count, 3, SIZE, SIZE))
    labels, boxes = np.zeros((count, SIZE, SIZE), np.int32), []
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for index in range(count):
        for quarter in rng.choice(4, 3, replace=False):
            kind, height, width = rng.integers(CLASSES), *rng.integers(5, 12, 2)  # half sides
            y, x = np.array(divmod(quarter, 2)) * SIZE // 2 + rng.integers(12, 20, 2)
            dy, dx = (rows - y) / height, (columns - x) / width
            inside = (dy**2 + dx**2 if kind == 0 else np.maximum(abs(dy), abs(dx))) < 1
            labels[index][inside] = kind + 1
            images[index, :, inside] += rng.uniform(0.8, 1.6, 3)
            boxes.append((index, kind, x, y, 2 * width - 1, 2 * height - 1))
    return {"images": images.astype(np.float32), "labels": labels, "boxes": np.array(boxes)}


def center_targets(boxes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return heat (N, classes, 16, 16), 1 at centres, sizes (N, 2, 16, 16) and their mask."""
    side = SIZE // STRIDE
    heat = np.zeros((count, CLASSES, side, side), np.float32)
    sizes, mask = np.zeros((2, count, 2, side, side), np.float32)
    rows, columns = np.mgrid[:side, :side]
    for index, kind, x, y, *size in boxes:
        x, y = x // STRIDE, y // STRIDE
        spread = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2)
        heat[index, kind] = np.maximum(heat[index, kind], spread)
        sizes[index, :, y, x], mask[index, :, y, x] = np.array(size) / SIZE, 1
    return heat, sizes, mask


# %% [markdown]
# ## Network
#
# The backbone says how many channels its maps have, finest first. With real images, take
# `create_model("regnet_y_400mf", pretrained=True, features_only=True, out_indices=(1, 2, 3, 4))`.


# %%
class FeaturePyramid(nn.Cell):
    """Maps of any channels to maps of the same: `out_i = conv3x3(inner_i)`,
    `inner_i = conv1x1(map_i) + upsampled(inner_{i+1})`.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int):
        super().__init__()
        self.inner = nn.CellList([nn.Conv2d(c, channels, 1, has_bias=True) for c in in_channels])
        self.outer = nn.CellList(
            [nn.Conv2d(channels, channels, 3, has_bias=True) for _ in in_channels]
        )

    def construct(self, maps):
        x, pyramid = self.inner[-1](maps[-1]), ()
        for level in range(len(maps) - 1, -1, -1):
            if level < len(maps) - 1:
                side = self.inner[level](maps[level])
                x = side + ops.interpolate(x, size=side.shape[2:], mode="nearest")
            pyramid = (self.outer[level](x), *pyramid)
        return pyramid


class DenseNetwork(nn.Cell):
    """Pixel logits (N, classes + 1, H, W), heat logits (N, classes, H/4, W/4) and box sizes as
    shares of the image (N, 2, H/4, W/4).
    """

    def __init__(self, backbone: nn.Cell, channels: int = 32):
        super().__init__()
        self.backbone = backbone
        self.pyramid = FeaturePyramid(backbone.channels, channels)
        self.pixels, self.heat, self.sizes = (
            nn.SequentialCell(
                nn.Conv2d(channels, channels, 3, has_bias=True),
                nn.ReLU(),
                nn.Conv2d(channels, outputs, 1, has_bias=True, bias_init=bias),
            )
            for outputs, bias in ((CLASSES + 1, "zeros"), (CLASSES, -2.2), (2, 0.3))
        )

    def construct(self, images):
        finest = self.pyramid(self.backbone(images))[0]
        pixels = ops.interpolate(self.pixels(finest), size=images.shape[2:], mode="bilinear")
        return pixels, self.heat(finest), self.sizes(finest)


backbone = create_model(
    "anynet",
    depths=(1, 1, 1, 1),
    widths=(16, 32, 48, 64),
    group_ws=(16, 16, 16, 16),
    features_only=True,
    out_indices=(1, 2, 3, 4),
)
print(backbone.channels, backbone.strides)
network = DenseNetwork(backbone)

# %% [markdown]
# ## Training


# %%
def loss_of(images, labels, heat, sizes, mask):
    """Cross entropy of the pixels, focal loss of the centres, distance of the sizes."""
    pixels, found, found_sizes = network(images)
    share = ops.clamp(ops.sigmoid(found), 1e-4, 1 - 1e-4)
    is_center = (heat == 1).astype(ms.float32)
    positive = is_center * (1 - share) ** 2 * ops.log(share)
    negative = (1 - heat) ** 4 * share**2 * ops.log(1 - share)
    focal = -(positive + (1 - is_center) * negative).sum() / is_center.sum()
    distance = (ops.abs(found_sizes - sizes) * mask).sum() / mask.sum()
    return ops.cross_entropy(pixels, labels) + focal + 5 * distance


rates = create_scheduler(
    STEPS,
    "cosine_decay",
    lr=0.005,
    min_lr=0.0,
    warmup_epochs=0,
    warmup_steps=10,
    decay_epochs=None,
    num_epochs=1,
)
optimizer = create_optimizer(network, "adamw", lr=rates, weight_decay=0.01)
gradients_of = ms.value_and_grad(loss_of, None, optimizer.parameters)


@ms.jit
def train_step(*batch):
    loss, gradients = gradients_of(*batch)
    optimizer(gradients)
    return loss


rng, losses = np.random.default_rng(1), []
network.set_train()
for step in range(1, STEPS + 1):
    made = make_batch(16, rng)
    batch = (made["images"], made["labels"], *center_targets(made["boxes"], 16))
    losses.append(float(train_step(*map(Tensor, batch))))
    if step % 80 == 0:
        print(f"step {step}: loss {np.mean(losses[-20:]):.3f}")

# %% [markdown]
# ## Boxes
#
# A centre is a cell that is the largest of its neighbours in the heat map. Of boxes that overlap,
# the one with the best score stays, whatever its class. The least score of a box is the one with
# the best F1 on images of its own, neither trained on nor measured below.


# %%
def find_boxes(heat: Tensor, sizes: Tensor, least: float) -> list[tuple]:
    """Return boxes as `make_batch` does, followed by their score; the best first."""
    share = ops.sigmoid(heat)
    is_peak = (share == ops.max_pool2d(share, 3, stride=1, padding=1)).asnumpy()
    share, sizes = share.asnumpy(), sizes.asnumpy() * SIZE
    places = np.argwhere(is_peak & (share >= least)).tolist()
    found = []
    for place in sorted(places, key=lambda place: -share[tuple(place)]):
        index, kind, y, x = place
        centre = (x + 0.5) * STRIDE, (y + 0.5) * STRIDE
        box = (index, kind, *centre, *sizes[index, :, y, x], share[tuple(place)])
        if not any(index == one[0] and overlap(box[2:6], one[2:6]) > 0.3 for one in found):
            found.append(box)
    return found


def overlap(one: tuple, other: tuple) -> float:
    """Return the intersection over union of two boxes (x, y, width, height)."""
    one, other = np.array(one), np.array(other)
    low = np.maximum(one[:2] - one[2:] / 2, other[:2] - other[2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, other[:2] + other[2:] / 2)
    inner = np.maximum(high - low, 0).prod()
    return float(inner / (one[2:].prod() + other[2:].prod() - inner))


def count_hits(found: list[tuple], boxes: np.ndarray) -> int:
    """Return how many objects have a box of their class that overlaps by more than a half.

    An object counts once, and so does a box.
    """
    left = boxes.tolist()
    for box in found:
        hits = (one for one in left if one[:2] == [*box[:2]] and overlap(one[2:], box[2:6]) > 0.5)
        if hit := next(hits, None):
            left.remove(hit)
    return len(boxes) - len(left)


network.set_train(False)
made = make_batch(64, np.random.default_rng(2))
_, heat, sizes = network(Tensor(made["images"]))


def f1(least: float) -> float:
    """Return the harmonic mean of precision and share of the objects that are found."""
    found = find_boxes(heat, sizes, least)
    return 2 * count_hits(found, made["boxes"]) / (len(found) + len(made["boxes"]))


least = max(np.arange(0.1, 0.9, 0.05), key=f1)
print(f"least score {least:.2f}: F1 {f1(least):.2f}")

# %% [markdown]
# ## Results

# %%
made = make_batch(32, np.random.default_rng(3))
pixels, heat, sizes = network(Tensor(made["images"]))
guessed, labels = pixels.asnumpy().argmax(1), made["labels"]
ious = [
    ((guessed == kind) & (labels == kind)).sum() / ((guessed == kind) | (labels == kind)).sum()
    for kind in range(CLASSES + 1)
]
found = find_boxes(heat, sizes, least)
hits, objects = count_hits(found, made["boxes"]), len(made["boxes"])
print(f"mean IoU {np.mean(ious):.2f}; found {hits} of {objects} objects")
print(f"{hits} of {len(found)} boxes are right")

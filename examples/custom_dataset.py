# %% [markdown]
# # A dataset of your own
#
# Any object with `__len__` and a thread-safe `__getitem__` is a dataset. This one draws its
# images; yours may read a database, an archive or a format of its own.

# %%
import mindspore as ms
import numpy as np
from PIL import Image, ImageDraw

from mindcv import (
    create_dataset,
    create_loader,
    create_loss,
    create_model,
    create_optimizer,
    create_transforms,
    register_dataset,
)


class Shapes:
    """Drawn circles, squares and triangles on noise; an image follows from split and index.

    Args:
        root: `--data_dir`, unused: nothing is read from files.
        split: train or val.
        count: images.
    """

    class_names = ("circle", "square", "triangle")

    def __init__(self, root: str | None, split: str, count: int = 480):
        self.split = split
        self.labels = [index % len(self.class_names) for index in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Return uint8 pixels (32, 32, 3) and the label; a PIL image or a file's bytes do too."""
        rng = np.random.default_rng([self.split == "val", index])
        image = Image.fromarray(rng.integers(0, 128, (32, 32, 3), dtype=np.uint8))
        (x, y), radius = rng.integers(10, 22, 2).tolist(), int(rng.integers(5, 10))
        colour = tuple(rng.integers(160, 256, 3).tolist())
        draw, label = ImageDraw.Draw(image), self.labels[index]
        if label == 0:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            draw.regular_polygon((x, y, radius), n_sides=5 - label, fill=colour)
        return np.array(image), label


register_dataset("shapes", Shapes)

# %% [markdown]
# Saved as `shapes.py`, this cell is enough for the commands:
#
#     mindcv train --import_module shapes.py --dataset shapes --model regnet_x_200mf
#
# In Python, the name works in `create_dataset`. Further arguments reach the class.

# %%
ms.set_seed(1)
train_set = create_dataset("shapes", split="train")
val_set = create_dataset("shapes", split="val", shuffle=False, count=120)
transform = create_transforms(image_resize=32, is_training=True, scale=(0.8, 1.0))
train_batches = create_loader(train_set, 16, drop_remainder=True, transform=transform)
transform = create_transforms(image_resize=32, crop_pct=1.0)
val_batches = create_loader(val_set, 40, transform=transform)

# %%
network = create_model(
    "regnet", w_a=8, w_0=16, w_m=2.0, d=4, group_w=8, num_classes=train_set.num_classes()
)
optimizer = create_optimizer(network, "adamw", lr=0.01, weight_decay=0.01)
model = ms.Model(network, create_loss(), optimizer, metrics={"accuracy"})
model.train(4, train_batches, callbacks=[ms.LossMonitor(30)])
accuracy = model.eval(val_batches)["accuracy"]
print(f"top-1 {accuracy:.1%}")

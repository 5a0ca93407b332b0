"""Write logits.json: what timm's and torchvision's RegNets answer to the weights of fill.py.

Run once, with torch, timm and torchvision installed: `python tests/golden/make_logits.py` (ten
minutes and 8 GB of memory). See peers.py for the networks.
"""

import json
import re
from pathlib import Path

import numpy as np
import peers
import torch
from fill import direction, fill, images, labels

SMALL, SMALL_BATCH = "64x96", 2
SIZES = ("224x224", "192x192", "288x288", "224x160")
FEWER_SIZES = {"regnet_y_128gf": ("224x224",)}
GRADIENTS = ("regnet_x_200mf", "regnet_y_200mf")
TRAINING = (4, 3, 64, 64)
TOLERANCE = 1e-12  # between two peers, relative to the largest logit


def main():
    torch.manual_seed(0)
    result = {
        "_source": f"timm {peers.timm.__version__}, torchvision {peers.torchvision.__version__}, "
        f"torch {torch.__version__}, numpy {np.__version__}; float64 evaluation of float32 "
        "weights; made by tests/golden/make_logits.py",
        "fill_probe": [float(v) for v in fill("stem.conv.weight", (32, 3, 3, 3)).ravel()[:4]],
        "peers": {},
        "logits": {},
        "gradients": {},
    }
    for name in peers.TIMM:
        network = peers.build(name)
        answers = answer(network, name)
        if name in GRADIENTS:
            result["gradients"][name] = gradients(network)
        del network
        result["peers"][name] = agreement(name, answers)
        result["logits"][name] = {size: summary(logits) for size, logits in answers.items()}
        print(name, result["peers"][name], flush=True)
    path = Path(__file__).with_name("logits.json")
    path.write_text(compact(result))


def answer(network: torch.nn.Module, name: str) -> dict[str, np.ndarray]:
    answers = {SMALL: peers.logits(network, SMALL, SMALL_BATCH)}
    for size in FEWER_SIZES.get(name, SIZES):
        answers[size] = peers.logits(network, size)
    return answers


def agreement(name: str, answers: dict[str, np.ndarray]) -> dict:
    """Return who made the answers, and how far torchvision is from timm, where it has the model."""
    made_by = {"timm": peers.TIMM[name]}
    if name in peers.TORCHVISION:
        others = answer(peers.build(name, "torchvision"), name)
        worst = max(
            np.abs(others[size] - logits).max() / np.abs(logits).max()
            for size, logits in answers.items()
        )
        if worst > TOLERANCE:
            raise SystemExit(f"{name}: torchvision and timm differ by {worst:.1e}")
        made_by |= {"torchvision": peers.TORCHVISION[name], "difference": float(f"{worst:.1e}")}
    return made_by


def summary(logits: np.ndarray) -> dict:
    """Return a few figures that every logit takes part in."""
    return {
        "first": rounded(logits[:8]),
        "max_abs": rounded(np.abs(logits).max()),
        "sum": rounded(logits.sum()),
        "projection": rounded(logits @ direction("logits", logits.shape)),
    }


def gradients(network: torch.nn.Module) -> dict:
    """Return loss, and for every parameter [norm, projection, first, middle, last] of its gradient.

    The projection is the dot product with `fill.direction`, which every element takes part in.
    """
    network.train()
    network.zero_grad()
    batch = torch.from_numpy(images(TRAINING)).double()
    target = torch.from_numpy(labels(TRAINING[0])).long()
    loss = torch.nn.functional.cross_entropy(network(batch), target)
    loss.backward()
    rows = {}
    for key, parameter in network.named_parameters():
        name, gradient = peers.canonical(key), parameter.grad.numpy()
        flat = gradient.ravel()
        projection = (gradient * direction(name, gradient.shape)).sum()
        entries = [flat[0], flat[flat.size // 2], flat[-1]]
        rows[name] = [rounded(v) for v in (np.linalg.norm(flat), projection, *entries)]
    return {"loss": rounded(loss.item()), "parameters": rows}


def rounded(values):
    """Keep nine digits: more than float32 holds."""
    if np.ndim(values):
        return [rounded(value) for value in values]
    return float(f"{float(values):.9g}")


def compact(result: dict) -> str:
    """Format as JSON, one line a list."""
    lines = json.dumps(result, indent=1)
    return re.sub(r"\[[^\[\]]*\]", lambda m: re.sub(r"\s+", " ", m[0]), lines) + "\n"


if __name__ == "__main__":
    main()

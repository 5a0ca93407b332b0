"""Make optimizers.npz: the weights after 1, 10 and 60 steps of torch's optimizers in float64.

Run with torch: `python make_optimizers.py`. The problem stands in quadratic.py.
"""

from pathlib import Path

import numpy as np
import torch
from quadratic import CASES, EXEMPT, SHAPES, STEPS, WEIGHT_DECAY, gradient, rates, start


def torch_optimizer(groups, opt, momentum=0.9, nesterov=False, eps=1e-8, beta1=0.9, beta2=0.999):
    if opt in ("sgd", "momentum", "nesterov"):
        nesterov = nesterov or opt == "nesterov"
        return torch.optim.SGD(groups, lr=1.0, momentum=momentum, nesterov=nesterov)
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return classes[opt](groups, lr=1.0, betas=(beta1, beta2), eps=eps)


def trajectory(case: dict, exempt: tuple, decay: float) -> dict[int, dict[str, np.ndarray]]:
    weights = {name: torch.tensor(w.astype(np.float64)) for name, w in start().items()}
    groups = [
        {"params": [weights[name]], "weight_decay": 0.0 if name in exempt else decay}
        for name in SHAPES
    ]
    optimizer = torch_optimizer(groups, **case)
    kept = {}
    for step, rate in enumerate(rates()):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for name, weight in weights.items():
            weight.grad = torch.tensor(gradient(name, weight.numpy(), step))
        optimizer.step()
        if step + 1 in (1, 10, STEPS):
            kept[step + 1] = {name: weight.numpy().copy() for name, weight in weights.items()}
    return kept


def main():
    golden = {}
    for label, case in CASES.items():
        for rule, exempt in EXEMPT.items():
            for step, weights in trajectory(case, exempt, WEIGHT_DECAY).items():
                for name, weight in weights.items():
                    golden[f"{label}/{rule}/{step}/{name}"] = weight.astype(np.float32)
        for name, weight in trajectory(case, (), 0.0)[STEPS].items():
            golden[f"{label}/no decay/{STEPS}/{name}"] = weight.astype(np.float32)
    flat = {}
    for key, weight in golden.items():  # one array per trajectory: a small file
        flat.setdefault(key.rsplit("/", 1)[0], []).append(weight.ravel())
    flat = {key: np.concatenate(weights) for key, weights in flat.items()}
    np.savez_compressed(Path(__file__).with_name("optimizers.npz"), **flat)


if __name__ == "__main__":
    main()

"""Make optimizers.npz: weights of small_net.py under torch's and timm's optimizers.

Run with torch and timm: `python make_optimizers.py`. Each run is made in float64 and in float32;
the file holds the float64 weights and how far the float32 ones came from them, which is what
rounding alone does. It also holds timm's layers and rate factors of a RegNet. Where torchvision's
compiled operators do not load, two empty ones are defined first.
"""

from pathlib import Path

import numpy as np
import torch
from peers import canonical
from small_net import (
    EXEMPT,
    KEPT,
    LAYER_DECAY,
    LAYERS,
    OPTIMIZERS,
    SHAPES,
    VARIANTS,
    WEIGHT_DECAY,
    batch,
    rates,
    start,
)
from timm import create_model
from timm.optim import param_groups_layer_decay
from timm.optim.adan import Adan
from timm.optim.lamb import Lamb
from timm.optim.lion import Lion
from timm.optim.rmsprop_tf import RMSpropTF


def main():
    golden = {}
    for label, case in {**OPTIMIZERS, **VARIANTS}.items():
        record(golden, f"{label}/auto", case, "auto", WEIGHT_DECAY)
    for label, case in OPTIMIZERS.items():
        record(golden, f"{label}/norm_and_bias", case, "norm_and_bias", WEIGHT_DECAY)
        record(golden, f"{label}/layers", case, "disable", WEIGHT_DECAY, LAYER_DECAY)
    names, scales = timm_layer_scales("regnetx_002", 0.75)
    path = Path(__file__).with_name("optimizers.npz")
    np.savez_compressed(path, layer_names=names, layer_scales=scales, **golden)


def record(golden, key, case, rule, decay, layer_decay=1.0):
    exact = trajectory(case, EXEMPT[rule], decay, layer_decay, torch.float64)
    rounded = trajectory(case, EXEMPT[rule], decay, layer_decay, torch.float32)
    golden[key] = exact.astype(np.float32)
    golden[f"{key}/gap"] = np.abs(exact - rounded).max(1).astype(np.float32)
    print(f"{key:40} moved {np.abs(exact[-1] - exact[0]).max():.3f} gap {golden[f'{key}/gap']}")


def trajectory(case, exempt, decay, layer_decay, dtype) -> np.ndarray:
    """Return the weights, flattened into a row, after each step of KEPT."""
    torch.set_default_dtype(dtype)
    weights = {n: torch.tensor(w, dtype=dtype, requires_grad=True) for n, w in start().items()}
    groups = [
        {"params": [weights[name]], "weight_decay": 0.0 if name in exempt else decay}
        for name in SHAPES
    ]
    scales = [layer_decay ** (max(LAYERS.values()) - LAYERS[n.split(".")[0]]) for n in SHAPES]
    optimizer = torch_optimizer(groups, **{k: v for k, v in case.items() if k != "peak"})
    kept = []
    for step, rate in enumerate(rates(case["peak"])):
        for group, scale in zip(optimizer.param_groups, scales):
            group["lr"] = rate * scale
        optimizer.zero_grad()
        loss(weights, *(torch.tensor(a, dtype=dtype) for a in batch(step))).backward()
        optimizer.step()
        if step + 1 in KEPT:
            kept.append(np.concatenate([w.detach().numpy().ravel() for w in weights.values()]))
    return np.stack(kept).astype(np.float64)


def loss(weights, x, target):
    stem, gamma, beta, scale, branch, head, bias = weights.values()
    h = gamma * (x @ stem.T) + beta
    h = h + scale * (h @ branch.T) ** 2
    return ((h @ head.T + bias - target) ** 2).mean() / 2


def torch_optimizer(groups, opt, momentum=0.9, nesterov=False, eps=1e-8, **rest):
    first = dict(adan=0.98).get(opt, 0.9)
    second = dict(adan=0.92, lion=0.99).get(opt, 0.999)
    betas = rest.get("beta1", first), rest.get("beta2", second)
    if opt in ("sgd", "momentum", "nesterov"):
        nesterov = nesterov or opt == "nesterov"
        return torch.optim.SGD(groups, lr=1.0, momentum=momentum, nesterov=nesterov)
    if opt == "rmsprop":
        return RMSpropTF(groups, lr=1.0, alpha=0.9, eps=eps, momentum=momentum, foreach=False)
    if opt == "adagrad":
        return torch.optim.Adagrad(groups, lr=1.0, initial_accumulator_value=0.1, eps=0.0)
    if opt == "lion":
        return Lion(groups, lr=1.0, betas=betas, foreach=False)
    if opt == "adan":
        betas = (*betas, rest.get("beta3", 0.99))
        return Adan(groups, lr=1.0, betas=betas, eps=eps, foreach=False)
    if opt == "lamb":
        switches = {k: rest.get(k, False) for k in ("trust_clip", "always_adapt")}
        return Lamb(
            groups, lr=1.0, betas=betas, eps=eps, max_grad_norm=None, foreach=False, **switches
        )
    if opt == "nadam":
        decay = rest.get("schedule_decay", 0.004)
        return torch.optim.NAdam(groups, lr=1.0, betas=betas, eps=eps, momentum_decay=decay)
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return classes[opt](groups, lr=1.0, betas=betas, eps=eps)


def timm_layer_scales(name, layer_decay) -> tuple[list[str], list[float]]:
    network = create_model(name)
    names = {id(p): canonical(n) for n, p in network.named_parameters()}
    groups = param_groups_layer_decay(network, layer_decay=layer_decay)
    found = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    return list(found), list(found.values())


if __name__ == "__main__":
    main()

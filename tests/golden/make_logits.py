"""Write logits.json: what timm's RegNets answer to the weights and images of fill.py.

Run once, with torch and timm installed: `python tests/golden/make_logits.py`. The networks are
timm's, evaluated in float64 from float32 weights, so that the figures carry no rounding of their
own. Where torchvision's compiled operators do not load, two empty ones are defined first.
"""

import json
import re
from pathlib import Path

import numpy as np
import torch
from fill import direction, fill, images, labels

torch.set_num_threads(1)
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

import timm  # noqa: E402

SIZES = "200mf 400mf 600mf 800mf 1_6gf 3_2gf 4_0gf 6_4gf 8_0gf 12gf 16gf 32gf".split()
MODELS = [f"regnet_{family}_{size}" for family in "xy" for size in SIZES]
FULL_SIZE = ("regnet_x_200mf", "regnet_y_200mf", "regnet_x_800mf", "regnet_y_800mf")
SMALL = (2, 3, 64, 96)
FULL = (1, 3, 224, 224)
GRADIENTS = ("regnet_x_200mf", "regnet_y_200mf")
TRAINING = (4, 3, 64, 64)

_PARTS = (
    (r"\bs(\d)\.b(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{int(m[2]) - 1}."),
    (r"downsample\.conv\.", "proj."),
    (r"downsample\.bn\.", "bn."),
    (r"conv1\.conv\.", "f.a."),
    (r"conv1\.bn\.", "f.a_bn."),
    (r"conv2\.conv\.", "f.b."),
    (r"conv2\.bn\.", "f.b_bn."),
    (r"conv3\.conv\.", "f.c."),
    (r"conv3\.bn\.", "f.c_bn."),
    (r"\bse\.fc1\.", "f.se.conv_reduce."),
    (r"\bse\.fc2\.", "f.se.conv_expand."),
    (r"bn\.weight$", "bn.gamma"),
    (r"bn\.bias$", "bn.beta"),
    (r"running_mean$", "moving_mean"),
    (r"running_var$", "moving_variance"),
)


def main():
    torch.manual_seed(0)
    result = {
        "_source": f"timm {timm.__version__}, torch {torch.__version__}, numpy {np.__version__}; "
        "float64 evaluation of float32 weights; made by tests/golden/make_logits.py",
        "fill_probe": [float(v) for v in fill("stem.conv.weight", (32, 3, 3, 3)).ravel()[:4]],
        "logits": {},
        "gradients": {},
    }
    for name in MODELS:
        model = build(name)
        shapes = [SMALL, FULL] if name in FULL_SIZE else [SMALL]
        result["logits"][name] = {f"{s[2]}x{s[3]}": logits(model, s) for s in shapes}
        if name in GRADIENTS:
            result["gradients"][name] = gradients(model)
        print(name, result["logits"][name], flush=True)
    path = Path(__file__).with_name("logits.json")
    path.write_text(compact(result))


def build(name: str) -> torch.nn.Module:
    family, size = re.fullmatch(r"regnet_([xy])_(\w+)", name).groups()
    scale = 1 if size.endswith("mf") else 1000
    millions = round(float(size[:-2].replace("_", ".")) * scale)
    model = timm.create_model(f"regnet{family}_{millions // 100:03d}")
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(fill(canonical(key), tuple(tensor.shape))))
    return model.double().eval()


def canonical(name: str) -> str:
    """Translate timm's parameter name into this library's."""
    for pattern, replacement in _PARTS:
        name = re.sub(pattern, replacement, name)
    return name


def logits(model: torch.nn.Module, shape: tuple[int, ...]) -> dict:
    with torch.no_grad():
        last = model.eval()(torch.from_numpy(images(shape)).double()).numpy()[-1]
    return {
        "first": rounded(last[:8]),
        "max_abs": rounded(np.abs(last).max()),
        "sum": rounded(last.sum()),
    }


def gradients(model: torch.nn.Module) -> dict:
    """Return loss, and for every parameter [norm, projection, first, middle, last] of its gradient.

    The projection is the dot product with `fill.direction`, which every element takes part in.
    """
    model.train()
    model.zero_grad()
    batch = torch.from_numpy(images(TRAINING)).double()
    target = torch.from_numpy(labels(TRAINING[0])).long()
    loss = torch.nn.functional.cross_entropy(model(batch), target)
    loss.backward()
    rows = {}
    for key, parameter in model.named_parameters():
        name, gradient = canonical(key), parameter.grad.numpy()
        flat = gradient.ravel()
        projection = (gradient * direction(name, gradient.shape)).sum()
        entries = [flat[0], flat[flat.size // 2], flat[-1]]
        rows[name] = [rounded(v) for v in (np.linalg.norm(flat), projection, *entries)]
    model.eval()
    return {"loss": rounded(loss.item()), "parameters": rows}


def rounded(values):
    """Keep nine digits: more than float32 holds."""
    if np.ndim(values):
        return [rounded(value) for value in values]
    return float(f"{float(values):.9g}")


def compact(result: dict) -> str:
    """Format as JSON, one line a model or parameter."""
    lines = json.dumps(result, indent=1)
    return re.sub(r"\[[^\[\]]*\]", lambda m: re.sub(r"\s+", " ", m[0]), lines) + "\n"


if __name__ == "__main__":
    main()

"""Write more_logits.json and the rows of complexity.json that are not pycls' 24 models.

Run once, with torch, torchvision and ClassyVision 0.7.0 installed:
`python tests/golden/make_more_models.py`. The X and Y networks are torchvision's, the Z networks
ClassyVision's trunk under its own head; parameters, multiply-accumulates and activations are
counted by forward hooks on the live modules. Logits are float64 evaluations of float32 weights
(fill.py). Where torchvision's compiled operators do not load, two empty ones are defined first.
"""

import json
import re
from pathlib import Path

import numpy as np
import torch
from fill import fill, images
from torch import nn

torch.set_num_threads(1)
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

import torchvision  # noqa: E402
from classy_vision.heads.fully_connected_head import FullyConnectedHead  # noqa: E402
from classy_vision.models.regnet import RegNetZ4gf, RegNetZ500mf  # noqa: E402

HERE = Path(__file__).parent
SMALL = (2, 3, 64, 96)
WITHOUT_LOGITS = ("regnet_y_128gf",)


def inverted(trunk: type[nn.Module], width: int, head_width: int) -> nn.Module:
    head = FullyConnectedHead("head", 1000, width, conv_planes=head_width, activation=nn.SiLU())
    return nn.Sequential(trunk(), head)


BUILDERS = {
    "regnet_x_400mf_tv": torchvision.models.regnet_x_400mf,
    "regnet_y_800mf_tv": torchvision.models.regnet_y_800mf,
    "regnet_y_8_0gf_tv": torchvision.models.regnet_y_8gf,
    "regnet_y_128gf": torchvision.models.regnet_y_128gf,
    # the widths of the heads are timm's, of regnetz_005 and regnetz_040_h
    "regnet_z_500mf": lambda: inverted(RegNetZ500mf, 256, 1024),
    "regnet_z_4_0gf": lambda: inverted(RegNetZ4gf, 528, 1536),
}

_PARTS = (
    (r"^0\.|^1\.(?=(conv|bn|fc)\.)", lambda m: "" if m[0] == "0." else "head."),
    (r"^(trunk_output\.)block(\d)\.block\d-(\d+)\.", r"stages.\2.blocks.\3."),
    (r"^stages\.(\d)", lambda m: f"stages.{int(m[1]) - 1}"),
    (r"^stem\.(stem\.)?0\.", "stem.conv."),
    (r"^stem\.(stem\.)?1\.", "stem.bn."),
    (r"\.f\.([abc])\.0\.", r".f.\1."),
    (r"\.f\.([abc])\.1\.", r".f.\1_bn."),
    (r"\.f\.final_bn\.", ".f.c_bn."),
    (r"\.se\.(fc1|excitation\.0)\.", ".se.conv_reduce."),
    (r"\.se\.(fc2|excitation\.2)\.", ".se.conv_expand."),
    (r"\.proj\.0\.", ".proj."),
    (r"\.proj\.1\.", ".bn."),
    (r"^fc\.", "head.fc."),
    (r"bn\.weight$", "bn.gamma"),
    (r"bn\.bias$", "bn.beta"),
    (r"running_mean$", "moving_mean"),
    (r"running_var$", "moving_variance"),
)


def main():
    logits = {
        "_source": f"torchvision {torchvision.__version__}, ClassyVision 0.7.0, torch "
        f"{torch.__version__}; float64 evaluation; made by tests/golden/make_more_models.py"
    }
    rows = {}
    for name, build in BUILDERS.items():
        torch.manual_seed(0)
        model = build()
        if name not in WITHOUT_LOGITS:
            logits[name] = answer(model)
        rows[name] = count(model.to("meta"))
        print(name, rows[name], logits.get(name), flush=True)
    write(HERE / "more_logits.json", logits)
    table = json.loads((HERE / "complexity.json").read_text())
    write(HERE / "complexity.json", table | rows)


def count(model: nn.Module) -> dict:
    """Return costs of one image of 224 pixels, and what shapes the stages."""
    totals = {"params": sum(p.numel() for p in model.parameters()), "macs": 0, "acts": 0}

    def hook(module, _, output):
        totals["macs"] += module.weight[0].numel() * output[0].numel()
        totals["acts"] += output[0].numel() if isinstance(module, nn.Conv2d) else 0

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(hook)
    model.float().eval()(torch.empty(1, 3, 224, 224, device="meta"))
    trunk = model if hasattr(model, "trunk_output") else model[0]
    grouped = [
        [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        for stage in trunk.trunk_output
    ]
    blocks = [list(stage)[-1] for stage in trunk.trunk_output]
    ends = [[m for m in block.f.c.modules() if isinstance(m, nn.Conv2d)][0] for block in blocks]
    groups = [stage[0].groups for stage in grouped]
    return totals | {
        "stage_widths": [end.out_channels for end in ends],
        "stage_depths": [len(stage) for stage in trunk.trunk_output],
        "stage_groups": groups,
        "stage_group_widths": [s[0].out_channels // g for s, g in zip(grouped, groups)],
    }


def answer(model: nn.Module) -> dict:
    names = []
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                names.append(canonical(key))
                tensor.copy_(torch.from_numpy(fill(names[-1], tuple(tensor.shape))))
        last = model.double().eval()(torch.from_numpy(images(SMALL)).double()).numpy()[-1]
    return {
        "first": [float(f"{value:.9g}") for value in last[:8]],
        "max_abs": float(f"{np.abs(last).max():.9g}"),
        "sum": float(f"{last.sum():.9g}"),
        "parameters": len(names),
    }


def canonical(name: str) -> str:
    """Translate torchvision's or ClassyVision's parameter name into this library's."""
    for pattern, replacement in _PARTS:
        name = re.sub(pattern, replacement, name)
    return name


def write(path: Path, table: dict) -> None:
    """Write JSON, one line an entry."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(row)}" for key, row in table.items())
    path.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()

"""Write weights/*: a tiny RegNet as torch saves it, in every way it does.

Run once, with torch and torchvision installed: `python tests/golden/make_weight_files.py`. The
network is torchvision's; its values are those of fill.py under this library's names, so that a
reader needs no figures.
"""

import argparse
import re
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import torch
from fill import fill

# Where torchvision's compiled operators do not load, two empty ones let it be imported.
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

import torchvision  # noqa: E402
from torchvision.models.regnet import BlockParams, RegNet  # noqa: E402

FOLDER = Path(__file__).with_name("weights")
_PARTS = (
    (r"^stem\.0\.", "stem.conv."),
    (r"^stem\.1\.", "stem.bn."),
    (r"^fc\.", "head.fc."),
    (r"^trunk_output\.block1\.block1-(\d)\.", r"stages.0.blocks.\1."),
    (r"proj\.0\.", "proj."),
    (r"proj\.1\.", "bn."),
    (r"f\.([abc])\.0\.", r"f.\1."),
    (r"f\.([abc])\.1\.", r"f.\1_bn."),
    (r"se\.fc1\.", "se.conv_reduce."),
    (r"se\.fc2\.", "se.conv_expand."),
    (r"bn\.weight$", "bn.gamma"),
    (r"bn\.bias$", "bn.beta"),
    (r"running_mean$", "moving_mean"),
    (r"running_var$", "moving_variance"),
)


def main():
    plan = BlockParams([2], [8], [8], [1.0], [2], se_ratio=0.25)
    model = RegNet(plan, num_classes=5, stem_width=8)
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(fill(canonical(name), tuple(tensor.shape))))
    FOLDER.mkdir(exist_ok=True)
    save(state, "zip.pth")
    save(state, "legacy.pth", _use_new_zipfile_serialization=False)
    save(state, "protocol4.pth", pickle_protocol=4)
    save({name: half(tensor, torch.float16) for name, tensor in state.items()}, "half.pth")
    save({name: half(tensor, torch.bfloat16) for name, tensor in state.items()}, "bfloat16.pth")
    save(in_one_storage(state), "one_storage.pth")
    save(in_one_storage(state), "one_storage_legacy.pth", _use_new_zipfile_serialization=False)
    save(of_training(model), "training.pth")
    save(of_all_kinds(), "objects.pth")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}: {len(state)} tensors")


def canonical(name: str) -> str:
    """Translate torchvision's parameter name into this library's."""
    for pattern, replacement in _PARTS:
        name = re.sub(pattern, replacement, name)
    return name


def save(content, name: str, **options):
    torch.save(content, FOLDER / name, **options)


def half(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def in_one_storage(state: dict) -> OrderedDict:
    """Lay all tensors in one storage, the matrices transposed in memory."""
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    flat = torch.zeros(3 + sum(tensor.numel() for tensor in floats.values()))
    result, at = OrderedDict(), 3
    for name, tensor in floats.items():
        part = flat[at : at + tensor.numel()]
        at += tensor.numel()
        backwards = list(range(tensor.dim()))[::-1]
        view = part.view([tensor.shape[axis] for axis in backwards]).permute(backwards)
        result[name] = view.copy_(tensor)
    assert not result["fc.weight"].is_contiguous()
    return result


def of_training(model: torch.nn.Module) -> dict:
    """Return what torchvision's training script saves: optimizer, options and averages beside."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60])
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(torch.zeros(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    averaged = {f"module.{name}": tensor + 1 for name, tensor in weights.items()}
    return {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, lr_steps=[30, 60], output_dir="."),
        "model_ema": {"n_averaged": torch.tensor(7), **averaged},
    }


def of_all_kinds() -> dict:
    """Return each kind of tensor once: 0, 1, … as its elements; and what else may stand beside."""
    with_attribute = torch.arange(6.0)
    with_attribute.remark = "kept by torch as the attribute of a tensor"
    return {
        "parameter": torch.nn.Parameter(torch.arange(6.0)),
        "parameter_without_gradient": torch.nn.Parameter(torch.arange(6), requires_grad=False),
        "with_attribute": with_attribute,
        "scalar": torch.tensor(0.0),
        "empty": torch.zeros(0, 3),
        "flags": torch.arange(2) > 0,
        "numbers": {
            str(kind).removeprefix("torch."): torch.arange(6).to(kind)
            for kind in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.float64)
        },
        "list": [torch.arange(6.0), (torch.arange(6.0),)],
        "beside": {
            "size": torch.Size([2, 3]),
            "dtype": torch.float32,
            "device": torch.device("cpu"),
            "figure": np.float64(1.5),
            "set": {1, 2},
            "bytes": b"abc",
            "large": 2**70,
            "default": defaultdict(dict, a={}),
            "nothing": None,
        },
    }


if __name__ == "__main__":
    main()

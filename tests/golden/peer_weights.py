"""The other libraries' side of tests/weights/test_weight_peers.py, run where torch is installed.

`peer_weights.py save FOLDER` writes networks of pycls, timm, torchvision and transformers as files
with the logits they give; `peer_weights.py load FOLDER` loads `<library>.safetensors`, all of it
or an error, and writes the logits.
"""

import sys
from pathlib import Path

import numpy as np
import torch

# Where torchvision's compiled operators do not load, two empty ones let it be imported.
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402
from pycls.core.config import cfg  # noqa: E402
from pycls.models.regnet import RegNet as PyclsRegNet  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

CLASSES = 11


def timm_regnet() -> torch.nn.Module:
    return timm.create_model("regnety_002", num_classes=CLASSES)


def torchvision_regnet() -> torch.nn.Module:
    return torchvision.models.regnet_y_400mf(num_classes=CLASSES)


def pycls_regnet() -> torch.nn.Module:
    settings = {"WA": 36.44, "W0": 24, "WM": 2.49, "DEPTH": 13, "GROUP_W": 8, "SE_ON": False}
    for key, value in settings.items():
        setattr(cfg.REGNET, key, value)
    cfg.MODEL.NUM_CLASSES = CLASSES
    return PyclsRegNet()


def transformers_regnet() -> torch.nn.Module:
    config = transformers.RegNetConfig(
        hidden_sizes=[24, 56, 152, 368],
        depths=[1, 1, 4, 7],
        groups_width=8,
        layer_type="y",
        num_labels=CLASSES,
    )
    return transformers.RegNetForImageClassification(config)


LIBRARIES = {
    "pycls": pycls_regnet,
    "timm": timm_regnet,
    "torchvision": torchvision_regnet,
    "transformers": transformers_regnet,
}


def save(folder: Path) -> None:
    torch.manual_seed(0)
    results = {}
    for library, build in LIBRARIES.items():
        model = randomised(build())
        state = model.state_dict()
        if library == "pycls":
            content = {"epoch": 9, "model_state": state, "cfg": "MODEL:\n  TYPE: regnet\n"}
            torch.save(content, folder / "pycls.pyth", _use_new_zipfile_serialization=False)
        elif library == "transformers":
            model.save_pretrained(folder / "transformers")
        else:
            torch.save(state, folder / f"{library}.pth")
            torch.save(
                state, folder / f"{library}-legacy.pth", _use_new_zipfile_serialization=False
            )
            save_file(state, folder / f"{library}.safetensors")
        results[library] = logits(library, model, folder)
        if library == "timm":
            for kind in (torch.float16, torch.bfloat16):
                name = f"timm-{str(kind).removeprefix('torch.')}"
                torch.save({"state_dict": model.to(kind).state_dict()}, folder / f"{name}.pth")
                results[name] = logits(library, model.float(), folder)
    np.savez(folder / "logits.npz", **results)


def load(folder: Path) -> None:
    results = {}
    for library, build in LIBRARIES.items():
        model = build()
        model.load_state_dict(load_file(folder / f"{library}.safetensors"), strict=True)
        results[library] = logits(library, model, folder)
    np.savez(folder / "logits.npz", **results)


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Give normalisations weights and statistics that a wrong mapping would show in."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.1)
            torch.nn.init.normal_(module.bias)
    return model


def logits(library: str, model: torch.nn.Module, folder: Path) -> np.ndarray:
    picture = torch.from_numpy(np.load(folder / "picture.npy"))
    if library == "pycls":
        picture = picture.flip(1)
    with torch.no_grad():
        result = model.eval()(picture)
    return (result if isinstance(result, torch.Tensor) else result.logits).numpy()


if __name__ == "__main__":
    {"save": save, "load": load}[sys.argv[1]](Path(sys.argv[2]))

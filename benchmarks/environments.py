"""Environments of the peers, made with venv and pip on first use."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from sides import say

# Lines of pip's arguments. torchvision's wheel would replace torch by the build it wants.
PEERS = (
    "torch==2.13.0",
    "--no-deps torchvision==0.28.0 timm",
    "numpy<2 pillow pyyaml safetensors huggingface_hub tqdm onnxruntime",
)
MINDCV = ("mindspore=={mindspore} numpy<2", "mindcv==0.3.0 numpy<2")


def make_environments(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the Pythons of the environments peers and mindcv, made where they are missing.

    Raises:
        SystemExit: pip failed; it has written why.
    """
    pythons = {}
    for name in names:
        place = folder / name
        pythons[name] = str(place / "bin" / "python")
        done = place / "is_complete"  # an interrupted installation is made anew
        if done.exists():
            continue
        say(f"installing {name} into {place}")
        _run([sys.executable, "-m", "venv", "--clear", str(place)])
        for line in {"peers": PEERS, "mindcv": MINDCV}[name]:
            words = line.format(mindspore=version("mindspore")).split()
            _run([pythons[name], "-m", "pip", "install", "--quiet", *words])
        done.touch()
    return pythons


def _run(command: list[str]) -> None:
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise SystemExit(f"this failed, see above: {' '.join(command)}")

"""Every logit of the networks, compared with timm and torchvision themselves.

Torch and MindSpore need not share an environment: PEERS_PYTHON names an interpreter with torch,
timm and torchvision; by default this one is tried.
"""

import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from golden.fill import images
from test_identity import EXPECTED, filled

SCRIPT = Path(__file__).parents[1] / "golden" / "peers.py"
PYTHON = os.environ.get("PEERS_PYTHON", sys.executable)
SIZES = ("224x224", "192x192", "288x288", "224x160")


@pytest.fixture(scope="module")
def answers_of():
    """Return a function that asks the peers for the logits of a name and sizes."""
    # torchvision is looked for, not imported: it may need what the script does first.
    code = (
        "import importlib.util, sys; names = 'torch torchvision timm'.split();"
        "sys.exit(not all(map(importlib.util.find_spec, names)))"
    )
    if subprocess.run([PYTHON, "-c", code]).returncode:
        pytest.skip(f"{PYTHON} lacks torch, torchvision or timm")

    def ask(name: str, out: Path, sizes: tuple[str, ...]) -> dict[str, np.ndarray]:
        command = [PYTHON, str(SCRIPT), name, str(out), *sizes]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return dict(np.load(out))

    return ask


@pytest.mark.peers
@pytest.mark.parametrize("name", EXPECTED["peers"])
def test_every_logit_is_the_peers_to_float32_rounding(name, answers_of, tmp_path):
    sizes = SIZES[:1] if name == "regnet_y_128gf" else SIZES
    answers = answers_of(name, tmp_path / "answers.npz", sizes)
    assert {key.split()[0] for key in answers} == EXPECTED["peers"][name].keys() - {"difference"}
    network, ours = filled(name), {}
    for size in sizes:
        height, width = (int(side) for side in size.split("x"))
        ours[size] = network(ms.Tensor(images((1, 3, height, width)))).asnumpy()[0]
    for key, expected in answers.items():
        error = np.abs(ours[key.split()[1]] - expected).max() / np.abs(expected).max()
        print(f"{name} {key}: {error:.1e}")
        assert error <= 5e-6, key

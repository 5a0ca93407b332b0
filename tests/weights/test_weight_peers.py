"""Files of the libraries themselves: their weights here, and ours there, give equal logits.

Torch and MindSpore need not share an environment: PEERS_PYTHON names the interpreter that has
torch, torchvision, timm, pycls and transformers; without it this one is tried.
"""

import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from golden.fill import fill, images

from mindcv.models import create_model, create_model_from_file
from mindcv.weights import write_weights

pytestmark = pytest.mark.peers

SCRIPT = Path(__file__).parents[1] / "golden" / "peer_weights.py"
PYTHON = os.environ.get("PEERS_PYTHON", sys.executable)
MODELS = {
    "pycls": "regnet_x_200mf",
    "timm": "regnet_y_200mf",
    "torchvision": "regnet_y_400mf",
    "transformers": "regnet_y_200mf",
}
PICTURE = images((2, 3, 64, 64))


@pytest.fixture(scope="module")
def peers():
    # torchvision is looked for, not imported: it may need what the script does first.
    code = (
        "import importlib.util, sys; names = 'torch torchvision timm pycls transformers'.split();"
        "sys.exit(not all(map(importlib.util.find_spec, names)))"
    )
    if subprocess.run([PYTHON, "-c", code]).returncode:
        pytest.skip(f"{PYTHON} lacks torch, torchvision, timm, pycls or transformers")

    def run(task: str, folder: Path) -> dict[str, np.ndarray]:
        np.save(folder / "picture.npy", PICTURE)
        done = subprocess.run(
            [PYTHON, str(SCRIPT), task, str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return dict(np.load(folder / "logits.npz"))

    return run


@pytest.fixture(scope="module")
def saved(peers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    return folder, peers("save", folder)


@pytest.mark.parametrize(
    "name",
    [
        "pycls.pyth",
        "timm.pth",
        "timm-legacy.pth",
        "timm.safetensors",
        "timm-float16.pth",
        "timm-bfloat16.pth",
        "torchvision.pth",
        "torchvision-legacy.pth",
        "torchvision.safetensors",
        "transformers/model.safetensors",
    ],
)
def test_their_file_gives_their_logits_here(saved, name):
    folder, logits = saved
    library = name.split(".")[0].split("-")[0].split("/")[0]
    model = MODELS[library]
    network, metadata = create_model_from_file(folder / name, model)
    assert metadata.num_classes == 11
    expected = logits.get(name.split(".")[0], logits[library])
    found = network(ms.Tensor(PICTURE)).asnumpy()
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0.1


def test_our_file_gives_our_logits_there_and_loads_strictly(peers, tmp_path):
    expected = {}
    for library, model in MODELS.items():
        network = create_model(model, num_classes=11).set_train(False)
        weights = {p.name: fill(p.name, p.shape) for p in network.get_parameters()}
        for parameter in network.get_parameters():
            parameter.set_data(ms.Tensor(weights[parameter.name]))
        expected[library] = network(ms.Tensor(PICTURE)).asnumpy()
        write_weights(tmp_path / f"{library}.safetensors", weights, names=library)
    found = peers("load", tmp_path)
    for library, logits in expected.items():
        np.testing.assert_allclose(found[library], logits, atol=2e-5 * np.abs(logits).max())
        assert np.ptp(logits) > 0.1

"""MindCV, of the same package name, is told apart, and a mixture of both is refused."""

import subprocess
import sys
from importlib import metadata

import pytest

import mindcv
from mindcv.__main__ import main
from mindcv.errors import ConfigError
from mindcv.mindcv_paths import PATHS
from mindcv.process import entry_point


def test_the_version_is_newer_than_all_of_mindcvs():
    """Scripts of MindCV compare it; its newest is 0.5.0."""
    assert tuple(map(int, mindcv.__version__.split("."))) >= (1, 0, 0)


def test_the_command_shows_what_a_bug_report_needs(capsys, monkeypatch):
    installed = dict.fromkeys(("mindspore", "numpy", "pillow"), "1.2.3")
    monkeypatch.setattr(metadata, "version", listed(**installed, mindcv="0.3.0"))
    main(["--version"])
    shown = capsys.readouterr().out
    for part in (mindcv.__version__, mindcv.__path__[0], "Python 3.", "mindspore 1.2.3"):
        assert part in shown
    assert "pip lists mindcv 0.3.0, which is not what runs here" in shown
    monkeypatch.setattr(metadata, "version", listed(**installed, **{"mindcv-regnet": "0.9"}))
    main(["--version"])
    assert "pip lists mindcv-regnet 0.9, which is not what runs here" in capsys.readouterr().out
    own = {"mindcv-regnet": mindcv.__version__}
    monkeypatch.setattr(metadata, "version", listed(**installed, **own))
    main(["--version"])
    assert "pip lists" not in capsys.readouterr().out


def listed(**versions: str):
    """Return a stand-in for `metadata.version`."""

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    return version


def test_no_module_of_this_library_has_a_path_that_only_mindcv_has():
    entry_point.check_environment()


@pytest.mark.parametrize("name", ["version", "loss.loss_factory"])
def test_a_folder_with_modules_of_both_is_refused(tmp_path, monkeypatch, name):
    assert name in PATHS
    path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.setattr(entry_point, "_PACKAGE", tmp_path)
    with pytest.raises(ConfigError, match="is MindCV's, so .* holds two libraries of one name"):
        entry_point.check_environment()


# Each import is tried after all others have failed.
IMPORTS = """
from importlib import metadata
real = metadata.version
metadata.version = lambda name: "2.1.3" if name == "numpy" else real(name)
for statement in (
    "from mindcv import create_model",
    "from mindcv.models import create_model",
    "from mindcv.models.regnet import RegNet",
    "from mindcv.utils import set_seed",
    "from mindcv.utils.random import set_seed",
    "from mindcv.utils.callbacks import StateMonitor",
    "from mindcv.data import create_dataset",
    "from mindcv.data import create_transforms",
    "from mindcv.data.loader import create_loader",
    "from mindcv.data.mixup import Mixup",
    "from mindcv.loss import CrossEntropySmooth",
    "from mindcv.loss import create_loss; create_loss()",
    "from mindcv.optim import create_optimizer; create_optimizer([])",
    "from mindcv.optim.adamw import AdamW",
    "import mindcv.engine",
):
    try:
        exec(statement)
    except ValueError as error:
        assert "numpy 2.1.3 breaks MindSpore" in str(error), statement
    else:
        raise AssertionError(f"no error: {statement}")
import mindcv.config, mindcv.scheduler, mindcv.version
"""


def test_every_import_that_needs_mindspore_stops_in_an_environment_that_cannot_work():
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

"""Import paths of MindCV lead to the same objects as ours."""

import importlib
import subprocess
import sys

import pytest

from mindcv.mindcv_paths import PATHS


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_path_of_mindcv_leads_to_our_names(path):
    old = importlib.import_module(f"mindcv.{path}")
    for home, names in PATHS[path].items():
        ours = importlib.import_module(f"mindcv.{home}".rstrip("."))
        for name in names:
            assert getattr(old, name) is getattr(ours, name)
    assert set(old.__all__) == {name for names in PATHS[path].values() for name in names}
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(old, "no_such_name")  # noqa: B009 (the name stands in the message)


def test_paths_cost_no_import_of_mindspore():
    code = (
        "import mindcv.version, sys; print(mindcv.version.__version__, 'mindspore' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[1] == "False"


def test_an_unknown_module_is_an_import_error():
    with pytest.raises(ModuleNotFoundError, match=r"mindcv\.no_such_module"):
        importlib.import_module("mindcv.no_such_module")

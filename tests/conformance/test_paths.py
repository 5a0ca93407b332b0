"""Import paths of MindCV lead to the same objects as ours."""

import importlib
import json
import subprocess
import sys

import pytest
from conftest import ROOT

import mindcv
from mindcv.mindcv_paths import PATHS


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_path_of_mindcv_leads_to_our_names(path):
    old = importlib.import_module(f"mindcv.{path}")
    for home, names in PATHS[path].items():
        ours = importlib.import_module(f"mindcv.{home}".rstrip("."))
        for name in names.split():
            assert getattr(old, name) is getattr(ours, name)
    assert set(old.__all__) == {name for names in PATHS[path].values() for name in names.split()}
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(old, "no_such_name")  # noqa: B009 (the name stands in the message)


# Nothing else is imported, which might set an attribute by the way.
BY_ATTRIBUTE = """
import json, sys
import mindcv
for dotted in json.loads(sys.argv[1]):
    found = mindcv
    for part in dotted.split(".")[1:]:
        found = getattr(found, part)
    assert found.__name__ == dotted
"""


def test_modules_are_attributes_of_their_packages_as_in_mindcv():
    recorded = json.loads((ROOT / "tests/golden/mindcv_names.json").read_text(encoding="utf-8"))
    of_other_networks = {f"mindcv.models.layers.{name}" for name in ("patch_dropout", "pos_embed")}
    paths = set(recorded["names"]) - of_other_networks | {f"mindcv.{path}" for path in PATHS}
    words = [sys.executable, "-c", BY_ATTRIBUTE, json.dumps(sorted(paths))]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_names_of_utils_are_taken_from_the_package_too():
    for name in mindcv.utils.__all__:
        assert getattr(mindcv, name) is getattr(mindcv.utils, name)
    assert "set_seed" not in mindcv.__all__  # `import *` of MindCV leaves them out
    with pytest.raises(AttributeError, match="'mindcv' has no attribute 'no_such_name'"):
        getattr(mindcv, "no_such_name")  # noqa: B009 (the name stands in the message)


def test_paths_cost_no_import_of_mindspore():
    code = (
        "import mindcv.version, sys; print(mindcv.version.__version__, 'mindspore' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[1] == "False"


def test_an_unknown_module_is_an_import_error():
    with pytest.raises(ModuleNotFoundError, match=r"mindcv\.no_such_module"):
        importlib.import_module("mindcv.no_such_module")

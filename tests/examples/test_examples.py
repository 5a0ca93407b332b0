"""The examples run as they stand, as programs and as notebooks, and do what they say."""

import re
import runpy
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from mindspore import Parameter, Tensor, load_param_into_net
from nbclient import NotebookClient

FOLDER = ROOT / "examples"
NOTEBOOKS = runpy.run_path(str(FOLDER / "notebooks.py"))
NAMES = [path.stem for path in NOTEBOOKS["PROGRAMS"]]


def cells(name: str) -> list[str]:
    """Return the code of a notebook, cell by cell."""
    found = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in found if cell.cell_type == "code"]


def run_program(warm, folder: Path, name: str, *more: str) -> str:
    """Run an example, followed by more lines, in a folder; return what it printed."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    path = folder / f"{name}.py"
    path.write_text("\n".join([text, *more, ""]), encoding="utf-8")
    done = warm.run([path], folder)
    assert done.code == 0, done.err
    return done.out


def test_every_example_is_told_and_tested():
    listed = re.findall(
        r"^\| \[([^]]+)\]", (FOLDER / "README.md").read_text(encoding="utf-8"), re.M
    )
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py")}
    assert set(listed) == found - {"notebooks.py"}
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert all(Path(name).stem in tests for name in listed)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_program(name):
    program = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    written = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert NOTEBOOKS["notebook"](program) == written, "run examples/notebooks.py"
    nbformat.validate(nbformat.reads(written, as_version=4))
    squeezed = re.sub(r"\s", "", "".join(cells(name)))
    markdown = re.sub(r"^# %% \[markdown\]\n(#.*\n)+", "", program, flags=re.M)
    assert squeezed == re.sub(r"\s", "", re.sub("^# %%$", "", markdown, flags=re.M))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert outputs and not any(output.output_type == "error" for output in outputs)


def test_the_loop_learns_and_its_accuracy_is_mindspores_own(warm, tmp_path):
    out = run_program(
        warm,
        tmp_path,
        "training_loop",
        "model = ms.Model(network, loss_of, metrics={'accuracy'})",
        "print(accuracy(), model.eval(val_batches)['accuracy'], len(losses))",
    )
    ours, theirs, steps = map(float, out.split("\n")[-2].split())
    assert ours == theirs > 0.4 and steps == 4 * 20  # guessing has 0.1


def test_a_dataset_of_ones_own_trains_here_and_from_the_command_line(warm, tmp_path):
    out = run_program(warm, tmp_path, "custom_dataset")
    assert float(re.search(r"top-1 ([\d.]+)%", out)[1]) > 60  # guessing has 33
    (tmp_path / "shapes.py").write_text(cells("custom_dataset")[0], encoding="utf-8")
    words = printed_words("custom_dataset")
    done = warm.run([*words, "--image_resize", 32, "--dry_run"], tmp_path)
    assert done.code == 0 and "480" in done.out, done.err


@pytest.mark.slow
def test_a_model_of_ones_own_serves_the_commands(warm, tmp_path, image_folder):
    out = run_program(warm, tmp_path, "custom_model")
    assert float(re.search(r"top-1 ([\d.]+)%", out)[1]) > 60  # guessing has 10
    assert "Classifier(plain_net, 10 classes" in out
    (tmp_path / "plain_net.py").write_text(cells("custom_model")[0], encoding="utf-8")
    words = [w.replace("/path/to/images", str(image_folder)) for w in printed_words("custom_model")]
    options = ["--image_resize", 32, "--batch_size", 4, "--freeze_stages", 1, "--layer_decay", 0.8]
    done = warm.run([*words, *options, "--dry_run"], tmp_path)
    assert done.code == 0, done.err
    words = ["mindcv", "predict", image_folder / "val", "--ckpt_path", "plain_net.ckpt"]
    done = warm.run([*words, "--import_module", "plain_net.py"], tmp_path)
    assert done.code == 0 and "digit " in done.out, done.err


def printed_words(name: str) -> list[str]:
    """Return the words of the command that a text cell of an example prints."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return re.search(r"^# {5}(mindcv train .*)$", text, re.M)[1].split()


@pytest.mark.slow
def test_the_features_find_objects_and_label_pixels(warm, tmp_path):
    out = run_program(warm, tmp_path, "detection_segmentation")
    iou, hits, objects = re.search(r"mean IoU ([\d.]+); found (\d+) of (\d+) objects", out).groups()
    right, boxes = re.search(r"(\d+) of (\d+) boxes are right", out).groups()
    assert float(iou) > 0.7 and int(hits) > 0.8 * int(objects) > 40
    assert right == hits and int(right) > 0.6 * int(boxes)


def test_the_feature_pyramid_is_torchvisions(tmp_path, pynative_mode):
    """Against numbers of tests/golden/make_fpn.py."""
    program = (FOLDER / "detection_segmentation.py").read_text(encoding="utf-8")
    path = tmp_path / "definitions.py"
    path.write_text(program.split("\nbackbone = ")[0], encoding="utf-8")
    golden = np.load(ROOT / "tests/golden/fpn.npz")
    pyramid = runpy.run_path(str(path))["FeaturePyramid"]((3, 4, 6), 5)
    renamed = {"inner": "inner_blocks", "outer": "layer_blocks"}
    values = {}
    for parameter in pyramid.get_parameters():
        kind, level, part = parameter.name.split(".")
        values[parameter.name] = Parameter(golden[f"{renamed[kind]}.{level}.0.{part}"])
    assert len(values) == sum("blocks" in name for name in golden)
    load_param_into_net(pyramid, values)
    found = pyramid(tuple(Tensor(golden[f"map {level}"]) for level in range(3)))
    for level, values in enumerate(found):
        np.testing.assert_allclose(values.asnumpy(), golden[f"out {level}"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_study_trains_its_population_and_names_a_winner(warm, tmp_path):
    out = run_program(warm, tmp_path, "design_space_study")
    rows = re.findall(r"^(anynet_x_a|regnet_x) +([\d.]+) % +([\d.]+) M$", out, re.M)
    assert sorted(name for name, *_ in rows) == ["anynet_x_a"] * 2 + ["regnet_x"] * 2
    assert all(0.5 <= float(macs) <= 2.0 for *_, macs in rows)
    assert (tmp_path / "winner.yaml").exists() and (tmp_path / "analysis/report.html").exists()

"""The benchmarks' own machinery: sides, results, report. What is measured needs the peers."""

import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from mindcv.tools.design_space.sampling import sample_population
from mindcv.tools.design_space.study import read_study


@pytest.fixture
def benchmarks(monkeypatch):
    """Modules of benchmarks/, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import networks
    import report
    import run
    import sides
    import tables

    yield {module.__name__: module for module in (networks, report, run, sides, tables)}
    for name in ("networks", "report", "run", "sides", "tables", "environments"):
        sys.modules.pop(name)


def test_ratios_are_medians_of_pairs_and_above_one_where_we_are_faster(benchmarks):
    Table = benchmarks["tables"].Table
    values = {"ours": [10.0, 30.0, 20.0], "peer": [5.0, 10.0, 40.0], "other": []}
    assert Table("t", "s", "images/s", {"row": values}).ratio("row", "peer") == 2.0
    assert Table("t", "s", "ms", {"row": values}).ratio("row", "peer") == 0.5
    assert Table("t", "s", "ms", {"row": values}).ratio("row", "other") is None


def test_the_report_shows_recorded_results_and_says_what_was_interrupted(benchmarks, tmp_path):
    tables = benchmarks["tables"]
    speeds = tables.Table(
        "Convolutions",
        "regnet_x_800mf, batch 16",
        "images/s",
        {"training": {"ours": [20.0, 21.0, 22.0], "MindCV": [2.0, 1.5, 2.0]}, "folded": {}},
        {"training": {"batch": "16"}},
        ["a note"],
    )
    run = benchmarks["run"]
    tables.write_results(tmp_path / "convolutions.json", [speeds], {"MindCV": "0.3.0"}, False)
    text = benchmarks["report"].write_report(tmp_path, list(run.MINUTES))
    assert "| training | 16 | 21.0 (20.0–22.0) | 2.00 (1.50–2.00) **11.00×** |" in text
    assert "| images/s | batch | ours | MindCV |" in text
    assert "| folded |  |  |  |" in text
    assert "a note" in text and "MindCV 0.3.0. **Interrupted: rows are missing.**" in text
    assert text == (tmp_path / "table.md").read_text(encoding="utf-8")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert tables.read_results(tmp_path / "convolutions.json")[1] == [speeds]


def test_optimizers_are_shown_in_the_form_of_the_others(benchmarks, tmp_path):
    file = tmp_path / "optimizers.json"
    file.write_text(
        '{"model": "m", "rounds": [{"ours": {"lamb": {"compile": 2.0, "step": 0.01}},'
        ' "MindCV": {"lamb": null}}]}'
    )
    benchmarks["report"].read_optimizers(file, {"ours": "1"})
    content, (compiling, step) = benchmarks["tables"].read_results(file)
    assert content["is_finished"] and content["versions"] == {"ours": "1"}
    assert compiling.rows == {"lamb": {"ours": [2.0], "MindCV": []}}
    assert step.rows == {"lamb": {"ours": [10.0], "MindCV": []}}


def test_a_side_answers_and_its_end_says_why(benchmarks, monkeypatch):
    sides = benchmarks["sides"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    code = (
        "import os, sides; limit = os.environ.get('ONEDNN_MAX_CPU_ISA');"
        "sides.serve(limit, lambda request: {'half': 1 / request})"
    )
    side = sides.Side([sys.executable, "-c", code])
    assert side.ready is None  # this process's limits are not the side's
    assert side.ask(2) == {"half": 0.5}
    with pytest.raises(sides.SideEnded, match="code 1(?s:.*)ZeroDivisionError"):
        side.ask(0)
    side.close()
    limited = sides.Side([sys.executable, "-c", code], **sides.WITHOUT_AVX512)
    assert limited.ready == "AVX2"
    limited.close()


def test_sections_are_chosen_by_name_and_an_unknown_one_is_refused(benchmarks, capsys):
    parser = benchmarks["run"].create_parser()
    assert parser.parse_args(["--only", "models,epochs"]).only == ["models", "epochs"]
    assert parser.parse_args([]).only == list(benchmarks["run"].MINUTES)
    with pytest.raises(SystemExit):
        parser.parse_args(["--only", "model"])
    assert "no section 'model'; there are convolutions" in capsys.readouterr().err


def test_a_step_of_every_model_has_about_the_same_work(benchmarks):
    networks = benchmarks["networks"]
    assert networks.batch_of(199_000_000) == 32
    assert networks.batch_of(800_000_000) == 8
    assert networks.batch_of(127_500_000_000) == 1
    assert sum(map(networks.is_mindcvs, networks.SETTINGS)) == 24


def test_the_study_of_design_spaces_is_drawn_anew_to_the_same_networks(tmp_path):
    study = read_study(ROOT / "benchmarks/design_space/study.yaml")
    models = list(sample_population(study))
    assert [model["id"] for model in models[:: study.count]] == [
        "1cecf8c75084",
        "c6e6c477c942",
        "8560948e7a3e",
    ]
    assert len({model["id"] for model in models}) == 180
    assert all(10e6 <= model["macs"] <= 12e6 for model in models)


def test_images_of_the_study_have_the_digit_over_a_darkened_photograph(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks/design_space"))
    import make_images

    photograph = Image.fromarray(np.full((427, 640, 3), 200, np.uint8))
    digit = Image.fromarray(np.pad(np.full((12, 12), 255, np.uint8), 8))
    first, again = (
        np.asarray(make_images.compose(digit, photograph, np.random.default_rng(3)))
        for _ in range(2)
    )
    assert first.shape == (64, 64, 3) and (first == again).all()
    ground = first.min()
    assert ground == 200 * make_images.GROUND
    inked = (first > ground).all(axis=-1).sum()
    assert 20**2 < inked < 40**2 and first.max() > ground + 90

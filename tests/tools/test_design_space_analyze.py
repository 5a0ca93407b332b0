"""`python -m mindcv design-space analyze`: what it says of made-up studies."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import call
from html_page import Page
from PIL import Image
from studies import make_study

from mindcv.config import load_config

SPACES = ("anynet_x_a", "anynet_x_e", "regnet_x")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return make_study(tmp_path_factory.mktemp("studies") / "small <1>", SPACES, 24)


def analyze(capsys, *words) -> tuple[int, str, str]:
    return call(capsys, "design-space", "analyze", *words)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def errors_of(study: Path, space: str) -> list[float]:
    lines = map(json.loads, (study / "records.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["error"] for line in lines if line["space"] == space and line["error"]]


@pytest.fixture(scope="module")
def analysis(study, tmp_path_factory) -> Path:
    """The folder that the command writes."""
    output = tmp_path_factory.mktemp("out") / "analysis"
    from mindcv.__main__ import main

    main(["design-space", "analyze", str(study), "--output", str(output)])
    return output


def test_every_number_of_a_population_follows_from_its_records(study, analysis):
    for row, space in zip(rows(analysis / "spaces.csv"), SPACES, strict=True):
        errors = errors_of(study, space)
        assert (row["space"], row["n"], row["failed"], row["waiting"]) == (space, "24", "1", "1")
        for name, number in (
            ("mean", np.mean(errors)),
            ("median", np.median(errors)),
            ("best_quarter", np.quantile(errors, 0.25)),
            ("minimum", min(errors)),
            ("hours", 24 * 36 / 3600),
        ):
            assert float(row[name]) == pytest.approx(number), name
        steps = [line for line in rows(analysis / "edf.csv") if line["space"] == space]
        for step in steps:
            share = sum(error < float(step["error"]) for error in errors) / 24
            assert float(step["below"]) == pytest.approx(share)
        models = [line for line in rows(analysis / "models.csv") if line["space"] == space]
        assert [float(line["error"]) for line in models] == sorted(errors)
        widths = [np.array(line["widths"].split(), int) for line in models[:6]]  # the best quarter
        blocks = [
            np.repeat(w, np.array(line["depths"].split(), int)) for w, line in zip(widths, models)
        ]
        slope, start = np.polyfit(
            np.concatenate([*map(np.arange, map(len, blocks))]), np.concatenate(blocks), 1
        )
        assert (float(row["trend_start"]), float(row["trend_slope"])) == pytest.approx(
            (start, slope)
        )
        assert all(float(line["e_fit"]) >= 0 and line["fit_w_m"] for line in models)


def test_what_lowers_the_error_is_found_and_what_does_not_is_not(analysis):
    found = {(row["space"], row["parameter"]): row for row in rows(analysis / "parameters.csv")}
    rising, depth = found["anynet_x_a", "rising_widths"], found["regnet_x", "d"]
    assert float(rising["rho_high"]) < 0 and float(rising["p_holm"]) < 0.05
    assert float(depth["rho"]) < -0.5 and float(depth["p"]) < 0.001
    assert float(depth["low"]) > float(depth["minimum"])  # the deep ones are the best
    assert float(found["anynet_x_a", "bottleneck_spread"]["p_holm"]) > 0.05
    # What does not vary explains nothing.
    for constant in ("rising_widths", "bottleneck_spread", "params"):
        assert ("anynet_x_e", constant) not in found


def test_a_comparison_says_in_words_what_is_shown_and_warns_of_several(
    capsys, study, analysis, tmp_path
):
    found = {(row["first"], row["second"]): row for row in rows(analysis / "comparisons.csv")}
    sentence = found["anynet_x_a", "regnet_x"]["sentence"]
    means = [np.mean(errors_of(study, space)) for space in ("regnet_x", "anynet_x_a")]
    assert sentence == (
        f"RegNetX has lower errors than AnyNetX_A: mean {means[0]:.1f} against {means[1]:.1f} %, "
        "p < 0.001 (p < 0.001 corrected for 3 comparisons), n = 24 and 24"
    )
    page = Page((analysis / "report.html").read_text(encoding="utf-8"))
    assert sentence in page.text and "With 3 comparisons at p < 0.05 each, up to 15%" in page.text
    alike = make_study(tmp_path / "alike", ("regnet_x", "regnet_y"), 20)
    _, printed, _ = analyze(capsys, alike, "--output", tmp_path / "out")
    assert re.search(
        r"No difference shown between RegNetX and RegNetY: mean \S+ and \S+ %, difference \S+ "
        r"\(95 % interval -\S+ to \+\S+\), p = \S+, n = 20 and 20\n",
        printed,
    )
    assert "corrected" not in printed


def test_the_page_needs_nothing_outside_itself_and_shows_every_chart(analysis):
    text = (analysis / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "img", "i"})
    assert "http" not in text and "url(" not in text and "small <1>" in page.text
    titles = re.findall(r'<svg[^>]*aria-label="(.*?)"', text)
    parameters = len(rows(analysis / "parameters.csv"))
    # A distribution, each parameter, and for each space five models and a trend.
    assert len(titles) == 1 + parameters + 3 * 6
    for chart in re.findall(r"<svg.*?</svg>", text, re.S):
        for x, y in re.findall(r'[cM]x?="?([\d.]+)"? (?:cy=")?([\d.]+)', chart):
            assert 0 <= float(x) <= 400 and 0 <= float(y) <= 244
    assert "nan" not in text.split("</style>")[1]
    assert "error, %" in text and "top-1" not in text  # of several labels it is 100 - mAP
    steps = re.search(r'class="line c0" d="M(.*?)"><title>AnyNetX_A', text)[1].split("L")
    heights = [float(point.split()[1]) for point in steps]
    assert heights == sorted(heights, reverse=True)  # a distribution never falls


def test_studies_of_other_regimes_give_trends_and_are_not_compared(capsys, tmp_path):
    studies = [
        make_study(tmp_path / name, ("regnet_x",), 12, seed=seed, macs=4.0**seed)
        for seed, name in enumerate(("small", "large"))
    ]
    code, printed, notes = analyze(capsys, *studies, "--output", tmp_path / "out")
    assert code == 0 and "difference" not in printed and "lower" not in printed
    assert "another regime" in notes
    text = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "Trends over flop regimes" in text and "d of regnet_x" in text
    found = [row for row in rows(tmp_path / "out" / "parameters.csv") if row["parameter"] == "d"]
    assert [row["space"] for row in found] == ["small/regnet_x", "large/regnet_x"]
    assert float(found[1]["median_macs"]) > 3 * float(found[0]["median_macs"])
    # The same regime, sampled twice: compared, and a regime of training is one too.
    again = make_study(tmp_path / "again", ("regnet_x",), 12, seed=0)
    _, printed, _ = analyze(capsys, studies[0], again, "--output", tmp_path / "two")
    assert "between small/RegNetX and again/RegNetX" in printed
    (again / "records.jsonl").write_text("")
    _, printed, note = analyze(capsys, studies[0], again, "--output", tmp_path / "one")
    assert printed.startswith("RegNetX: n 12") and "again has no trained model" in note
    longer = make_study(tmp_path / "longer", ("regnet_x",), 12, epoch_size=9)
    _, printed, _ = analyze(capsys, studies[0], longer, "--output", tmp_path / "three")
    assert "difference" not in printed


def test_an_analysis_gives_the_same_numbers_again_from_10_000_resamples(capsys, study, tmp_path):
    def tables() -> dict[str, bytes]:
        assert analyze(capsys, study, "--output", tmp_path)[0] == 0
        return {path.name: path.read_bytes() for path in sorted(tmp_path.glob("*.csv"))}

    assert tables() == tables()
    smallest = min(float(row["p_mean"]) for row in rows(tmp_path / "comparisons.csv"))
    assert smallest == pytest.approx(2 / 10_001, rel=1e-6)


def test_the_winner_is_a_recipe_that_train_py_reads(capsys, study, tmp_path):
    recipe = tmp_path / "winner.yaml"
    code, printed, _ = analyze(capsys, study, "--output", tmp_path / "out", "--write", recipe)
    assert code == 0 and f"wrote {recipe}" in printed
    (best, *_) = sorted(rows(tmp_path / "out/models.csv"), key=lambda row: float(row["error"]))
    config = load_config(str(recipe))
    assert config.model == {"r": "regnet", "a": "anynet"}[best["space"][0]]
    assert config.num_classes == 10 and config.image_resize == 64 and config.lr == 0.1
    assert f"error {float(best['error']):.2f} %" in recipe.read_text(encoding="utf-8")
    code, _, message = analyze(capsys, study, "--output", tmp_path / "out", "--write", recipe)
    assert code == 2 and "--force" in message
    code, _, message = analyze(capsys, study, "--write", tmp_path / "winner.txt")
    assert code == 2 and ".yaml" in message


def test_what_holds_nothing_to_analyze_ends_in_one_message(capsys, study, tmp_path):
    code, _, message = analyze(capsys, tmp_path / "nowhere")
    assert code == 2 and "nowhere/study.yaml" in message and "Traceback" not in message
    fresh = make_study(tmp_path / "fresh", ("regnet_x",), 2)
    (fresh / "records.jsonl").write_text("", encoding="utf-8")
    code, _, message = analyze(capsys, fresh)
    assert code == 4 and "no trained model of regnet_x" in message and "run" in message


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_models_are_described_and_not_tested(capsys, tmp_path, count):
    few = make_study(tmp_path / "few", SPACES, count)
    code, printed, note = analyze(capsys, few, "--output", tmp_path / "out")
    assert code == 0 and "errors than" not in printed and "fewer than 4 models" in note
    assert all(row["n"] == str(count) for row in rows(tmp_path / "out" / "spaces.csv"))
    assert not any(row.get("rho") for row in rows(tmp_path / "out" / "parameters.csv"))
    assert "anynet_x_a: 1 failed model left out" in note and f"of the other {count}" in note
    assert rows(tmp_path / "out" / "comparisons.csv") == []


@pytest.mark.parametrize("count", [7, 8])
def test_a_likely_best_value_needs_a_quarter_of_two_models(capsys, tmp_path, count):
    """Of one model, the best is that model: the median would say nothing about errors."""
    study, out = make_study(tmp_path / "study", ("regnet_x",), count), tmp_path / "out"
    assert analyze(capsys, study, "--output", out)[0] == 0
    found = rows(out / "parameters.csv")
    assert all(bool(row.get("best")) == (count == 8) and row["rho"] for row in found)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert ('class="band"' in text) == (count == 8)


def test_what_makes_a_regime_is_compared_by_its_meaning(capsys, tmp_path):
    """Limits of a space's own that equal those of the study, and the global batch."""

    def notes(*changes: dict) -> str:
        names = [f"study{len(list(tmp_path.iterdir()))}_{n}" for n in range(len(changes))]
        for seed, (name, change) in enumerate(zip(names, changes)):
            path = make_study(tmp_path / name, ("mine",), 4, seed=seed) / "study.yaml"
            path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
        output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        code, _, said = analyze(capsys, *(tmp_path / n for n in names), "--output", output)
        assert code == 0
        return said

    mine = {"name": "mine", "base": "anynet_x_a"}
    plain = {"spaces": [mine]}
    same = {"spaces": [mine | {"limits": {"macs": [10000000, "1.2e7"]}}]}
    assert "another regime" not in notes(plain, same)
    assert "another regime" in notes(plain, {"spaces": [mine | {"limits": {"macs": [1, 2]}}]})
    assert "another regime" in notes(plain | {"devices": 2}, plain | {"devices": 4})


def test_the_png_are_images_and_want_the_extra(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    small = make_study(tmp_path / "small", ("regnet_x",), 5)
    words = (small, "--output", tmp_path / "out", "--png")
    assert analyze(capsys, *words)[0] == 0
    found = sorted(path.stem for path in (tmp_path / "out").glob("*.png"))
    assert found == ["edf", "parameters_regnet_x", "widths_regnet_x"]
    for name in found:
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.format == "PNG" and min(image.size) > 300
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, message = analyze(capsys, *words)
    assert code == 2 and 'pip install ".[plots]"' in message


def test_neither_mindspore_nor_scipy_nor_matplotlib_is_needed(study, tmp_path):
    code = (
        "import sys; from mindcv.__main__ import main; "
        f"main(['design-space', 'analyze', {str(study)!r}, '--output', {str(tmp_path)!r}]); "
        "sys.exit(bool({'mindspore', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

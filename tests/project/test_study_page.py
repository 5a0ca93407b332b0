"""docs/design_space.md: its yaml can be sampled; docs/study.py writes its study from csv files."""

import re
import runpy

import pytest
from conftest import ROOT
from studies import make_study

from mindcv.__main__ import main
from mindcv.tools.design_space.sampling import sample
from mindcv.tools.design_space.spaces import SPACES, find_space
from mindcv.tools.design_space.study import read_study

STUDY = runpy.run_path(str(ROOT / "docs/study.py"))


def test_the_printed_study_and_spaces_are_read_and_sampled(tmp_path):
    page = STUDY["PAGE"].read_text(encoding="utf-8")
    whole, spaces = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "study.yaml").write_text(whole, encoding="utf-8")
    study = read_study(tmp_path / "study.yaml")
    assert study.count == 60 and [find_space(name).model for name in study.spaces]
    kept = re.sub(r"^spaces: .*$", spaces.strip(), whole, flags=re.M)
    (tmp_path / "study.yaml").write_text(kept, encoding="utf-8")
    _, own = read_study(tmp_path / "study.yaml").spaces
    models = sample(find_space(own), 3, image_size=64, limits={"macs": (10e6, 40e6)})
    assert all(sum(model["depths"]) >= 14 for model in models) and len(models) == 3
    assert set(re.findall(r"`((?:anynet|regnet)_\w+)`", page)) == set(SPACES)


def correlation(space: str, parameter: str, rho: float, p: float) -> dict[str, str]:
    ends = {"minimum": "1", "maximum": "9", "low": "2", "best": "3", "high": "4"}
    row = {"space": space, "parameter": parameter, "n": "60", "rho": str(rho), "p": str(p)}
    return ends | row | {"rho_low": str(rho - 0.2), "rho_high": str(rho + 0.2)}


def comparison(first: str, second: str, difference: float, p: float) -> dict[str, str]:
    row = {"first": first, "second": second, "n_first": "60", "n_second": "59", "p_mean": str(p)}
    row |= {"difference": str(difference), "sentence": f"{first} and {second} were compared"}
    return row | {"low": str(difference - 1), "high": str(difference + 2)}


def read(tables) -> dict[str, object]:
    return {one.claim: one for one in STUDY["readings"]({"spaces": [], **tables})}


@pytest.mark.parametrize(
    "parameter, rho, p, verdict",
    [
        ("bottleneck_spread", 0.1, 0.6, "not contradicted"),
        ("bottleneck_spread", 0.5, 0.001, "contradicted"),
        ("bottleneck_spread", -0.5, 0.001, "contradicted"),
        ("rising_widths", -0.5, 0.001, "holds"),
        ("rising_widths", 0.5, 0.001, "contradicted"),
        ("rising_widths", -0.1, 0.6, "not shown"),
    ],
)
def test_a_claim_within_a_space_holds_by_sign_and_p(parameter, rho, p, verdict):
    (found,) = read(
        {"parameters": [correlation("anynet_x_a", parameter, rho, p)], "comparisons": []}
    ).values()
    assert (found.effect, found.n) == (rho, "60") and found.verdict(found.p) == verdict


@pytest.mark.parametrize(
    "difference, p, verdict",
    [
        (-3.0, 0.001, ("holds", "holds")),
        (3.0, 0.001, ("contradicted", "contradicted")),
        (-0.1, 0.5, ("not shown", "not contradicted")),
    ],
)
def test_a_claim_about_two_spaces_holds_whichever_of_them_is_named_first(difference, p, verdict):
    for turned in (False, True):
        pairs = [("regnet_x", "anynet_x_a"), ("regnet_x", "anynet_x_e")]
        found = read(
            {
                "parameters": [],
                "comparisons": [
                    comparison(two, one, -difference, p) if turned else
                    comparison(one, two, difference, p)
                    for one, two in pairs
                ],
            }
        )  # fmt: skip
        better = found["RegNetX is better than AnyNetX_A"]
        equal = found["RegNetX is as good as AnyNetX_E"]
        assert better.effect == equal.effect == difference
        assert better.low < difference < better.high
        assert better.high - difference == pytest.approx(1 if turned else 2)
        assert better.n == ("59 and 60" if turned else "60 and 59")
        assert (better.verdict(better.p), equal.verdict(equal.p)) == verdict


def test_verdicts_go_by_p_corrected_for_all_claims():
    rows = [
        correlation("anynet_x_a", "rising_widths", -0.3, 0.02),
        correlation("anynet_x_a", "rising_depths", -0.3, 0.03),
    ]
    table = STUDY["_claims"]({"spaces": [], "parameters": rows, "comparisons": []})
    assert "| 0.0200 | 0.0400 | 60 | holds |" in table
    assert "| 0.0300 | 0.0400 | 60 | holds |" in table
    (alone,) = [
        line
        for line in STUDY["_claims"](
            {
                "parameters": rows * 1,
                "comparisons": [comparison("regnet_x", "anynet_x_a", -1.0, 0.9)],
            }
        ).splitlines()
        if "0.0200" in line
    ]
    assert "| 0.0600 | 60 | not shown |" in alone


def test_the_section_is_written_from_an_analysis_and_replaces_itself(tmp_path):
    study = make_study(tmp_path / "study", ("anynet_x_a", "anynet_x_e", "regnet_x"), 8)
    folder = tmp_path / "analysis"
    main(["design-space", "analyze", str(study), "--output", str(folder)])
    text = STUDY["section"](STUDY["read_tables"](folder))
    assert not re.search(r"[{}]", text) and "0.2 hours of training\nby the clock" in text
    lost = "(1 more failed and 1 not trained)"
    counts = [f"8 models of {name} {lost}" for name in ("AnyNetX_A", "AnyNetX_E", "RegNetX")]
    assert f"{counts[0]}, {counts[1]} and {counts[2]},\nwith 10 to 12 million" in text
    for claim, *_ in (*STUDY["_WITHIN"], *STUDY["_BETWEEN"]):
        assert f"| {claim} |" in text
    linked = re.findall(r"\(design_space/(\w+\.csv)\)", text)
    assert all((folder / name).is_file() for name in linked) and len(linked) == 5
    page = STUDY["PAGE"].read_text(encoding="utf-8")
    once = STUDY["with_section"](page, text)
    assert once.endswith(text) and STUDY["with_section"](once, text) == once
    assert once.startswith(page.partition("\n## A study on two cores\n")[0])


@pytest.mark.parametrize("folder", [p.parent for p in ROOT.glob("docs/design_space/spaces.csv")])
def test_the_page_shows_what_its_csv_files_say(folder):
    text = STUDY["PAGE"].read_text(encoding="utf-8")
    section = STUDY["section"](STUDY["read_tables"](folder))
    assert STUDY["with_section"](text, section) == text, "run docs/study.py"

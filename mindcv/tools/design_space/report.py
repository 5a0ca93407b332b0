"""The charts and the HTML page of analysed populations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from ...config.settings import join_settings
from ..charts import Chart, draw_charts
from ..report.page import document, table
from .populations import ALPHA, DRAWN, Population, Rows, label
from .spaces import COSTS

_SHOWN = 5  # best models of a population that are listed and drawn
_HIDDEN = ("space", "study", "n", "median_macs", "sentence")  # what the headings say already
_BOOTSTRAP = (
    "Empirical bootstrap (paper, 3.2), computed as the limit of infinitely many draws: a quarter "
    "of the models is drawn with replacement and the best is kept. Dotted is the median of the "
    "values kept, the likely best value; 95 % of them lie in the shaded range; fewer than "
    f"{DRAWN} models have neither. rho is the rank correlation with the error; p_holm is corrected "
    "for the number of parameters."
)


@dataclass(frozen=True)
class Section:
    """A part of the page; its charts are a PNG too."""

    name: str  # of the PNG
    title: str
    charts: Sequence[Chart] = ()
    rows: Rows = ()
    text: str = ""
    points: Sequence[str] = ()  # sentences of a list


def make_sections(
    populations: Sequence[Population], tables: Mapping[str, Rows]
) -> Iterator[Section]:
    """Yield the sections of the page; `tables` has rows by the name of their csv."""
    # Steps; the legend gives n, lowest and mean error.
    names = {one.name: one.caption() for one in populations}
    curves = {caption: [] for caption in names.values()}
    for row in tables["edf"]:
        curves[names[row["space"]]] += [(row["error"], row["below"]), (row["error"], row["up_to"])]
    chart = Chart("share of models", curves, x_title="error, %", x_axis="real")
    yield Section("edf", "Error distributions", [chart], tables["spaces"])
    if rows := tables["comparisons"]:
        points = [row["sentence"] for row in rows]
        text = _caution(len(rows)) if len(rows) > 1 else ""
        yield Section("", "Comparisons", rows=_without(rows), text=text, points=points)
    for one in populations:
        file, title = one.name.replace("/", "_"), label(one.name)
        yield Section(f"widths_{file}", title, draw_widths(one), _best(one))
        if rows := [row for row in tables["parameters"] if row["space"] == one.name]:
            charts = [draw_parameter(one, row) for row in rows]
            title = f"Parameters of {title}"
            yield Section(f"parameters_{file}", title, charts, _without(rows), text=_BOOTSTRAP)
    if charts := draw_trends(tables["parameters"]):
        text = "Each study is a regime, placed at the median of its models."
        yield Section("trends", "Trends over flop regimes", charts, text=text)


def render_page(name: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return the page, which needs no other file, network or script."""
    parts = [f'<p class="note">{escape(note)}</p>' for note in notes]
    for one in sections:
        points = "".join(f"<li>{escape(point)}</li>" for point in one.points)
        parts += [f"<h2>{escape(one.title)}</h2>", f"<ul>{points}</ul>" if points else ""]
        parts += [f"<p>{escape(one.text)}</p>" if one.text else ""]
        parts += [draw_charts(one.charts), _table(one.rows)]
    return document(name, "design spaces", parts)


def draw_parameter(population: Population, row: dict[str, Any]) -> Chart:
    """Return the errors over a parameter, with the band and the likely best value, if any."""
    doubles = row["minimum"] >= 1 and row["maximum"] >= 8 * row["minimum"]
    values = population.values(row["parameter"])
    axes = {"x_title": row["parameter"], "x_axis": "log" if doubles else "real"}
    name = "models"
    if "best" in row:
        name = f"best {row['best']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
        axes |= {"mark": row["best"], "mark_name": "likely best", "band": (row["low"], row["high"])}
    points = list(zip(values.tolist(), population.errors.tolist()))
    return Chart("error, %", {name: points}, dots=(name,), **axes)


def draw_widths(population: Population) -> list[Chart]:
    """Return widths over blocks: best models with their fits, and the best quarter's trend."""
    title, found = label(population.name), []
    for model in population.models[:_SHOWN]:
        name = f"{title}, model {model['index']}, error {model['error']:.1f} %"
        fit = model["fit"]
        steps = [(j + side, w) for j, w in enumerate(fit.block_widths()) for side in (-0.5, 0.5)]
        line = f"quantized-linear fit, e_fit {fit.e_fit:.3f}"
        found.append((name, model["blocks"], line, steps))
    start, slope = population.trend
    points = [point for model in population.good for point in model["blocks"]]
    ends = [(j, start + slope * j) for j in (0, max(points)[0])]
    name = f"{title}, the {len(population.good)} best"
    found.append((name, points, f"{start:.0f} {slope:+.1f} j", ends))
    return [
        Chart("width", {name: dots, line: points}, x_title="block j", dots=(name,))
        for name, dots, line, points in found
    ]


def draw_trends(rows: Rows) -> list[Chart]:
    """Return a space's parameters over the flop regimes of several studies."""

    def curve(row: dict[str, Any]) -> tuple[str, str]:
        return row["space"].rpartition("/")[2], row["parameter"]

    charts = []
    for (space, name), group in groupby(sorted(rows, key=curve), key=curve):
        group = (row for row in group if "best" in row)
        regimes = sorted(group, key=lambda row: row["median_macs"])
        if len(regimes) > 1 and name != "macs":
            ends = ("best", "low", "high", "minimum", "maximum")
            curves = {e: [(row["median_macs"] / 1e6, row[e]) for row in regimes] for e in ends}
            charts.append(Chart(f"{name} of {space}", curves, x_title="million MACs", x_axis="log"))
    return charts


def _caution(count: int) -> str:
    return (
        f"With {count} comparisons at p < {ALPHA:g} each, up to {min(1, count * ALPHA):.0%} of "
        "studies without any difference would show one. So the sentences go by the p-value of the "
        "means, corrected for that number (Holm)."
    )


def _best(population: Population) -> Rows:
    rows = []
    for model, row in list(zip(population.models, population.rows()))[:_SHOWN]:
        name, settings = model["model"]["name"], join_settings(model["model"]["arguments"])
        shown = {"options of train.py": f'--model {name} --{name} "{settings}"'}
        rows.append(shown | {column: row[column] for column in ("error", "e_fit", *COSTS)})
    return rows


def _without(rows: Rows) -> Rows:
    return [{key: row[key] for key in row if key not in _HIDDEN} for row in rows]


def _table(rows: Rows) -> str:
    """Return rows as an HTML table; those of texts in the first come first."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [[row.get(name, "") for name in names] for row in rows]
    cells = [[f"{v:.5g}" if isinstance(v, float) else str(v) for v in row] for row in shown]
    return table(names, cells, sum(isinstance(value, str) for value in shown[0]))

"""The charts and the HTML page of analysed populations."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import numpy as np

from ...config.settings import join_settings
from ..charts import Chart, draw_charts
from ..report.page import document, table
from .populations import ALPHA, COSTS, DRAWN, Population, blocks_of, label
from .statistics import error_distribution

_SHOWN = 5  # best models of a population that are listed and drawn
_BOOTSTRAP = (
    "Empirical bootstrap (paper, 3.2), computed as the limit of infinitely many draws: a quarter "
    "of the models is drawn with replacement and the best is kept. Dotted is the median of the "
    "values kept, the likely best value; 95 % of them lie in the shaded range; fewer than "
    f"{DRAWN} models have neither. rho is the rank correlation with the error; p_holm is corrected "
    "for the number of parameters."
)

Rows = Sequence[dict[str, Any]]


def draw_all(populations: Sequence[Population], parameters: Rows) -> dict[str, list[Chart]]:
    """Return the charts by the names of their PNGs, without empty ones."""
    found = {"edf": [draw_distributions(populations)]}
    for one in populations:
        rows = [row for row in parameters if row["space"] == one.name]
        found[_file("parameters", one)] = [draw_parameter(one, row) for row in rows]
        found[_file("widths", one)] = draw_widths(one)
    found["trends"] = draw_trends(parameters)
    return {name: charts for name, charts in found.items() if charts}


def draw_distributions(populations: Sequence[Population]) -> Chart:
    """Return the error distributions, as steps; the legend gives n, lowest and mean error."""
    curves = {}
    for population in populations:
        points, below, up_to = error_distribution(population.errors)
        steps = np.stack([np.repeat(points, 2), np.stack([below, up_to], 1).ravel()], 1)
        curves[population.caption()] = steps.tolist()
    return Chart("share of models", curves, x_title="top-1 error, %", x_axis="real")


def draw_parameter(population: Population, row: dict[str, Any]) -> Chart:
    """Return the errors over a parameter, with the band and the likely best value."""
    name = row["parameter"]
    doubles = row["minimum"] >= 1 and row["maximum"] >= 8 * row["minimum"]
    points = list(zip(population.values[name].tolist(), population.errors.tolist()))
    axes = {"x_title": name, "x_axis": "log" if doubles else "real"}
    if "best" not in row:  # too few models
        return Chart("top-1 error, %", {"models": points}, dots=("models",), **axes)
    best = f"best {row['best']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
    return Chart(
        "top-1 error, %",
        {best: points},
        **axes,
        dots=(best,),
        mark=row["best"],
        mark_name="likely best",
        band=(row["low"], row["high"]),
    )


def draw_widths(population: Population) -> list[Chart]:
    """Return widths over blocks: best models with their fits, and the best quarter's trend."""
    title, charts = label(population.name), []
    for model, fit in list(zip(population.models, population.fits))[:_SHOWN]:
        name = f"{title}, model {model['index']}, error {model['error']:.1f} %"
        steps = [(j + side, w) for j, w in enumerate(fit.block_widths()) for side in (-0.5, 0.5)]
        curves = {name: blocks_of(model), f"quantized-linear fit, e_fit {fit.e_fit:.3f}": steps}
        charts.append(Chart("width", curves, x_title="block", dots=(name,)))
    start, slope = population.trend
    points = [p for model in population.models[: population.good] for p in blocks_of(model)]
    name = f"{title}, the {population.good} best"
    ends = [(j, start + slope * j) for j in (0, max(j for j, _ in points))]
    curves = {name: points, f"{start:.0f} {slope:+.1f} j": ends}
    charts.append(Chart("width", curves, x_title="block j", dots=(name,)))
    return charts


def draw_trends(rows: Rows) -> list[Chart]:
    """Return a space's parameters over the flop regimes of several studies."""

    def curve(row: dict[str, Any]) -> tuple[str, str]:
        return row["space"].rpartition("/")[2], row["parameter"]

    charts = []
    for (space, name), group in groupby(sorted(rows, key=curve), key=curve):
        group = (row for row in group if "best" in row)
        regimes = sorted(group, key=lambda row: row["median_macs"])
        if len(regimes) > 1 and name != "macs":
            curves = {
                end: [(row["median_macs"] / 1e6, row[end]) for row in regimes]
                for end in ("best", "low", "high", "minimum", "maximum")
            }
            charts.append(Chart(f"{name} of {space}", curves, x_title="million MACs", x_axis="log"))
    return charts


def render_page(
    populations: Sequence[Population],
    tables: Mapping[str, Rows],
    charts: Mapping[str, list[Chart]],
    notes: Sequence[str],
) -> str:
    """Return the page, which needs no other file, network or script.

    Args:
        tables: rows by the name of their csv.
        charts: of `draw_all`.
    """
    parts = [
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        "<h2>Error distributions</h2>",
        draw_charts(charts["edf"]),
        table_of(tables["spaces"], text_columns=2),
        _comparisons(tables["comparisons"]),
    ]
    hidden = ("space", "study", "n", "median_macs")
    for population in populations:
        rows = [row for row in tables["parameters"] if row["space"] == population.name]
        own = [{key: row[key] for key in row if key not in hidden} for row in rows]
        parts += [
            f"<h2>{escape(label(population.name))}</h2>",
            _best(population),
            draw_charts(charts[_file("widths", population)]),
            f"<h3>Parameters</h3><p>{_BOOTSTRAP}</p>",
            draw_charts(charts.get(_file("parameters", population), [])),
            table_of(own, text_columns=1),
        ]
    if "trends" in charts:
        parts += [
            "<h2>Trends over flop regimes</h2>",
            "<p>Each study is a regime, placed at the median of its models.</p>",
            draw_charts(charts["trends"]),
        ]
    studies = dict.fromkeys(population.study for population in populations)
    return document(", ".join(studies), "design spaces", parts)


def table_of(rows: Rows, text_columns: int) -> str:
    """Return rows of a csv as an HTML table; an empty text for no rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_shown(row.get(name, "")) for name in names] for row in rows]
    return table(names, cells, text_columns) if rows else ""


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _comparisons(comparisons: Rows) -> str:
    if not comparisons:
        return ""
    count = len(comparisons)
    sentences = "".join(f"<li>{escape(row['sentence'])}</li>" for row in comparisons)
    rows = [{key: row[key] for key in row if key != "sentence"} for row in comparisons]
    caution = (
        f"With {count} comparisons at p < {ALPHA:g} each, up to {min(1, count * ALPHA):.0%} of "
        "studies without any difference would show one. So the sentences go by the p-value of the "
        "means, corrected for that number (Holm)."
    )
    return "\n".join(
        [
            f"<h2>Comparisons</h2><ul>{sentences}</ul>",
            f'<p class="faint">{caution}</p>' if count > 1 else "",
            table_of(rows, text_columns=2),
        ]
    )


def _best(population: Population) -> str:
    rows = []
    for model, row in list(zip(population.models, population.rows()))[:_SHOWN]:
        name, settings = model["model"]["name"], join_settings(model["model"]["arguments"])
        shown = {"options of train.py": f'--model {name} --{name} "{settings}"'}
        rows.append(shown | {column: row[column] for column in ("error", "e_fit", *COSTS)})
    return table_of(rows, text_columns=1)


def _file(kind: str, population: Population) -> str:
    return f"{kind}_{population.name.replace('/', '_')}"

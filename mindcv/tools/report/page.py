"""The HTML page of a run, which needs no other file, no network and no script."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import __version__
from ...names import plural
from ..charts import draw_charts
from .run_folder import RunFolder

if TYPE_CHECKING:  # importing it needs mindspore, which a page without evaluation does not
    from .predictions import Predictions

LARGEST_TABLE = 50  # classes; above, only the most confused pairs are listed
_PAIRS = 30
_NARROW = 3  # columns of figures that fit on a telephone


def render_page(
    run: RunFolder,
    found: "Predictions | None",
    thumbnails: dict[int, str],
    notes: Sequence[str],
) -> str:
    """Return the page.

    Args:
        found: predictions of the evaluated checkpoint; None: not evaluated.
        thumbnails: data URIs of the mistakes to show, by index, worst first.
        notes: besides the run's own.
    """
    parts = [
        f'<p class="faint">{escape(str(run.path.resolve()))}</p>',
        _cards(run, found),
        *(f'<p class="note">{escape(note)}</p>' for note in (*run.notes, *notes)),
        _charts(run),
    ]
    if found is not None:
        parts += [_evaluation(run, found), _mistakes(run, found, thumbnails)]
    return document(run.name, "training run", [*parts, _epochs(run), _settings(run)])


def document(name: str, kind: str, parts: Sequence[str]) -> str:
    """Return a whole page of these parts, which are HTML; name and kind of the page are text."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(name)}: {escape(kind)}</title>\n<style>\n{style}</style>",
            f"</head>\n<body>\n<h1>{escape(name)}</h1>",
            *parts,
            f"<footer>Written by mindcv {escape(__version__)}.</footer>\n</body>\n</html>\n",
        ]
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 0) -> str:
    """Return a table of texts; the first columns are aligned as text, the others as figures."""
    lines = []
    for tag, row in [('th scope="col"', head), *(("td", row) for row in rows)]:
        kinds = [' class="name"' if place < text_columns else "" for place in range(len(row))]
        cells = (f"<{tag}{kind}>{escape(cell)}</{tag[:2]}>" for kind, cell in zip(kinds, row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _scrolled(f"<table>{''.join(lines)}</table>", len(head) - text_columns, head[0])


def _scrolled(content: str, figures: int, label: str) -> str:
    """Return a table that scrolls by itself; one of several columns says so on a narrow screen."""
    kind = "wide many" if figures > _NARROW else "wide"
    label = escape(f"table by {label}")
    return f'<div class="{kind}" role="region" aria-label="{label}" tabindex="0">{content}</div>'


def _cards(run: RunFolder, found: "Predictions | None") -> str:
    planned = f" of {run.config.epoch_size}" if run.config else ""
    cards = {"epochs": f"{run.rows[-1].epoch if run.rows else 0}{planned}"}
    if run.best:
        cards["best epoch"] = f"{run.best.epoch}"
        first = run.decides, *(name for name in run.columns if name.startswith("ema_"))
        for name in dict.fromkeys((*first, *run.columns)):
            if "val_" in name and name in run.best.values:
                cards[run.describe(name)] = f"{run.best.values[name]:.6g}"
    cards |= run.facts
    software = cards.pop("software", "")
    if found is not None:
        cards["validation images"] = f"{found.accuracy.images:,}"
    tiles = (f'<div class="card">{escape(k)}<b>{escape(v)}</b></div>' for k, v in cards.items())
    shown = f'<div class="grid-of">{"".join(tiles)}</div>'
    return f'{shown}\n<p class="faint">{escape(software)}</p>' if software else shown


def _charts(run: RunFolder) -> str:
    shown = draw_charts(run.charts, values=True)
    dotted = " The dotted line is the best epoch." if run.best else ""
    caption = f"Figures are the last values.{dotted}"
    return f'<h2>Curves</h2>\n{shown}\n<p class="faint">{caption}</p>' if shown else ""


def _evaluation(run: RunFolder, found: "Predictions") -> str:
    figures, wrong, confusions = found.figures, "", []
    if figures.pairs is not None:
        wrong = f", {(found.labels != found.predicted).sum()} wrong"
        matrix = draw_confusion(figures.matrix(), figures.names)
        confusions = ["<h2>Confusions</h2>", matrix]
    titles = figures.titles.values()
    whose = "Averaged" if found.averaged else "Raw"
    means = zip(titles, figures.means().values())
    means = ", ".join(f"{title} {100 * mean:.2f} %" for title, mean in means)
    rows = [
        (str(name), *(f"{100 * v:.2f}" if images else "" for v in values), str(images))
        for _, name, *values, images in (row.values() for row in figures.rows())
    ]
    head = ("class", *(f"{title}, %" for title in titles), "images")
    is_short = " open" if len(rows) <= LARGEST_TABLE else ""
    return "\n".join(
        [
            "<h2>Validation</h2>",
            f"<p>{whose} weights of {escape(found.checkpoint.name)}: {found.accuracy}, each "
            f"counted once{wrong}. Mean of the classes: {means}.</p>",
            _compare(run, found),
            f"<details{is_short}><summary>Precision, recall and F1 of "
            f"{plural(len(rows), 'class')}</summary>{table(head, rows, text_columns=1)}</details>",
            *confusions,
        ]
    )


def _compare(run: RunFolder, found: "Predictions") -> str:
    """Say whether the results equal those in metrics.csv."""
    row = run.row_of(found.checkpoint)
    prefix = "ema_val_" if found.averaged else "val_"
    column = prefix + found.accuracy.task.score
    if row is None or column not in row.values:
        return '<p class="faint">metrics.csv holds no accuracy of this checkpoint to compare.</p>'
    accuracy = found.accuracy
    score, loss = row.values[column], row.values.get(f"{prefix}loss", accuracy.loss)
    is_same = math.isclose(score, accuracy.score, rel_tol=0.0, abs_tol=1e-3)
    if is_same and math.isclose(loss, accuracy.loss, rel_tol=1e-3, abs_tol=1e-3):
        return f'<p class="note same">Equal to metrics.csv, epoch {row.epoch}.</p>'
    return (
        f'<p class="note">Not equal to metrics.csv, epoch {row.epoch}: '
        f"{accuracy.task.score_title} {score:.3f} %, loss {loss:.4f}. The images, the checkpoint "
        "or the device differ from those of the run.</p>"
    )


def draw_confusion(counts: np.ndarray, names: tuple[str, ...]) -> str:
    """Return a heat map of the counts; for many classes, a table of the most frequent mistakes.

    Args:
        counts: (classes, classes); rows are true classes.
    """
    if len(names) <= LARGEST_TABLE:
        return _table(counts, names)
    return _pairs(counts, names)


def _table(counts: np.ndarray, names: tuple[str, ...]) -> str:
    columns, rows = (
        [_head(scope, i, name) for i, name in enumerate(names)] for scope in ("col", "row")
    )
    lines = [f'<table class="heat"><tr><td></td>{"".join(columns)}</tr>']
    for i, head in enumerate(rows):
        total = int(counts[i].sum())
        cells = "".join(_cell(int(n), total, i == j) for j, n in enumerate(counts[i]))
        lines.append(f"<tr>{head}{cells}</tr>")
    shown = _scrolled("\n".join([*lines, "</table>"]), len(names), "true and predicted class")
    return (
        "<p>A row is a true class, a column the class predicted; the shade is the share of the "
        f"row.</p>\n{shown}"
    )


def _head(scope: str, index: int, name: str) -> str:
    text = name if name == str(index) else f"{index} {name}"
    return f'<th class="name" scope="{scope}" title="{escape(name)}"><b>{escape(text)}</b></th>'


def _cell(count: int, total: int, right: bool) -> str:
    if count == 0:
        return "<td></td>"
    # The square root keeps a few mistakes among many images visible. Up to 0.7 the page's text has
    # a contrast of 4.5 by day and by night (WCAG 2.2).
    shade = 0.1 + 0.6 * (count / total) ** 0.5
    return f'<td class="{"hit" if right else "miss"}" style="--shade:{shade:.2f}">{count}</td>'


def _pairs(counts: np.ndarray, names: tuple[str, ...]) -> str:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    rows = [
        (names[i], names[j], str(wrong[i, j]), f"{100.0 * wrong[i, j] / counts[i].sum():.1f} %")
        for i, j in zip(*np.unravel_index(order, wrong.shape))
        if wrong[i, j]
    ]
    head = ("true class", "predicted", "images", "share of the class")
    shown = table(head, rows, text_columns=2)
    return f"<p>The pairs confused most, of {plural(len(names), 'class')}.</p>\n{shown}"


def _mistakes(run: RunFolder, found: "Predictions", thumbnails: dict[int, str]) -> str:
    if not thumbnails:
        return ""
    tiles = "\n".join(_tile(run, found, index, uri) for index, uri in thumbnails.items())
    return (
        "<h2>Worst mistakes</h2>\n<p>The wrong predictions of highest loss, worst first, with the "
        f'probabilities the network gave.</p>\n<div class="grid-of">{tiles}</div>'
    )


def _tile(run: RunFolder, found: "Predictions", index: int, uri: str) -> str:
    names, (wrong, true) = found.figures.names, found.shares[index]
    place = str(Path(*Path(found.samples.name(int(found.places[index]))).parts[-2:]))
    tiny = ' class="tiny"' if uri.startswith("data:image/png") else ""
    return (
        f'<figure class="mistake"><img{tiny} src="{uri}" '
        f'alt="image of class {escape(names[found.labels[index]])}: {escape(place)}">'
        f"predicted: {escape(names[found.predicted[index]])} <b>{100 * wrong:.1f} %</b><br>"
        f"true: {escape(names[found.labels[index]])} {100 * true:.1f} %"
        f"<figcaption>{escape(place)}</figcaption></figure>"
    )


def _epochs(run: RunFolder) -> str:
    if not run.rows:
        return ""
    names = run.columns
    rows = (
        [str(row.epoch)] + [f"{row.values[n]:.6g}" if n in row.values else "" for n in names]
        for row in run.rows
    )
    shown = table(("epoch", *map(run.describe, names)), rows)
    count = plural(len(run.rows), "row")
    return f"<h2>Epochs</h2>\n<details><summary>{count} of metrics.csv</summary>{shown}</details>"


def _settings(run: RunFolder) -> str:
    parts = ["<h2>Config</h2>"]
    if run.config:
        changed = [(name, str(value)) for name, value in run.config.changed().items()]
        shown = table(("option", "value"), changed, text_columns=2)
        parts += ["<p>What differs from the defaults:</p>", shown]
    parts.append(
        f"<details><summary>config.yaml</summary><pre>{escape(run.config_text)}</pre></details>"
    )
    return "\n".join(parts)

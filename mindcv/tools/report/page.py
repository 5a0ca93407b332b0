"""The run as one HTML page that needs no other file, no network and no script."""

from collections.abc import Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from ... import __version__
from ...config import Config
from .confusion import BACKS, SHADES, draw_confusion
from .curves import draw_chart, draw_legend
from .run_folder import RunFolder

if TYPE_CHECKING:  # it imports mindspore, and a page without an evaluation needs none
    from .predictions import Predictions

_COLOURS = {name: f"rgb{back}" for name, back in zip(("day", "night"), BACKS)} | {
    kind: f"rgb({red} {green} {blue} / var(--shade))" for kind, (red, green, blue) in SHADES.items()
}
_STYLE = Template("""
:root { color-scheme: light dark; --text: #1b1f24; --back: $day; --soft: #f3f4f6; --rule: #d5d9de;
  --faint: #646b75; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; }
.day-black { color: #000; } .day-white { color: #fff; }
.hit { background: $hit; } .miss { background: $miss; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7eb; --back: $night; --soft: #1f242a;
  --rule: #3a4149; --faint: #9aa3ad; --c0: #56b4e9; --c1: #e8833a; --c2: #2fc99b; }
  .night-black { color: #000; } .night-white { color: #fff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; color: var(--text); background: var(--back);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .2rem 0; } h2 { font-size: 1.15rem; margin: 1.8rem 0 .5rem; }
p { margin: .4rem 0; } .faint, figcaption, footer { color: var(--faint); font-size: .85rem; }
.grid-of { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.card, .chart, .mistake { background: var(--soft); border-radius: .5rem; padding: .6rem .75rem; }
.card b { display: block; font-size: 1.3rem; }
.note { border-left: 4px solid var(--c1); background: var(--soft); padding: .5rem .75rem;
  margin: .5rem 0; } .same { border-color: var(--c2); }
svg { display: block; width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--faint); }
.grid { stroke: var(--rule); } .best { stroke: var(--faint); stroke-dasharray: 3 4; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .key { margin-right: 1rem;
  white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .35em;
  border-radius: 50%; background: var(--own); } .line { stroke: var(--own); }
.dot { fill: var(--own); } .c0 { --own: var(--c0); } .c1 { --own: var(--c1); }
.c2 { --own: var(--c2); } .c3 { --own: var(--c3); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .5rem; text-align: right; font-variant-numeric: tabular-nums; }
th { font-weight: 600; } tr { border-bottom: 1px solid var(--rule); }
.name { text-align: left; overflow-wrap: normal; }
.heat { text-align: center; } .heat td { min-width: 2.1rem; text-align: center; padding: .2rem; }
.heat th { text-align: center; } .heat th.name { position: sticky; left: 0; max-width: 9rem;
  background: var(--back); overflow: hidden; text-align: left; text-overflow: ellipsis;
  white-space: nowrap; } .heat td:last-child { white-space: nowrap; padding-left: .6rem; }
.mistake { padding: .4rem; margin: 0; font-size: .85rem; } .mistake img { width: 100%;
  aspect-ratio: 1; object-fit: contain; background: var(--back); border-radius: .3rem; }
.tiny { image-rendering: pixelated; } pre { white-space: pre-wrap; font-size: .8rem; }
summary { cursor: pointer; margin: .5rem 0; } footer { margin-top: 2rem; }
""").substitute(_COLOURS)


def render_page(
    run: RunFolder,
    found: "Predictions | None",
    thumbnails: dict[int, str],
    notes: Sequence[str],
) -> str:
    """Return the page.

    Args:
        found: what the best checkpoint says of the images; None: not evaluated.
        thumbnails: data URIs of the mistakes to show, by index, worst first.
        notes: what the reader must know besides the run's own notes.
    """
    name = run.config.model if run.config else run.path.resolve().name
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(name)}: training run</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(name)}</h1>",
        f'<p class="faint">{escape(str(run.path.resolve()))}</p>',
        _cards(run),
        *(f'<p class="note">{escape(note)}</p>' for note in (*run.notes, *notes)),
        _charts(run),
    ]
    if found is not None:
        parts += [_evaluation(run, found), _mistakes(run, found, thumbnails)]
    parts += [
        _epochs(run),
        _settings(run),
        f"<footer>Written by mindcv {escape(__version__)}.</footer>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _cards(run: RunFolder) -> str:
    planned = f" of {run.config.epoch_size}" if run.config else ""
    cards = [("epochs", f"{run.rows[-1].epoch if run.rows else 0}{planned}")]
    if run.best:
        values, prefix = run.best.values, run.decides.removesuffix("top1")
        whose = ", averaged weights" if prefix == "ema_val_" else ""
        cards += [
            (f"best top-1{whose}", f"{values[run.decides]:.2f} %"),
            ("in epoch", f"{run.best.epoch}"),
        ]
        if f"{prefix}top5" in values:
            cards.append(("its top-5", f"{values[f'{prefix}top5']:.2f} %"))
        if f"{prefix}loss" in values:
            cards.append(("its validation loss", f"{values[f'{prefix}loss']:.4f}"))
    shown = "".join(f'<div class="card">{escape(k)}<b>{escape(v)}</b></div>' for k, v in cards)
    return f'<div class="grid-of">{shown}</div>'


def _charts(run: RunFolder) -> str:
    best = run.best.epoch if run.best else None
    shown = "\n".join(
        f'<div class="chart"><b>{escape(chart.title)}</b>{draw_chart(chart, best)}'
        f"<div>{draw_legend(chart)}</div></div>"
        for chart in run.charts()
    )
    dotted = " The dotted line is the best epoch." if run.best else ""
    caption = f"Names are columns of metrics.csv, figures their last values.{dotted}"
    if not shown:
        return ""
    charts = f'<div class="grid-of charts">{shown}</div>'
    return f'<h2>Curves</h2>\n{charts}\n<p class="faint">{caption}</p>'


def _evaluation(run: RunFolder, found: "Predictions") -> str:
    wrong = int((found.labels != found.predicted).sum())
    whose = "Averaged weights of " if found.averaged else ""
    return "\n".join(
        [
            "<h2>Confusions</h2>",
            f"<p>{whose}{escape(found.checkpoint.name)} on {len(found.labels)} images, each "
            f"counted once: top-1 {found.top1:.3f} %, {wrong} wrong, loss {found.loss:.4f}.</p>",
            _compare(run, found),
            draw_confusion(found.confusion(), found.class_names),
        ]
    )


def _compare(run: RunFolder, found: "Predictions") -> str:
    """Say whether the figures are those that the run wrote down."""
    row = run.row_of(found.checkpoint)
    prefix = "ema_val_" if found.averaged else "val_"
    if row is None or f"{prefix}top1" not in row.values:
        return '<p class="faint">metrics.csv holds no accuracy of this checkpoint to compare.</p>'
    top1, loss = row.values[f"{prefix}top1"], row.values.get(f"{prefix}loss", found.loss)
    if abs(top1 - found.top1) < 1e-3 and abs(loss - found.loss) <= 1e-3 * max(1.0, abs(loss)):
        return f'<p class="note same">Equal to metrics.csv, epoch {row.epoch}.</p>'
    return (
        f'<p class="note">Not equal to metrics.csv, epoch {row.epoch}: top-1 {top1:.3f} %, loss '
        f"{loss:.4f}. The images, the checkpoint or the device are others than in the run.</p>"
    )


def _mistakes(run: RunFolder, found: "Predictions", thumbnails: dict[int, str]) -> str:
    if not thumbnails:
        return ""
    tiles = "\n".join(_tile(run, found, index, uri) for index, uri in thumbnails.items())
    return (
        "<h2>Worst mistakes</h2>\n<p>The wrong predictions of highest loss, worst first, with the "
        f'probabilities the network gave.</p>\n<div class="grid-of">{tiles}</div>'
    )


def _tile(run: RunFolder, found: "Predictions", index: int, uri: str) -> str:
    names, (wrong, true) = found.class_names, found.shares[index]
    place = str(Path(*Path(found.samples.name(int(found.places[index]))).parts[-2:]))
    tiny = ' class="tiny"' if uri.startswith("data:image/png") else ""
    return (
        f'<figure class="mistake"><img{tiny} src="{uri}" alt="{escape(place)}">'
        f"predicted: {escape(names[found.predicted[index]])} <b>{100 * wrong:.1f} %</b><br>"
        f"true: {escape(names[found.labels[index]])} {100 * true:.1f} %"
        f"<figcaption>{escape(place)}</figcaption></figure>"
    )


def _epochs(run: RunFolder) -> str:
    if not run.rows:
        return ""
    names = list(dict.fromkeys(name for row in run.rows for name in row.values))
    head = "".join(f"<th>{escape(name)}</th>" for name in ("epoch", *names))
    lines = [
        f"<tr><td>{row.epoch}</td>"
        + "".join(f"<td>{_number(row.values.get(name))}</td>" for name in names)
        + "</tr>"
        for row in run.rows
    ]
    return (
        f"<h2>Epochs</h2>\n<details><summary>{len(run.rows)} rows of metrics.csv</summary>"
        f'<div class="wide"><table><tr>{head}</tr>\n'
        + "\n".join(lines)
        + "</table></div></details>"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _settings(run: RunFolder) -> str:
    parts = ["<h2>Config</h2>"]
    if run.config:
        changed = [
            f'<tr><th class="name">{entry.name}</th><td class="name">'
            f"{escape(str(getattr(run.config, entry.name)))}</td></tr>"
            for entry in fields(Config)
            if getattr(run.config, entry.name) != entry.default
        ]
        parts += [
            "<p>What differs from the defaults:</p>",
            f'<div class="wide"><table>{"".join(changed)}</table></div>',
        ]
    parts.append(
        f"<details><summary>config.yaml</summary><pre>{escape(run.config_text)}</pre></details>"
    )
    return "\n".join(parts)

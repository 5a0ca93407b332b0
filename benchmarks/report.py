"""The whole report: a Markdown file of all sections, and a chart of the ratios."""

import json
from pathlib import Path

from tables import Table, markdown, read_results, write_results

COLOURS = {
    "MindCV": "#b03a2e",
    "MindCV, AVX2": "#e59866",
    "torchvision": "#1f618d",
    "timm": "#5dade2",
    "onnxruntime": "#7f8c8d",
}


def write_report(folder: Path, sections: list[str]) -> str:
    """Write table.md and, with matplotlib, chart.png of the sections' results; return the text."""
    found = {name: folder / f"{name}.json" for name in sections}
    found = {name: read_results(path) for name, path in found.items() if path.exists()}
    text = render(found)
    (folder / "table.md").write_text(text, encoding="utf-8")
    tables = [table for name, (_, own) in found.items() if name != "models" for table in own]
    draw_chart(tables, folder / "chart.png")
    return text


def render(sections: dict[str, tuple[dict, list[Table]]]) -> str:
    """Return the tables as Markdown, under the machine and the versions they were measured with."""
    parts = [
        "# Benchmark results",
        "Made by `python benchmarks/run.py`. Medians of the rounds, with the lowest and highest; "
        "in bold how many times as fast this library is: the median of the rounds' ratios.",
    ]
    last = None
    for content, tables in sections.values():
        facts = content["machine"] | {"time": content["machine"]["time"].split()[0]}
        if facts != last:
            parts.append(", ".join(f"{name} {value}" for name, value in facts.items()) + ".")
            last = facts
        parts += map(markdown, tables)
        versions = "; ".join(f"{side} {text}" for side, text in content["versions"].items())
        unfinished = "" if content["is_finished"] else " **Interrupted: rows are missing.**"
        parts.append(f"Versions: {versions}.{unfinished}")
    return "\n\n".join(parts) + "\n"


def draw_chart(tables: list[Table], path: Path) -> bool:
    """Draw how many times as fast this library is as each peer.

    Returns:
        False where there is no matplotlib, or no ratio.
    """
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = [point for table in tables for point in ratios(table)]
    if not points:
        return False
    labels = list(dict.fromkeys(label for label, *_ in points))
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.27 * len(labels)), layout="constrained")
    for peer, colour in COLOURS.items():
        own = [(ratio, labels.index(label)) for label, name, ratio in points if name == peer]
        if own:
            axes.scatter(*zip(*own), color=colour, label=peer, s=36, zorder=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = [value for value in (0.5, 1, 2, 5, 10, 20) if value <= max(p[2] for p in points) * 1.3]
    axes.set_xticks(ticks, [f"{value:g}×" for value in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(color="#dddddd")
    axes.set_xlabel("times as fast as the peer: this library is faster right of 1×")
    figure.legend(loc="outside upper center", ncols=len(COLOURS))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return True


def ratios(table: Table) -> list[tuple[str, str, float]]:
    """Return label, peer and ratio of each row and side that is a peer."""
    points = []
    for row in table.rows:
        for side in table.sides[1:]:
            ratio = table.ratio(row, side)
            if side in COLOURS and ratio:
                points.append((f"{table.title}: {row}", side, ratio))
    return points


def read_optimizers(path: Path, versions: dict[str, str]) -> None:
    """Rewrite what optimizers.py wrote in the form of the other sections."""
    content = json.loads(path.read_text(encoding="utf-8"))
    tables = []
    for part, title, factor, unit in (
        ("compile", "Compiling an optimizer", 1, "s"),
        ("step", "Step of an optimizer", 1e3, "ms"),
    ):
        table = Table(title, f"{content['model']}, the optimizer alone", unit)
        for turn in content["rounds"]:
            for side, found in turn.items():
                for name, times in found.items():
                    values = table.rows.setdefault(name, {}).setdefault(side, [])
                    values += [factor * times[part]] if times else []
        tables.append(table)
    write_results(path, tables, versions, is_finished=True)

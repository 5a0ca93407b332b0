"""Write the generated tables of the documentation: options, published weights, recipes.

Run it after an option, `published.yaml` or a recipe changed.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mindcv.config import load_config, recipes
from mindcv.config.options import OPTIONS, bounds_of
from mindcv.design_space import SETTINGS, complexity
from mindcv.hub import PublishedWeights, published_weights
from mindcv.optim import OPTIMIZERS

FOLDER = Path(__file__).parent
_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_COMMANDS = {"train": "train.py", "validate": "validate.py", "lr": "lr"}


def with_table(document: str, table: str) -> str:
    """Return the document with this table between its two marks."""
    before, rest = document.split(_BEGIN)
    return before + _BEGIN + table + _END + rest.split(_END)[1]


def options() -> str:
    """Return the options by topic, as Markdown tables."""
    text = ""
    for name, entry in OPTIONS.items():
        limits = entry.metadata
        if limits["section"]:
            header = _rows([("option", "default", "values", "meaning", "obeyed by"), ["---"] * 5])
            text += f"\n## {limits['section'].capitalize()}\n\n{header}"
        used_by = [_COMMANDS[command] for command in _COMMANDS if command in limits["used_by"]]
        if "measuring" in limits["used_by"]:
            used_by.append("validate.py --precise_bn_samples")
        default = "" if entry.default in (None, "") else f"`{entry.default}`"
        cells = (f"`{name}`", default, _values(limits), limits["help"], ", ".join(used_by))
        text += _rows([[cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells]])
    return f"{text}\n## Optimizers\n\ng is the gradient, w the weight.\n\n{_optimizers()}\n"


def _optimizers() -> str:
    """Return the optimizers as a Markdown table; g is the gradient, w the weight."""
    rows = [("optimizer", "weight decay", "takes", "remark"), ["---"] * 4]
    for name, row in OPTIMIZERS.items():
        rows.append((f"`{name}`", row.decays, ", ".join(row.takes), row.remark))
    return _rows(rows)


def _values(limits) -> str:
    """Return choices or range of an option."""
    if limits["choices"]:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    signs = {"at least": "≥", "above": ">", "at most": "≤"}
    return ", ".join(f"{signs[words]} {limit}" for words, _, limit in bounds_of(limits))


def weights() -> str:
    """Return the published weights as a Markdown table, each model's default first."""
    models = sorted({row.model for row in published_weights()}, key=_size)
    columns = ("model", "source", "top-1", "top-5", "input", "licence", "publisher")
    columns += ("SHA-256", "note")
    rows = [columns, ["---"] * len(columns)]
    for model in models:
        rows += [_cells(row) for row in published_weights(model)]
    return _rows(rows)


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _size(model: str) -> tuple[str, float]:
    """Sort by family, then by parameters."""
    params = [row.params for row in published_weights(model) if row.params is not None]
    return model[: len("regnet_x")], min(params)


def _cells(row: PublishedWeights) -> list[str]:
    used = row.preprocessing
    filtered = "antialiased " if used.antialias else ""
    resized = int(used.image_size / used.crop_pct)
    return [
        row.model,
        f"[{row.source}]({row.url})",
        "" if row.top1 is None else f"{row.top1:.2f}",
        "" if row.top5 is None else f"{row.top5:.2f}",
        f"{used.image_size} of {resized}, {filtered}{used.interpolation}, {row.channel_order}",
        row.licence,
        row.owner,
        "none known" if row.sha256 is None else f"`{row.sha256[:8]}`",
        row.note,
    ]


def recipe_table() -> str:
    """Return the packaged recipes as a Markdown table, by family and size."""
    columns = ("recipe", "published", "ours", "params", "MACs", "images a step", "epochs")
    paths = [path for path in recipes.packaged().values() if path.parent.name != "configs"]
    rows = sorted(map(_recipe, paths), key=lambda row: (row[0], row[1]))
    return _rows([columns, ["---"] * len(columns), *(row[2:] for row in rows)])


def _recipe(path: Path) -> tuple:
    """Return family, size and cells of a recipe; accuracies are those of its header."""
    config, text = load_config(str(path), {"distribute": False}), path.read_text(encoding="utf-8")
    header = re.sub(r"\n#\s*", " ", text.split("\n\n")[0])
    told = re.search(r"(?:Published accuracy|Expected): (.*?)[.;,] ours: ([\w ]+)", header, re.I)
    per_step = re.search(r"Devices:\s+(\d+ x \d+) images", header)[1]
    costs = complexity(SETTINGS[config.model].plan(), 224)
    cells = (
        f"[{path.stem}](../{path.relative_to(FOLDER.parent).as_posix()})",
        re.sub(r"top-1 (\S+), top-5 (\S+)", r"\1 / \2", told[1]).replace("*", r"\*"),
        told[2].strip(),
        f"{costs.params / 1e6:.2f} M ({costs.params:,})",
        f"{costs.macs / 1e9:.2f} G ({costs.macs:,})",
        per_step,
        str(config.epoch_size),
    )
    return config.model[: len("regnet_x")], costs.macs, *cells


TABLES = {
    FOLDER / "options.md": options,
    FOLDER / "recipes.md": recipe_table,
    FOLDER / "weights.md": weights,
}

if __name__ == "__main__":
    for path, table in TABLES.items():
        document = path.read_text(encoding="utf-8")
        path.write_text(with_table(document, table()), encoding="utf-8")

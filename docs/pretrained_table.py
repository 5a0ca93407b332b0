"""Write the table of published weights into pretrained.md; run it after published.yaml changed."""

from pathlib import Path

from mindcv.hub import PublishedWeights, published_weights

DOCUMENT = Path(__file__).with_name("pretrained.md")
_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_COLUMNS = ("model", "source", "top-1", "top-5", "input", "licence", "whose", "SHA-256", "note")


def with_table(document: str) -> str:
    """Return the document with the table of today between its two marks."""
    before, rest = document.split(_BEGIN)
    return before + _BEGIN + _table() + _END + rest.split(_END)[1]


def _table() -> str:
    """Return the published weights as a Markdown table, each model's default first."""
    models = sorted({row.model for row in published_weights()}, key=_size)
    lines = [_COLUMNS, ["---"] * len(_COLUMNS)]
    for model in models:
        lines += [_cells(row) for row in published_weights(model)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


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


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")

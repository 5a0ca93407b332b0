"""Write the notebooks of the examples: `python examples/notebooks.py`.

The programs whose cells begin with `# %%`, jupytext's percent format, are the source; nobody edits
a notebook.
"""

import json
import re
from pathlib import Path

PROGRAMS = [
    path
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if path.read_text(encoding="utf-8").startswith("# %%")
]


def notebook(program: str) -> str:
    """Return a program's notebook, format 4.5, without outputs."""
    cells = []
    for number, part in enumerate(re.split(r"^# %%", program, flags=re.MULTILINE)[1:]):
        kind, _, source = part.partition("\n")
        cell = {"cell_type": "code", "execution_count": None, "outputs": []}
        if kind.strip() == "[markdown]":
            cell = {"cell_type": "markdown"}
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        cells.append({"id": f"cell-{number}", **cell, "metadata": {}, "source": source.strip()})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    for path in PROGRAMS:
        text = notebook(path.read_text(encoding="utf-8"))
        path.with_suffix(".ipynb").write_text(text, encoding="utf-8")

"""The documentation's generated tables are of today, and its links lead somewhere."""

import re
import runpy
from pathlib import Path

import pytest
from conftest import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")]
TABLES = runpy.run_path(str(ROOT / "docs/tables.py"))


@pytest.mark.parametrize("path", TABLES["TABLES"], ids=lambda path: path.name)
def test_a_generated_table_is_of_today(path):
    text, table = path.read_text(encoding="utf-8"), TABLES["TABLES"][path]()
    assert TABLES["with_table"](text, table) == text, "run docs/tables.py"
    lines = table.splitlines(keepends=True)
    shorter = text.replace(lines[-1] if lines[-1].strip() else lines[-2], "")
    assert shorter != text and TABLES["with_table"](shorter, table) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def anchors(page: Path) -> set[str]:
    """Return the anchors that hosting sites make of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}

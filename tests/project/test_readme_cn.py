"""README_CN.md keeps step with README.md: the same commands, programs, links and figures."""

import re

import pytest
from conftest import ROOT

ENGLISH, CHINESE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README_CN.md")
)
PARTS = {
    "code blocks, in this order": r"```.*?```",
    "levels of headings, in this order": r"^#+(?= )",
    "targets of links": r"\]\(([^)]+)\)",
    "code within the text": r"`[^`\n]+`",
    "rows of tables": r"^\|(?=.*\|$)",
    "figures in tables": r"(?<=\| )[\d.]+(?: m?s)?(?= \||（| \()",
}


def found(part: str, text: str) -> list[str]:
    if part != "code blocks, in this order":
        text = re.sub("```.*?```", "", text, flags=re.DOTALL)
    return re.findall(PARTS[part], text, re.DOTALL if part.startswith("code b") else re.MULTILINE)


@pytest.mark.parametrize("part", PARTS)
def test_both_have_the_same(part):
    ours, theirs = found(part, ENGLISH), found(part, CHINESE)
    ours = ["README.md" if target == "README_CN.md" else target for target in ours]
    if "order" not in part:
        ours, theirs = sorted(set(ours)), sorted(set(theirs))
    assert ours == theirs and len(ours) > 0


def test_it_is_written_in_chinese():
    """Each paragraph and heading, but for the title and names."""
    text = re.sub("```.*?```|^!?\\[.*$", "", CHINESE, flags=re.DOTALL | re.MULTILINE)
    for paragraph in text.split("\n\n")[1:]:
        if paragraph.strip():
            assert re.search("[\u4e00-\u9fff]", paragraph), paragraph

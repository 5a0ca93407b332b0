"""The documentation's site: what mkdocs.yml and its hooks promise; .ci/run builds it."""

import importlib
import re
import runpy
from types import SimpleNamespace

import pytest
from conftest import ROOT

HOOKS = runpy.run_path(str(ROOT / "docs/site/hooks.py"))
SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
PACKAGES = sorted(ROOT.glob("mindcv/*/__init__.py"))


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_the_reference_has_the_public_names_of_a_package(path):
    offered = importlib.import_module(f"mindcv.{path.parent.name}")
    found = set(HOOKS["public_names"](path))
    for name in found:
        getattr(offered, name)
    if hasattr(offered, "__all__"):
        missing = set(offered.__all__) - found
        assert all(name.startswith("regnet_") for name in missing)  # models: docs/models.md


def test_every_page_is_in_the_navigation():
    pages = {HOOKS["place_of"](path) for path in HOOKS["linked"]() if path.endswith(".md")}
    pages |= {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    shown = {page for page in re.findall(r"[\w./]+\.md", SITE) if not page.startswith("reference/")}
    assert pages == shown and len(pages) > 20


def test_every_package_with_public_names_is_in_the_navigation():
    pages = {uri for uri, _ in HOOKS["reference"]()}
    assert pages == set(re.findall(r"reference/[\w.]+\.md", SITE)) and len(pages) > 10


def test_the_help_of_every_command_is_on_its_page():
    (text,) = (text for uri, text in HOOKS["reference"]() if uri.endswith("commands.md"))
    assert text.count("\nusage: ") >= text.count("\n## ") - 2 > 10
    assert "--contact_sheet" in text and "mindcv design-space sample" in text


MOVED = [
    ("train.md", "[configs/README.md](../configs/README.md#x)", "[Recipes](configs/README.md#x)"),
    ("design/speed.md", "[x](../data.md)", "[x](../data.md)"),
    (
        "index.md",
        "[a](docs/train.md), ![b](benchmarks/b.png)",
        "[a](train.md), ![b](benchmarks/b.png)",
    ),
    (
        "configs/README.md",
        "[x](../docs/recipes.md), [y](a.yaml)",
        "[x](../recipes.md), [y](a.yaml)",
    ),
    ("models.md", "[x](https://host/x.md), [y](#top)", "[x](https://host/x.md), [y](#top)"),
    ("ascend.md", "[x]: ../SECURITY.md", "[x]: SECURITY.md"),
    ("scaling.md", "[benchmarks](../benchmarks/)", "[benchmarks](benchmarks/README.md)"),
]


@pytest.mark.parametrize("page, text, expected", MOVED)
def test_a_link_of_the_repository_leads_to_its_place_on_the_site(page, text, expected):
    shown = SimpleNamespace(file=SimpleNamespace(src_uri=page), meta={})
    assert HOOKS["on_page_markdown"](text, shown, None, None) == expected


def test_a_page_that_loads_from_another_host_is_refused():
    found = HOOKS["_ELSEWHERE"]
    assert not found.search('<a href="https://x.org">x</a><img src="chart.png"><script src=a.js>')
    for tag in ('<img alt="" src="https://x.org/a.svg">', "<script src=//x.org/a.js></script>"):
        assert found.search(tag)

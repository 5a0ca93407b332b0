"""Hooks of mkdocs.yml: the site is made from the repository's pages as they are.

Their links are those that a code forge follows. A file outside docs/ that a page links to becomes a
page or a download of the site, and every link is led to where its target is there. The reference is
written here, from docstrings and the `--help` of the commands. Nothing imports MindSpore.
"""

import ast
import contextlib
import io
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
START = "README.md"
_LINK = re.compile(r"(\[[^]]*\]\(|^\[[^]]+\]: )(?!https?:|#)([^)\s#]+)", re.MULTILINE)
_FILE_AS_TEXT = re.compile(r"\[`?[\w./-]+\.md`?\]\(")
_CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_ELSEWHERE = re.compile(
    r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
_ACTION = re.compile(r"^    (\w+) ", re.MULTILINE)
_BADGE = re.compile(r"^!\[[^]]*\]\(https:[^)]*\)\n", re.MULTILINE)


def on_files(files, config):
    """Add what the pages link to outside docs/, and the reference."""
    from mkdocs.structure.files import File

    for path in linked():
        if not path.startswith("docs/"):
            files.append(File.generated(config, place_of(path), abs_src_path=str(ROOT / path)))
    for uri, content in reference():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead the links of a page to where their targets are on the site."""
    place = page.file.src_uri
    folder = posixpath.dirname(origin_of(place))
    here = posixpath.dirname(place) or "."
    if "\n## " not in markdown:
        page.meta["hide"] = ["toc"]  # room for a wide table

    def moved(link: re.Match) -> str:
        target, text = target_of(link, folder), link[1]
        if _FILE_AS_TEXT.fullmatch(text):
            text = f"[{title_of(target)}]("
        return text + posixpath.relpath(place_of(target), here)

    # Badges are pictures of another host.
    return _LINK.sub(moved, _BADGE.sub("", markdown))


def title_of(path: str) -> str:
    """Return the heading of a page of the repository."""
    return re.search(r"^# (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)[1]


def on_post_page(output, page, config):
    """Refuse a page that loads something from another host."""
    from mkdocs.exceptions import PluginError

    if found := _ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from another host: {found[0]}")


def place_of(path: str) -> str:
    """Return where a file of the repository is on the site."""
    return "index.md" if path == START else path.removeprefix("docs/")


def origin_of(place: str) -> str:
    """Return which file of the repository is at a place of the site."""
    if place == "index.md":
        return START
    return f"docs/{place}" if (ROOT / "docs" / place).exists() else place


def linked() -> set[str]:
    """Return the files of the repository that links lead to, from its README on."""
    waiting, known = [START], set()
    while waiting:
        path = waiting.pop()
        if path not in known and path.endswith(".md"):
            waiting += targets(path)
        known.add(path)
    return known


def targets(path: str) -> list[str]:
    """Return the files of the repository that a page links to."""
    text = _CODE.sub("", (ROOT / path).read_text(encoding="utf-8"))
    return [target_of(link, posixpath.dirname(path)) for link in _LINK.finditer(text)]


def target_of(link: re.Match, folder: str) -> str:
    """Return the file of the repository that a link leads to: of a folder, its README."""
    path = posixpath.normpath(posixpath.join(folder, link[2]))
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def reference() -> Iterator[tuple[str, str]]:
    """Yield place and text of each page of the reference."""
    for path in sorted([*ROOT.glob("mindcv/__init__.py"), *ROOT.glob("mindcv/*/__init__.py")]):
        if names := public_names(path):
            module = ".".join(path.parent.relative_to(ROOT).parts)
            listed = "".join(f"        - {name}\n" for name in names)
            yield (
                f"reference/{module}.md",
                f"# {module}\n\n::: {module}\n    options:\n      members:\n{listed}",
            )
    yield "reference/commands.md", commands()


def public_names(path: Path) -> list[str]:
    """Return the names that a package offers: in `__all__`, imported lazily, or defined there."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    offered = [
        *(one.value for node in body if _assigned(node) == "__all__" for one in _constants(node)),
        *(name for node in body if isinstance(node, ast.If) for name in _lazy(node)),
        *(name for node in body if _is_star(node) for name in _of_sibling(path, node.module)),
    ]
    defined = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return sorted({name for name in offered or defined if not name.startswith("_")})


def _assigned(node: ast.stmt) -> str:
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""


def _constants(node: ast.stmt) -> list[ast.Constant]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Constant)]


def _lazy(node: ast.If) -> Iterator[str]:
    """Yield what `if TYPE_CHECKING` imports of this library, but for whole modules."""
    for one in node.body if ast.unparse(node.test) == "TYPE_CHECKING" else ():
        if isinstance(one, ast.ImportFrom) and one.level and one.module:
            yield from (name.name for name in one.names)


def _is_star(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.level == 1 and node.names[0].name == "*"


def _of_sibling(path: Path, module: str) -> list[str]:
    return public_names(path.with_name(f"{module}.py"))


def commands() -> str:
    """Return the `--help` of every command as a page."""
    sys.path.insert(0, str(ROOT))
    from mindcv.tools import COMMANDS, DOORS

    text = "# Commands\n\nThe options of `train` and `validate` are in [Options](../options.md).\n"
    for name, summary in COMMANDS.items():
        text += f"\n## mindcv {name}\n\n"
        text += f"{summary[0].upper()}{summary[1:]}.\n"
        if name not in DOORS:
            printed = help_of(name)
            actions = _ACTION.findall(printed.partition("\n  ACTION\n")[2])
            for shown in (printed, *(help_of(name, action) for action in actions)):
                text += f"\n```text\n{shown}```\n"
    return text


def help_of(*words: str) -> str:
    """Return what `mindcv WORDS --help` prints."""
    from mindcv.__main__ import main

    printed = io.StringIO()
    os.environ["COLUMNS"] = "84"
    sys.argv[0] = "mindcv"
    with contextlib.redirect_stdout(printed):
        try:
            main([*words, "--help"])
        except SystemExit as end:
            if end.code:
                raise RuntimeError(
                    f"mindcv {' '.join(words)} --help ended with {end.code}"
                ) from None
    return printed.getvalue()

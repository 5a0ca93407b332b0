"""Commands printed within the text of a page run as they stand there; `--help` runs for each."""

import re

from conftest import ROOT
from warm_commands import WarmCommands

from mindcv.tools import COMMANDS

PAGES = [
    *(ROOT / name for name in ("README.md", "configs/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Words in backquotes, which a line may end within; fenced blocks are test_snippets'.
PRINTED = re.compile(r"`(python (?:-m mindcv|train\.py|validate\.py)[^`\n]*(?:\n[^`\n]+)?)`")
# Printed -> run: in this order, since a command takes what the one before has left.
RUN = {
    "python -m mindcv list": "mindcv list",
    "python -m mindcv info": "mindcv info regnet_x_800mf",
    "python -m mindcv plan": "mindcv plan --model regnet_x_800mf",
    "python -m mindcv scan DIR": "mindcv scan images",
    "python train.py --help": "train.py --help",
}
# A command's name, no whole command; the others of these are run by test_snippets.
MENTIONED = {
    "python -m mindcv average FIRST.ckpt SECOND.ckpt … --output average.ckpt",
    "python -m mindcv pack",
    "python -m mindcv predict",
    "python -m mindcv train",
    "python train.py",
    "python train.py --config … --distribute False",
}


def test_what_is_printed_within_the_text_runs(warm, tmp_path, image_folder):
    (tmp_path / "images").symlink_to(image_folder)
    for printed, line in RUN.items():
        done = warm.run(line.split(), tmp_path)
        assert done.code == 0, (printed, done.err)
        assert done.out, printed


def test_no_command_within_the_text_is_left_untested():
    found = set()
    for page in PAGES:
        text = re.sub("```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        found |= {" ".join(words.split()) for words in PRINTED.findall(text)}
    assert found == {*RUN, *MENTIONED}


def test_the_table_of_guides_names_every_command():
    guides = (ROOT / "README.md").read_text(encoding="utf-8").split("## Guides")[1].split("##")[0]
    assert set(re.findall(r"`(?:mindcv )?([a-z][a-z-]*)`", guides)) == set(COMMANDS)


def test_help_of_any_command_is_printed_without_mindspore(tmp_path, blocked_mindspore):
    lines = ["train.py", "validate.py", "mindcv", *(f"mindcv {name}" for name in COMMANDS)]
    with WarmCommands("argparse", **blocked_mindspore) as commands:
        for line in lines:
            done = commands.run([*line.split(), "--help"], tmp_path)
            assert (done.code, done.err) == (0, ""), line
            assert "usage: " in done.out and "--help" in done.out, line
        version = commands.run(["mindcv", "--version"], tmp_path)
    assert version.code == 0 and "mindcv" in version.out

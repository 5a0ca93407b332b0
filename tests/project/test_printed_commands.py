"""Commands printed within the text of a page run as they stand there; `--help` runs for each."""

import re

from conftest import ROOT
from warm_commands import WarmCommands

from mindcv.tools import COMMANDS

PAGES = [
    *(ROOT / name for name in ("README.md", "configs/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# A line of its own, or words in backquotes, which a line may end within.
PRINTED = re.compile(
    r"(?:^ {4}(?:\$ )?|`)(python (?:-m mindcv|train\.py|validate\.py)[^`\n]*(?:\n[^`\n]+(?=`))?)",
    re.MULTILINE,
)
TRAIN = "--import_module tiny.py --model tiny --image_resize 32 --batch_size 8 --epoch_size 2"
BUILD = "train.py --data_dir images --image_resize 32 --batch_size 8 --dry_run --model"
# Printed -> run: in this order, since a command takes what the one before has left.
RUN = {
    "python -m mindcv list": "mindcv list",
    "python -m mindcv info": "mindcv info regnet_x_800mf",
    'python -m mindcv info regnet --regnet "w_a=36, w_0=24, w_m=2.5, d=13, group_w=8"': (
        "mindcv info regnet --regnet w_a=36,w_0=24,w_m=2.5,d=13,group_w=8"
    ),
    'python train.py --model regnet --regnet "w_a=36, w_0=24, w_m=2.5, d=13, group_w=8, '
    'se_r=0.25" …': f"{BUILD} regnet --regnet w_a=8 w_0=8 w_m=2.5 d=2 group_w=8 se_r=0.25",
    'python train.py --model anynet --anynet "depths=[1,2,4,7], widths=[24,56,152,368], '
    'group_ws=[8,8,8,8]" …': f"{BUILD} anynet --anynet depths=[1],widths=[8],group_ws=[8]",
    "python -m mindcv plan": "mindcv plan --model regnet_x_800mf",
    "python -m mindcv scan DIR": "mindcv scan images",
    "python -m mindcv scan pets --report pets.csv --report pets.json": (
        "mindcv scan images --report pets.csv --report pets.json"
    ),
    "python -m mindcv pack /data/imagenet /data/packed": "mindcv pack images packed",
    "python -m mindcv pack --verify /data/packed": "mindcv pack --verify packed",
    "python train.py --dataset mindrecord --data_dir /data/packed …": (
        f"train.py --dataset mindrecord --data_dir packed {TRAIN} --warmup_epochs 0"
    ),
    "python -m mindcv average FIRST.ckpt SECOND.ckpt … --output average.ckpt": (
        "mindcv average ckpt/tiny-1_6.ckpt ckpt/tiny-2_6.ckpt --output average.ckpt"
    ),
    "python train.py --help": "train.py --help",
}
# A command's name, no whole command; the others of these are run by test_readme.
MENTIONED = {
    "python -m mindcv pack",
    "python -m mindcv predict",
    "python -m mindcv train",
    "python train.py",
    "python train.py --config … --distribute False",
}


def test_what_is_printed_within_the_text_runs(warm, tmp_path, image_folder, tiny_models):
    (tmp_path / "images").symlink_to(image_folder)
    (tmp_path / "tiny.py").symlink_to(tiny_models)
    for printed, line in RUN.items():
        done = warm.run(line.split(), tmp_path)
        assert done.code == 0, (printed, done.err)
        assert done.out, printed
    left = {path.name for path in tmp_path.iterdir()}
    assert left >= {"pets.csv", "pets.json", "packed", "ckpt", "average.ckpt"}


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

"""A wrong command line ends with exit code 2 and one message, without importing MindSpore."""

import pytest
from broken_recipes import YAML_CASES
from warm_commands import WarmCommands

from mindcv.config import parse_arguments, training_contradictions
from mindcv.errors import ConfigError

# What the commands import first; none of it imports MindSpore.
PARTS = ("mindcv.command", "mindcv.weights", "mindcv.checkpoint", "mindcv.hub")

pytestmark = pytest.mark.usefixtures("started_alone")

# `GOOD` stands for a recipe that is all right.
COMMAND_LINES = {
    "unknown option": ("--colour red", "command line | '--colour'"),
    "misspelt option": ("--epoch_sise 3", "command line | '--epoch_sise' | epoch_size"),
    "shortened option": ("--warmup 3", "command line | '--warmup'"),
    "dash for underscore": ("--batch-size 3", "command line | '--batch-size' | batch_size"),
    "one dash": ("-lr 0.1", "command line | '-lr' | --key value"),
    "no-prefix": ("--no-shuffle", "command line | '--no-shuffle' | shuffle"),
    "misspelt with equals sign": ("--modle=m", "command line | '--modle=m' | model"),
    "missing value": ("--model m --lr", "command line | --lr | expected one argument"),
    "value swallowed": ("--lr --model m", "command line | --lr | expected one argument"),
    "empty value": ("--model m --lr=", "command line | lr | expected a number | nothing"),
    "missing list": ("--scale --model m", "command line | --scale | at least one argument"),
    "positional word": ("--model m train", "command line | 'train' | --key value"),
    "recipe without --config": ("GOOD", "command line | recipe.yaml | --key value"),
    "key=value": ("--model m lr=0.1", "command line | 'lr=0.1' | --key value"),
    "bare dashes": ("--model m -- --lr 0.1", "command line | '--'"),
    "config without value": ("--lr 0.1 --config", "command line | --config | one argument"),
    "config of no name": ("--config=", "no file and no recipe ''"),
    "wrong number": ("--model m --lr fast", "command line | lr | a number | 'fast'"),
    "wrong integer": ("--model m --epoch_size 2.5", "command line | epoch_size | '2.5'"),
    "wrong flag": ("--model m --shuffle maybe", "command line | shuffle | 'maybe'"),
    "wrong list": ("--model m --scale 0.1 0.2 0.3", "command line | scale | '0.1 0.2 0.3'"),
    "out of range": ("--model m --lr -1", "command line | lr | -1.0 | above 0"),
    "not a choice": ("--model m --opt lars", "command line | opt | 'lars' | adamw"),
    "not available": (
        "--model m --eval_shuffle",
        "command line | eval_shuffle is not supported | in any order",
    ),
    "optimizer of no checkpoint": (
        "--model m --resume_opt",
        "command line | resume_opt | ckpt_path",
    ),
    "two places to go on from": (
        "--model m --ckpt_path a.ckpt --resume_opt --resume auto",
        "command line | resume_opt | give one of them",
    ),
    "refused": ("--model m --data_url x", "command line | data_url | ModelArts"),
    "older name, wrong value": (
        "--model m --filter_bias_and_bn maybe",
        "command line | weight_decay_filter | 'maybe'",
    ),
    "contradicts the file": ("-c GOOD --scheduler cyclic", "GOOD:3: warmup_epochs | cyclic"),
    "contradicts by itself": (
        "-c GOOD --scheduler wsd --decay_epochs 29",
        "command line: decay_epochs | 29 | 30 epochs",
    ),
    "no words at all": ("", "model | no model given"),
    "other library's name": ("--model m --learning_rate 3", "'--learning_rate' | did you mean lr?"),
    "other library's size": ("--model m --img-size 3", "'--img-size' | did you mean image_resize?"),
    "option of validate.py": ("--model m --val_amp_level O2", "val_amp_level: is an | validate.py"),
}

GOOD = "model: 'm'\nepoch_size: 30\nwarmup_epochs: 5\n"


# Commands as they are started, beside those of train.py.
OTHERS = {
    "validate: unknown option": ("validate.py --colour red", "command line | '--colour'"),
    "validate: misspelt": ("validate.py --ckpt_pth x", "'--ckpt_pth' | did you mean ckpt_path"),
    "validate: no weights": ("validate.py --model m", "ckpt_path | no weights given"),
    "validate: wrong number": ("validate.py --batch_size few", "batch_size | an integer | 'few'"),
    "validate: both weights": (
        "validate.py --model regnet_x_200mf --ckpt_path x --pretrained",
        "pretrained and ckpt_path",
    ),
    "validate: option of train.py": (
        "validate.py --ckpt_path x --resume auto",
        "command line: resume: is an option of train.py | leave it out",
    ),
    "validate: training images": (
        "validate.py --ckpt_path x --num_samples 9",
        "command line: num_samples: concerns training images | --precise_bn_samples",
    ),
    "validate: no such weights": (
        "validate.py --model regnet_y_400mf --pretrained nonsense",
        "command line: pretrained: | 'nonsense' | there are: mindcv, torchvision_v2",
    ),
    "predict: no such weights": (
        "mindcv predict a.jpg --model regnet_y_400mf --pretrained nonsense",
        "'nonsense' | there are: mindcv, torchvision_v2",
    ),
    "lr: an option that it ignores": (
        "mindcv lr --steps_per_epoch 3 --hflip 0",
        "command line: hflip: is an option of train.py",
    ),
    "model of another family": (
        "train.py --model resnet50 --data_dir gone",
        "command line: model: model 'resnet50' | only RegNets: regnet_x_{200mf,400mf",
    ),
    "misspelt model": ("train.py --model regnet_x_80mf", "model: | did you mean regnet_x_800mf"),
    "source that the model lacks": (
        "train.py --model regnet_y_400mf --pretrained torchvision_swag --data_dir gone",
        "command line: pretrained: no weights of regnet_y_400mf from 'torchvision_swag' | mindcv",
    ),
    "source of the twin": (
        "train.py --model regnet_x_400mf --pretrained torchvision_v2",
        "command line: pretrained: torchvision's | regnet_x_400mf_tv",
    ),
    "no command": ("mindcv", "command line | COMMAND | --help"),
    "unknown command": ("mindcv valid", "no command 'valid' | average"),
    "unknown option of a command": ("mindcv list --colour", "--colour | --help"),
    "missing word": ("mindcv info", "command line | --help"),
    "missing output": ("mindcv average a.ckpt b.ckpt", "--output | --help"),
    "one word too many": ("mindcv info a b", "unrecognized arguments: b"),
    "no whole number": ("mindcv list --image_size big", "--image_size | 'big' | at least 8"),
    "not a choice of a command": ("mindcv convert a b.npz --names mine", "--names | 'mine' | timm"),
    "shortened": ("mindcv convert a b.npz --nam timm", "unrecognized | --nam"),
    "unknown suffix": ("mindcv predict a.jpg --ckpt_path x --output o.txt", "o.txt | .csv"),
    "weights of no kind": ("mindcv average a b --output c.ckpt --weights 1 0", "positive"),
    "option of the recipe": (
        "mindcv lr --steps_per_epoch 3 --leraning_rate 1",
        "'--leraning_rate'",
    ),
    "recipe's contradiction": (
        "mindcv lr --steps_per_epoch 3 --scheduler one_cycle",
        "warmup_epochs | one_cycle climbs by itself",
    ),
    "scan of no kind": ("mindcv scan . --allow all", "allow: 'all' | leaks"),
    "no workers": ("mindcv pack a b --workers 0", "--workers | '0' | at least 1"),
    "contradicting words": ("mindcv report . --no_eval --ckpt_path x", "--no_eval contradicts"),
}


def check_message(message: str, fragments: str, path) -> None:
    for fragment in fragments.split(" | "):
        fragment = fragment.replace("@", f"{path}:", fragment[0] == "@")
        assert fragment.replace("GOOD", str(path)) in message


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_a_broken_command_line_is_answered_with_option_and_value(tmp_path, capsys, name):
    words, fragments = COMMAND_LINES[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(GOOD, encoding="utf-8")
    arguments = words.replace("GOOD", str(path)).split()
    with pytest.raises(ConfigError) as caught:
        parse_arguments("train.py", "Train.", training_contradictions, arguments)
    check_message(str(caught.value), fragments, path)
    assert capsys.readouterr() == ("", "")  # argparse itself prints nothing


def test_the_commands_end_with_2_and_nothing_but_the_message(tmp_path, blocked_mindspore):
    """As processes: all other commands, and of the cases that are parsed above every fourth."""
    recipe = tmp_path / "recipe.yaml"
    lines = list(COMMAND_LINES.values())[::4]
    cases = [(GOOD.encode(), *case) for case in OTHERS.values()]
    cases += [(GOOD.encode(), f"train.py {words}", told) for words, told in lines]
    broken = list(YAML_CASES.values())[::8]
    cases += [(content, f"train.py --config {recipe}", told) for content, told in broken]
    with WarmCommands(*PARTS, **blocked_mindspore) as commands:
        for content, words, fragments in cases:
            recipe.write_bytes(content)
            done = commands.run(words.replace("GOOD", str(recipe)).split(), tmp_path)
            assert (done.code, done.out) == (2, ""), (words, done)
            assert done.err.startswith("error: ") and "Traceback" not in done.err, words
            check_message(done.err, fragments, recipe)
    assert {path.name for path in tmp_path.iterdir()} == {"no_mindspore", "recipe.yaml"}

"""The options of MindCV, of its tags and of its recipes are accepted, or refused with a reason.

Against mindcv_options.json, which golden/make_mindcv_options.py takes from MindCV's own parsers and
from every version of its recipes.
"""

import json
from pathlib import Path

import pytest
import yaml

from mindcv.config import (
    Config,
    build_schedule,
    evaluation_contradictions,
    load_config,
    model_contradictions,
    parse_arguments,
    training_contradictions,
)
from mindcv.config.options import OPTIONS, REFUSED_KEYS, RENAMED_KEYS
from mindcv.errors import ConfigError

RECORDED = json.loads((Path(__file__).parents[1] / "golden/mindcv_options.json").read_text())
TAGS = RECORDED["options"]
VALUES, CHOSEN = RECORDED["values"], RECORDED["recipes"]
RECIPES = [
    {key: VALUES[key][at] for key, column in CHOSEN.items() if (at := column[number]) is not None}
    for number in range(len(CHOSEN["lr"]))
]
# What differs: the reasons stand in docs/from_mindcv.md.
BETTER_DEFAULTS = dict(
    device_target=None,
    eps=1e-8,
    decay_epochs=None,
    mean=None,
    std=None,
    model="",  # MindCV's is mobilenet_v2_035_224
)
# Values of recipes that MindCV itself does not take, or no longer.
REFUSED_VALUES = {"auto_augment": [True], "preset": ["raug15"]}

pytestmark = pytest.mark.usefixtures("started_alone")


def no_rules(config):
    return iter(())


def both_rules(config):
    yield from training_contradictions(config)
    yield from model_contradictions(config)


def as_ours(value):
    return tuple(value) if isinstance(value, list) else value


def test_the_defaults_are_mindcvs_but_for_the_documented_differences():
    theirs = {key: as_ours(default) for key, (default, _) in TAGS["HEAD"].items()}
    theirs = {key: value for key, value in theirs.items() if key in OPTIONS}
    different = {key: getattr(Config, key) for key in theirs if theirs[key] != getattr(Config, key)}
    assert different == BETTER_DEFAULTS


@pytest.mark.parametrize("tag", TAGS)
def test_every_option_of_a_tag_is_known(tag):
    known = {*OPTIONS, *RENAMED_KEYS, *REFUSED_KEYS, "config"}
    assert set(TAGS[tag]) - known == set()
    assert all(today in OPTIONS for today, _ in RENAMED_KEYS.values())
    assert not set(OPTIONS) & {*RENAMED_KEYS, *REFUSED_KEYS}


@pytest.mark.parametrize("tag", [tag for tag in TAGS if not tag.startswith("v0.0.1-")])
def test_the_file_that_mindcv_saves_of_its_options_is_a_recipe(tag, tmp_path):
    saved = {key: default for key, (default, _) in TAGS[tag].items()} | {"config": "recipe.yaml"}
    path = tmp_path / "regnet_x_200mf.yaml"
    path.write_text(yaml.safe_dump(saved), encoding="utf-8")
    words = ["-c", str(path), "--model", "regnet_x_200mf"]
    config = parse_arguments("train.py", "", training_contradictions, words)
    kept = {key: as_ours(saved[key]) for key in {*saved} & {*OPTIONS} - {"model"}}
    kept["weight_decay_filter"] = config.weight_decay_filter  # renamed after 0.2.2
    assert {key: getattr(config, key) for key in kept} == kept


def test_every_choice_of_mindcv_is_ours_in_any_case():
    for options in TAGS.values():
        for key, (_, choices) in options.items():
            for choice in choices or ():
                for spelling in (choice, choice.upper(), choice.title()):
                    config = load_config(overrides={key: spelling}, rules=no_rules)
                    assert getattr(config, key) == choice


@pytest.mark.parametrize("key", RECORDED["values"])
def test_every_value_of_mindcvs_recipes_is_accepted(key):
    for value in RECORDED["values"][key]:
        if value in REFUSED_VALUES.get(key, ()):
            with pytest.raises(ConfigError, match=f"overrides: .*{key}"):
                load_config(overrides={"model": "m", key: value})
        else:
            load_config(overrides={key: value}, rules=no_rules)


@pytest.mark.parametrize("shortened", [{}, {"epoch_size": 2}], ids=str)
def test_all_179_recipes_have_a_config_without_contradictions_and_a_schedule(shortened):
    """As they are, and with the command line's --epoch_size 2."""
    assert len(RECIPES) == 179
    for recipe in RECIPES:
        asked = recipe | {"model": "regnet_x_200mf", "dry_run": True} | shortened
        config = load_config(overrides=asked, rules=both_rules)
        assert config.lr == float(recipe["lr"]) and config.epoch_size == asked["epoch_size"]
        rates = build_schedule(config, 10, world_size=8)
        assert len(rates) == 10 * config.epoch_size
        assert 0 < max(rates) <= config.lr and min(rates) >= 0


TRUE, FALSE = ("True", "true", "yes", "Yes", "on", "1"), ("False", "false", "no", "off", "OFF", "0")


def read_all_ways(key, text, tmp_path):
    """Return the configs of a yaml file, of the command line and of a program."""
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: m\n{key}: {text}\n", encoding="utf-8")
    words = ["--model", "m", f"--{key}", text]
    return (
        load_config(str(path)),
        parse_arguments("train.py", "", training_contradictions, words),
        load_config(overrides={"model": "m", key: text}),
    )


@pytest.mark.parametrize("key", [key for key, (_, values) in RENAMED_KEYS.items() if values])
def test_an_older_key_is_translated_in_every_spelling_of_its_value(key, tmp_path):
    today, values = RENAMED_KEYS[key]
    for old, spellings in (("true", TRUE), ("false", FALSE)):
        meant = getattr(load_config(overrides={"model": "m", today: values[old]}), today)
        for text in spellings:
            for config in read_all_ways(key, text, tmp_path):
                assert getattr(config, today) == meant, (key, text)


@pytest.mark.parametrize("key", REFUSED_KEYS)
def test_a_key_that_asks_for_nothing_does_so_in_every_spelling(key, tmp_path):
    idle, _ = REFUSED_KEYS[key]
    same, others = {
        "true": (TRUE, FALSE),
        "false": (FALSE, TRUE),
        "1.0": (("1", "1.0", "1.00", "1e0"), ("0.5", "true")),
        "0.1": (("0.1", "0.10", ".1", "1e-1"), ("0", "1")),
        "batch": (("batch", "Batch"), ("pair", "1")),
    }.get(idle, ((f"{idle}/",) if idle else (), ("/elsewhere",)))
    for text in same:
        assert set(read_all_ways(key, text, tmp_path)) == {Config(model="m")}
    for text in others:
        with pytest.raises(ConfigError, match=f"{key} is not supported"):
            load_config(overrides={key: text})


@pytest.mark.parametrize(
    "recipe",
    [
        dict(opt="adam", use_nesterov=True, momentum=0.0),  # adam takes no momentum
        dict(loss_scale_type="dynamic", drop_overflow_update=True, amp_level="O2"),
        dict(loss_scale_type="auto", drop_overflow_update=True, amp_level="O2"),
        dict(ckpt_save_policy=None),
        dict(cutmix=1.0, cutmix_prob=0.0),
        dict(mixup=0.2, cutmix_prob=0.0),
        dict(aug_repeats=1, shuffle=False),
        dict(crop_pct=1.15),
        dict(re_prob=0.1, re_value=127),
        dict(image_resize=[192, 256]),
        dict(epoch_size=2, warmup_epochs=5, decay_epochs=195),
        dict(epoch_size=2, val_while_train=True, val_interval=5),
        dict(epoch_size=2, scheduler="multi_step_decay", warmup_epochs=0),
        dict(epoch_size=2, scheduler="step_decay", decay_epochs=30, decay_rate=0.1),
        dict(lr_epoch_stair=True, warmup_factor=0.0),
    ],
    ids=str,
)
def test_what_mindcv_runs_is_no_contradiction(recipe):
    load_config(overrides={"model": "m", **recipe})


def test_a_recipe_for_eight_devices_evaluates_in_one_process():
    recipe = {"distribute": True, "ckpt_path": "net.ckpt"}
    assert load_config(overrides=recipe, rules=evaluation_contradictions).distribute
    with pytest.raises(ConfigError, match="distribute: True needs a launcher"):
        load_config(overrides={"model": "m", "distribute": True})


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (dict(eval_shuffle=True), "counts each image once, in any order"),
        (dict(device_target="GPU"), "'GPU' is not one of Ascend, CPU"),
        (dict(enable_modelarts=True), "ModelArts"),
        (dict(use_nesterov=True, opt="adamw"), "does not exist for opt adamw"),
        (dict(amp_cast_list="[nn.Conv2d]"), "goes with amp_level O1 or O2, not O0"),
    ],
    ids=str,
)
def test_what_is_refused_has_its_reason(option, reason):
    with pytest.raises(ConfigError, match=reason):
        load_config(overrides={"model": "m", **option})


# The options of the commands in MindCV's guides.
GUIDES = {
    "train.py": [
        "--pretrained --opt=adamw --lr=0.001 --data_dir=/path/to/data",
        "--distribute False --mode 0",
        "--dataset imagenet --shuffle True --dataset_download False --drop_remainder True",
        "--image_resize 224 --scale [0.08, 1.0] --ratio [0.75, 1.333] --hflip 0.5 --re_prob 0.5 "
        "--interpolation bilinear --crop_pct 0.875 --color_jitter [0.4, 0.4, 0.4]",
        "--num_classes 1000 --pretrained False --ckpt_path net.ckpt --dataset_sink_mode True",
        "--scheduler cosine_decay --min_lr 0.0 --lr 0.01 --warmup_epochs 0 --decay_epochs 200",
        "--opt momentum --weight_decay_filter norm_and_bias --loss_scale 1024 --use_nesterov False",
    ],
    "validate.py": [
        "--pretrained --dataset=imagenet --val_split=validation",
        "--dataset=imagenet --data_dir=/path/to/data --ckpt_path=/path/to/model.ckpt",
        "--ckpt_path net.ckpt --dataset_download False --num_parallel_workers 8 --mode 0 --seed 1",
    ],
}


@pytest.mark.parametrize(
    ("script", "words"), [(script, words) for script in GUIDES for words in GUIDES[script]]
)
def test_the_commands_of_mindcvs_guides_are_understood(script, words):
    rules = {"train.py": training_contradictions, "validate.py": evaluation_contradictions}[script]
    words = ["--model", "regnet_x_200mf", *words.split()]
    assert parse_arguments(script, "", rules, words).model == "regnet_x_200mf"

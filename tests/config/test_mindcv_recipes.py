"""Recipes and command lines written for MindCV are accepted."""

import dataclasses

import pytest
from mindcv_recipes import RECIPE_X_800MF, RECIPE_Y_16GF

from mindcv.config import load_config, parse_arguments

pytestmark = pytest.mark.usefixtures("started_alone")


@pytest.mark.parametrize(
    "words",
    [
        "--loss_scale_type dynamic --drop_overflow_update True",
        "--aug_repeats 1 --shuffle False",
        "--opt SGD --loss ce --interpolation BICUBIC --scheduler Cosine_Decay --amp_level o2",
        "--re_prob 0.5 --re_value 0.5",
        "--re_value 0.1 0.2 0.3",
        "--image_resize 192 256",
    ],
)
def test_what_mindcv_accepts_is_accepted(started_alone, words):
    config = parse_arguments("train.py", "", arguments=["--model", "m", *words.split()])
    for word in words.split("--")[1:]:
        key, *values = word.split()
        found = str(getattr(config, key)).lower().strip("()").replace(",", "").split()
        assert found == [value.lower() for value in values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            RECIPE_X_800MF,
            dict(model="regnet_x_800mf", amp_level="O3", loss_scale=128.0, weight_decay=1e-4),
        ),
        (
            RECIPE_Y_16GF,
            dict(
                model="regnet_y_16gf",
                auto_augment="randaug-m9-mstd0.5-inc1",
                re_value="random",
                mixup=0.8,
                cutmix=1.0,
                aug_repeats=3,
                loss_scale_type="auto",
                weight_decay=4e-5,
                dataset="imagenet",
                ckpt_path="",
            ),
        ),
    ],
    ids=["x_800mf", "y_16gf"],
)
def test_recipes_as_mindcv_writes_them_are_accepted(tmp_path, launched, text, expected):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text, encoding="utf-8")
    config = load_config(str(recipe))
    assert {key: getattr(config, key) for key in expected} == expected
    words = ["-c", str(recipe), "--distribute", "False"]
    alone = parse_arguments("train.py", "", lambda config: (), words)
    assert alone == dataclasses.replace(config, distribute=False)


def test_one_device_needs_only_distribute_false(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE_X_800MF, encoding="utf-8")
    assert load_config(str(recipe), {"distribute": False}).model == "regnet_x_800mf"

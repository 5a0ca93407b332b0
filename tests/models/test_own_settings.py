"""`--model regnet --regnet SETTINGS` is a model like any other, from training to a foreign file."""

import re

import numpy as np
import pytest
from commands import call
from conftest import run_command

from mindcv import create_model, list_models
from mindcv.config import load_config
from mindcv.config.settings import read_settings, settings_of, shaping
from mindcv.design_space import SETTINGS, complexity, plan_anynet, plan_model
from mindcv.errors import ConfigError, WeightsError
from mindcv.models import create_model_from_file
from mindcv.weights import Metadata, read_weights, write_weights

REGNET = "w_a=8, w_0=8, w_m=2.0, d=3, group_w=8, bot_mul=0.5, stem_w=8, zero_init_last=True"
ANYNET = "depths=[1, 2] widths=(8,16) strides=[2,1] group_ws=[4,8] stem_w=8 activation=silu"


def test_it_trains_resumes_validates_and_leads_to_the_same_weights(image_folder, tmp_path, capsys):
    model, text = "anynet", ANYNET
    recipe = {
        "model": model,
        "data_dir": image_folder,
        "image_resize": 32,
        "batch_size": 8,
        "epoch_size": 2,
        "warmup_epochs": 0,
        "num_samples": 16,
        "ckpt_save_dir": "run",
        "val_while_train": True,
    }
    words = [str(word) for key, value in recipe.items() for word in (f"--{key}", value)]
    done = run_command("train.py", *words, f"--{model}", text, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = ("--config", "run/config.yaml", "--resume", "auto", "--epoch_size", 3)
    resumed = run_command("train.py", *again, "--scheduler", "constant", cwd=tmp_path)
    assert resumed.returncode == 2 and "scheduler" in resumed.stderr  # the settings were read back
    last = tmp_path / f"run/{model}-2_2.ckpt"
    shape = shaping(read_settings(model, text))
    metadata = read_weights(last).metadata
    assert (metadata.model, metadata.options) == (model, shape)

    # Nobody repeats the settings: the file has them.
    told = run_command("validate.py", *words[2:6], "--ckpt_path", last, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    top1 = float(re.search(r"'Top_1_Accuracy': ([\d.]+)", told.stdout)[1])
    table = (tmp_path / "run/metrics.csv").read_text(encoding="utf-8").splitlines()
    assert dict(zip(table[0].split(","), table[-1].split(",")))["val_top1"] == f"{100 * top1:.4f}"
    code, out, _ = call(capsys, "info", "--ckpt_path", last, "--image_size", 32)
    plan = plan_model(model, num_classes=6, **shape)
    assert code == 0 and f"{complexity(plan, 32).macs:,}" in out

    # The same weights from a file that describes nothing need them.
    bare = tmp_path / "bare.npz"
    write_weights(bare, read_weights(last).tensors, None)
    code, _, errors = call(capsys, "convert", bare, tmp_path / "no.ckpt", "--model", model)
    assert code == 2 and "add --anynet SETTINGS" in errors
    shaped = ("--model", model, f"--{model}", text)
    code, _, errors = call(capsys, "convert", bare, tmp_path / "yes.ckpt", *shaped)
    assert code == 0, errors
    network, metadata = create_model_from_file(tmp_path / "yes.ckpt")
    assert metadata.options == shape
    first = next(iter(read_weights(last).tensors.values()))
    assert np.array_equal(network.trainable_params()[0].asnumpy(), first)
    other = ("--model", model, f"--{model}", text.replace("8,16", "8,32"))
    code, _, errors = call(capsys, "convert", last, tmp_path / "no.ckpt", *other)
    assert code == 5 and "leave these settings out" in errors


def test_a_published_setting_as_settings_is_the_published_network():
    setting = SETTINGS["regnet_y_400mf"]
    text = f"w_a={setting.w_a}, w_0=48, w_m=2.09, d=16, group_w=8, se_r=0.25"
    assert plan_model("regnet", **read_settings("regnet", text)) == setting.plan()
    named, own = create_model("regnet_y_400mf"), create_model("regnet", **vars(setting))
    shapes = [[(p.name, p.shape) for p in net.get_parameters()] for net in (named, own)]
    assert shapes[0] == shapes[1]
    assert plan_anynet([2, 2], widths=[8, 16]).strides == (2, 2)


def test_a_regnet_of_ones_own_is_rebuilt_from_its_files_metadata(tmp_path):
    config = load_config(None, {"model": "regnet", "regnet": REGNET})
    network = create_model("regnet", 5, **settings_of(config))
    values = {each.name: each.asnumpy() for each in network.get_parameters()}
    last = [name for name in values if name.endswith("c_bn.gamma")]
    assert not any(values[name].any() for name in last if ".blocks.1." in name)  # zero_init_last
    metadata = Metadata("regnet", 5, options=shaping(settings_of(config)))
    assert "zero_init_last" not in metadata.options
    write_weights(tmp_path / "a.ckpt", values, metadata)
    again, _ = create_model_from_file(tmp_path / "a.ckpt")
    assert again.plan == network.plan and again.plan.bottleneck_ratios[0] == 0.5


@pytest.mark.parametrize(
    "yaml",
    [
        "regnet: {w_a: 8, w_0: 8, w_m: 2.5, d: 3, group_w: 8}",
        "regnet:\n  w_a: 8\n  w_0: 8\n  w_m: 2.5\n  d: 3\n  group_w: 8",
        "regnet: w_a=8, w_0=8, w_m=2.5, d=3, group_w=8",
        "regnet: 'w_a=8 w_0=8 w_m=2.5 d=3 group_w=8'",
    ],
)
def test_a_recipe_writes_settings_as_a_mapping_or_as_a_text(yaml, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: regnet\n{yaml}\n", encoding="utf-8")
    wanted = {"w_a": 8.0, "w_0": 8, "w_m": 2.5, "d": 3, "group_w": 8}
    assert settings_of(load_config(str(path))) == wanted
    given = load_config(None, {"model": "regnet", "regnet": wanted})
    assert settings_of(given) == wanted


@pytest.mark.parametrize(
    ("model", "text", "said"),
    [
        ("regnet", "w_a=8, w_0=8, wm=2, d=3, group_w=8", "'wm' (did you mean w_m?); it takes w_a,"),
        ("regnet", "w_a=8, w_0=8", "w_m and d and group_w missing"),
        ("regnet", "w_a=8, w_0=8.5, w_m=2, d=3, group_w=8", "w_0: expected an integer, got '8.5'"),
        ("regnet", "w_a=8, w_0=9, w_m=2, d=3, group_w=8", "w_0 a positive multiple of 8"),
        ("regnet", "w_a=8, w_a=8", "w_a is set twice"),
        ("regnet", "w_a: 8", "expected name=value"),
        ("regnet", "num_classes=3", "an option of its own: --num_classes 3"),
        ("regnet", "drop_rate=0.5", "an option of its own: --drop_rate 0.5"),
        ("anynet", "depths=[1,2]", "widths missing"),
        ("anynet", "depths=[1,2], widths=[8]", "one value per stage; got 1, 2"),
        ("anynet", "depths=[1], widths=[8], group_ws=[3]", "group width 3 does not divide"),
        ("anynet", "depths=[1], widths=[8], global_pool=none", "got nothing"),
        ("anynet", "depths=[1], widths=[8], global_pool=sum", "is not one of avg, max"),
        ("regnet_x_200mf", None, "shapes model regnet, but model is regnet_x_200mf"),
        ("regnet", None, "add --regnet SETTINGS"),
    ],
)
def test_what_makes_no_network_is_refused_before_anything_is_built(model, text, said):
    options = {"model": model}
    if text or model == "regnet_x_200mf":
        options["regnet" if model != "anynet" else "anynet"] = text or REGNET
    with pytest.raises(ConfigError) as caught:
        load_config(None, options)
    assert said in str(caught.value)


def test_create_model_names_what_is_wrong_missing_and_possible():
    with pytest.raises(ConfigError, match="needs 'w_a'.*it takes w_a, w_0, w_m, d, group_w"):
        create_model("regnet")
    with pytest.raises(ConfigError, match="does not take depth.*it takes w_a"):
        create_model("regnet", w_a=8, w_0=8, w_m=2, d=1, group_w=8, depth=2)
    with pytest.raises(ConfigError, match="model anynet: .*got 0, 2"):
        create_model("anynet", depths=[1, 1])
    assert not {"regnet", "anynet"} & set(list_models())


def test_a_file_that_describes_far_more_blocks_than_it_holds_builds_nothing(tmp_path):
    source = tmp_path / "a.npz"
    network = create_model("anynet", 2, depths=[1], widths=[8], stem_w=8)
    tensors = {p.name: p.asnumpy() for p in network.get_parameters()}
    options = {"depths": [1000] * 16, "widths": [1] * 16}
    metadata = Metadata("anynet", 2, options=options)
    write_weights(source, tensors, metadata)
    with pytest.raises(WeightsError, match="anynet with 16000 blocks"):
        create_model_from_file(source)

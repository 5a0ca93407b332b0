"""The config: how values are read, which source wins, what a recipe may contain."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from option_values import CHANGED, CHANGED_APART, CHANGED_ON_DEVICE

from mindcv.config import (
    Config,
    dump_config,
    evaluation_contradictions,
    load_config,
    parse_arguments,
    training_remarks,
)
from mindcv.config.options import NAMES_ELSEWHERE, OPTIONS
from mindcv.errors import ConfigError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("started_alone")


def no_rules(config):
    return iter(())


@pytest.fixture
def from_yaml(tmp_path):
    """Read the given yaml text without looking for contradictions."""

    def read(text: str, rules=no_rules) -> Config:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(str(path), rules=rules)

    return read


def from_words(*words: str) -> Config:
    return parse_arguments("train.py", "Train.", no_rules, words)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("5e-5", 5e-5), ("'5e-5'", 5e-5), ("1E-4", 1e-4), (".5", 0.5), ("1", 1.0)],
)
def test_yaml_numbers_in_any_notation_are_numbers(from_yaml, text, number):
    config = from_yaml(f"weight_decay: {text}")
    assert config.weight_decay == number and isinstance(config.weight_decay, float)
    assert from_words("--weight_decay", text.strip("'")).weight_decay == number


def test_a_leading_zero_does_not_make_an_octal_number(from_yaml):
    assert from_yaml("epoch_size: 010").epoch_size == 10
    assert from_words("--epoch_size", "010").epoch_size == 10


@pytest.mark.parametrize("text", ["1:30", "1.0", "1e2", "0x10", "1_000", "true", "'1 2'"])
def test_only_whole_decimal_numbers_are_integers(from_yaml, text):
    with pytest.raises(ConfigError, match="expected an integer"):
        from_yaml(f"epoch_size: {text}")


@pytest.mark.parametrize("value", [True, False])
def test_booleans_have_four_spellings_each(from_yaml, value):
    spellings = ("yes", "true", "1", "on") if value else ("no", "false", "0", "off")
    for word in (*spellings, *map(str.upper, spellings), *map(str.title, spellings)):
        assert from_yaml(f"shuffle: {word}").shuffle is value
        assert from_yaml(f"shuffle: '{word}'").shuffle is value
        assert from_words("--shuffle", word).shuffle is value


def test_a_bare_flag_means_true():
    config = from_words("--val_while_train", "--distribute", "--model", "m", "--dry_run")
    assert config.val_while_train and config.distribute and config.dry_run
    assert config.model == "m"


@pytest.mark.parametrize(
    "words, value",
    [(("--pretrained",), True), (("--pretrained", "torchvision_v2"), "torchvision_v2")]
    + [(("--pretrained", "True"), True), (("--pretrained=false",), False)],
)
def test_published_weights_are_asked_for_with_a_source_or_without(from_yaml, words, value):
    assert from_words(*words).pretrained == value
    assert from_words("--model", "m", *words, "--lr", "1").pretrained == value
    assert from_yaml(f"pretrained: {value}").pretrained == value


def test_a_tilde_in_a_path_is_the_users_home(from_yaml, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = [name for name, entry in OPTIONS.items() if entry.metadata["is_path"]]
    texts = {name: entry.metadata["help"] for name, entry in OPTIONS.items()}
    assert [n for n in texts if n.endswith(("_cache", "_dir", "_path", "_module", "resume"))] == [
        name for name in paths if name not in ("show_batch", "log_samples", "class_weights")
    ]
    for name in paths:
        program = "train.py" if "train" in OPTIONS[name].metadata["used_by"] else "validate.py"
        given = parse_arguments(program, "", no_rules, [f"--{name}=~/x.py"])
        assert getattr(given, name) == f"{tmp_path}/x.py", name
        assert getattr(from_yaml(f"{name}: ~/x.py"), name) == f"{tmp_path}/x.py", name
    assert from_yaml("import_module: ~").import_module is None
    (tmp_path / "own.yaml").write_text("lr: 0.25\n", encoding="utf-8")
    assert from_words("--config=~/own.yaml").lr == 0.25


def test_other_libraries_names_are_told_with_ours():
    names = [name for names in NAMES_ELSEWHERE.values() for name in names.split()]
    assert set(NAMES_ELSEWHERE) <= set(OPTIONS) and not set(names) & set(OPTIONS)
    # Weights are a file's or published.
    assert sorted(names) == sorted([*set(names), "weights"])


def test_the_word_false_on_the_command_line_means_false():
    assert from_words("--drop_overflow_update", "False").drop_overflow_update is False
    assert from_words("--drop_overflow_update=False").drop_overflow_update is False
    assert from_words("--drop_overflow_update", "True").drop_overflow_update is True


@pytest.mark.parametrize(
    "words",
    [
        ("--scale", "0.1", "0.9"),
        ("--scale", "0.1,0.9"),
        ("--scale", "0.1,", "0.9"),
        ("--scale", "0.1 0.9"),
        ("--scale=[0.1,0.9]",),
        ("--scale", "[0.1,", "0.9]"),
        ("--scale", "(0.1, 0.9)"),
        ("--scale=0.1,0.9",),
    ],
)
def test_a_range_on_the_command_line_may_be_written_in_any_usual_way(words):
    assert from_words(*words).scale == (0.1, 0.9)


@pytest.mark.parametrize(
    "text", ["[0.1, 0.9]", "\n- 0.1\n- 0.9", "0.1, 0.9", "(0.1, 0.9)", "'[0.1, 0.9]'"]
)
def test_a_range_in_yaml_may_be_written_in_any_usual_way(from_yaml, text):
    assert from_yaml(f"scale: {text}").scale == (0.1, 0.9)


def test_lists_of_any_length_and_numbers_or_lists_are_typed(from_yaml):
    assert from_words("--multi_step_decay_milestones", "5", "10").multi_step_decay_milestones == (
        5,
        10,
    )
    assert from_words("--color_jitter", "0.3").color_jitter == 0.3
    assert from_words("--color_jitter", "0.3", "0.2", "0.1").color_jitter == (0.3, 0.2, 0.1)
    assert from_words("--mean", "1", "2", "3").mean == (1.0, 2.0, 3.0)
    assert from_yaml("re_value: 0").re_value == 0.0
    assert from_yaml("re_value: random").re_value == "random"
    assert from_yaml("image_resize: [192, 256]").image_resize == (192, 256)


@pytest.mark.parametrize("text", ["null", "~", "None", "", "'None'"])
def test_null_has_the_spellings_of_yaml_and_python(from_yaml, text):
    assert from_yaml(f"num_classes: {text}").num_classes is None
    assert from_yaml(f"auto_augment: {text}").auto_augment is None


def test_texts_that_yaml_takes_for_something_else_stay_texts(from_yaml):
    assert from_yaml("val_split: 010").val_split == "010"
    assert from_yaml("val_split: 2012-01-01").val_split == "2012-01-01"
    assert from_yaml("val_split: yes").val_split == "yes"
    assert from_yaml("dataset: ''").dataset == ""


def test_the_command_line_wins_over_the_file(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("lr: 0.5\nepoch_size: 7\nmodel: 'from_file'\n", encoding="utf-8")
    for option in (("--config", str(recipe)), ("-c", str(recipe)), (f"--config={recipe}",)):
        for words in ((*option, "--lr", "0.25"), ("--lr", "0.25", *option)):
            config = from_words(*words)
            assert (config.lr, config.epoch_size, config.model) == (0.25, 7, "from_file")
    assert load_config(str(recipe), {"lr": 0.25}, no_rules).lr == 0.25


def test_overrides_take_python_values():
    values = dict(lr=1e-3, scale=[0.1, 1], shuffle=False, epoch_size=3, num_classes=None)
    config = load_config(overrides=values, rules=no_rules)
    assert config.scale == (0.1, 1.0) and config.shuffle is False and config.num_classes is None


def test_the_defaults_survive_dump_and_load(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(Config()), encoding="utf-8")
    assert load_config(str(path), rules=no_rules) == Config()


def test_the_table_of_changed_values_covers_every_option():
    table = {**CHANGED, **CHANGED_APART, **CHANGED_ON_DEVICE}
    assert set(table) == set(OPTIONS)
    unchanged = [name for name, value in table.items() if value == OPTIONS[name].default]
    assert unchanged == []


@pytest.mark.parametrize(
    "changes",
    [CHANGED, CHANGED_APART, CHANGED_ON_DEVICE],
    ids=["most", "apart", "on the device"],
)
def test_changed_values_of_every_option_survive_dump_and_load(tmp_path, launched, changes):
    config = Config(**{"model": "m", "distribute": True, **changes})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    again = load_config(str(path))  # with the contradictions: the changes are valid together
    assert again == config
    for name in OPTIONS:
        assert type(getattr(again, name)) is type(getattr(config, name)), name


def test_a_dumped_config_can_be_loaded_for_evaluation(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        dump_config(Config(model="regnet_x_200mf", ckpt_path="net.ckpt")), encoding="utf-8"
    )
    assert load_config(str(path), rules=evaluation_contradictions).ckpt_path == "net.ckpt"


def test_the_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 0.5
    assert all(
        not isinstance(value, (list, dict)) for value in dataclasses.asdict(Config()).values()
    )


@pytest.mark.parametrize("command", ["train", "validate"])
def test_help_lists_each_option_of_a_command_with_its_default_under_its_section(
    capsys, monkeypatch, command
):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit) as exit_info:
        parse_arguments(f"{command}.py", "Train a classifier.", arguments=["--help"])
    assert exit_info.value.code == 0
    shown = capsys.readouterr().out
    assert "Train a classifier." in shown
    blocks = dict(block.split(":\n", 1) for block in shown.split("\n\n") if ":\n" in block)
    section = None
    for name, entry in OPTIONS.items():
        section = entry.metadata["section"] or section
        if not {command, "measuring" if command == "validate" else ""} & entry.metadata["used_by"]:
            assert f"--{name} " not in shown
            continue
        entries = blocks[section].replace("\n      ", " ").splitlines()
        lines = [line for line in entries if line.split()[0] == f"--{name}"]
        assert len(lines) == 1, name
        assert lines[0].endswith(f"(default: {entry.default})"), name
        assert entry.metadata["help"] in lines[0], name
    assert "--config" in shown and "enable_modelarts" not in shown


@pytest.mark.parametrize(
    ("key", "value", "today", "meaning"),
    [
        ("filter_bias_and_bn", True, "weight_decay_filter", "disable"),
        ("filter_bias_and_bn", False, "weight_decay_filter", "auto"),
        ("dynamic_loss_scale", True, "loss_scale_type", "dynamic"),
        ("dynamic_loss_scale", False, "loss_scale_type", "fixed"),
        ("stepwise_lr_sched", False, "lr_epoch_stair", True),
        ("use_clip_grad", True, "clip_grad", True),
        ("use_ema", True, "ema", True),
        ("epsilon", "1e-6", "eps", 1e-6),
    ],
)
def test_a_key_of_an_older_version_means_todays_and_is_noted(
    from_yaml, caplog, key, value, today, meaning
):
    configs = [from_yaml(f"{key}: {value}"), from_words(f"--{key}", str(value))]
    configs.append(load_config(overrides={key: value}, rules=no_rules))
    assert [getattr(config, today) for config in configs] == [meaning] * 3
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 3 and "recipe.yaml:1: " in notes[0]
    assert all(f"{key} is called {today} today" in note for note in notes)


def test_an_older_schedule_means_todays(from_yaml):
    for name, today in (("cosineannealing", ""), ("warmup_cosine_decay_lr", "warmup_")):
        assert from_yaml(f"scheduler: '{name}'").scheduler == f"{today}cosine_decay"
        assert from_words("--scheduler", name).scheduler == f"{today}cosine_decay"


def test_keys_that_ask_for_nothing_are_left_out_with_a_note(from_yaml, caplog):
    """As in MindCV's old recipes, and in the files that it saves beside its checkpoints."""
    text = "config: a.yaml\nenable_modelarts: False\ndata_url: /cache/data/\nmixup_mode: batch"
    assert from_yaml(f"{text}\nmixup_prob: 1.0\nsave_checkpoint: True") == Config()
    assert [record.getMessage().split(": ")[1].split()[0] for record in caplog.records] == [
        *("config", "enable_modelarts", "data_url", "mixup_mode", "mixup_prob", "save_checkpoint")
    ]


def test_on_the_command_line_the_last_value_wins(tmp_path):
    config = from_words(*"--lr 0.1 --shuffle False --lr 0.2 --shuffle --scale 0.1 1".split())
    assert (config.lr, config.shuffle) == (0.2, True)
    both = ("--filter_bias_and_bn", "False", "--weight_decay_filter", "norm_and_bias")
    assert from_words(*both).weight_decay_filter == "norm_and_bias"
    assert from_words(*both[2:], *both[:2]).weight_decay_filter == "auto"
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(f"model: {name}\n", encoding="utf-8")
    words = ("-c", f"{tmp_path}/first.yaml", f"--config={tmp_path}/second.yaml")
    assert from_words(*words).model == "second"


def test_what_mindcv_accepts_without_effect_is_remarked():
    shortened = Config(cutmix=1.0, epoch_size=2)
    remarks = dict(
        training_remarks(dataclasses.replace(shortened, cutmix_prob=0.0, mixup_off_epoch=3))
    )
    assert "0 mixes no batch, although cutmix is 1.0" in remarks.pop("cutmix_prob")
    assert "3 is never reached in epoch_size 2" in remarks.pop("mixup_off_epoch")
    assert not remarks and not list(training_remarks(Config()))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_files_from_any_editor_are_read(tmp_path, newline, encoding):
    recipe = tmp_path / "recipe.yaml"
    text = "model: 'm'  # größer\nlr: 1e-3\n".replace("\n", newline)
    recipe.write_bytes(text.encode(encoding))
    assert load_config(str(recipe)).lr == 1e-3


def test_an_alias_means_the_value_it_names(from_yaml):
    config = from_yaml("hflip: &half 0.5\nvflip: *half\n")
    assert config.vflip == 0.5


def test_loading_a_config_does_not_import_mindspore(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: 'm'\n", encoding="utf-8")
    program = (
        "import sys, mindcv\n"
        "from mindcv.config import load_config\n"
        "load_config(sys.argv[1])\n"
        "print([name for name in ('mindspore', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(recipe)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr

"""A wrong recipe ends in a ConfigError and exit code 2; the message says what, where and why."""

import time

import pytest
from broken_recipes import YAML_CASES
from warm_commands import WarmCommands

from mindcv.config import evaluation_contradictions, load_config
from mindcv.errors import ConfigError, MindCVError

# What the commands import first; none of it imports MindSpore.
PARTS = ("mindcv.command", "mindcv.weights", "mindcv.checkpoint", "mindcv.hub")

pytestmark = pytest.mark.usefixtures("started_alone")


def check_message(error: ConfigError, fragments: str, path) -> None:
    assert error.exit_code == 2
    assert isinstance(error, MindCVError)
    message = str(error)
    for fragment in fragments.split(" | "):
        if fragment.startswith("@"):
            fragment = f"{path}:{fragment[1:]}"
        assert fragment in message


@pytest.mark.parametrize("name", YAML_CASES)
def test_a_broken_recipe_is_answered_with_key_value_and_place(tmp_path, name):
    content, fragments = YAML_CASES[name]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    check_message(caught.value, fragments, path)


def test_train_answers_broken_recipes_with_exit_code_2(tmp_path, blocked_mindspore):
    """A third of them as processes, which print only the message, soon and without MindSpore."""
    chosen, slowest = list(YAML_CASES.items())[::3], 0.0
    assert len(chosen) >= 60
    with WarmCommands(tmp_path, *PARTS, **blocked_mindspore) as commands:
        for name, (content, fragments) in chosen:
            recipe = tmp_path / "recipe.yaml"
            recipe.write_bytes(content)
            began = time.perf_counter()
            done = commands.run(["train.py", "--config", recipe], tmp_path)
            slowest = max(slowest, time.perf_counter() - began)
            assert (done.code, done.out) == (2, ""), (name, done)
            assert done.err.startswith("error: ") and "Traceback" not in done.err, name
            for fragment in fragments.split(" | "):
                assert fragment.replace("@", f"{recipe}:", fragment[0] == "@") in done.err, name
    print(f"{len(chosen)} recipes, the slowest took {slowest:.2f} s")


def test_there_are_enough_broken_examples():
    assert len(YAML_CASES) >= 180
    assert len({content for content, _ in YAML_CASES.values()}) == len(YAML_CASES)


@pytest.mark.parametrize("name", ["/dev/zero", "{}/loop.yaml", "{}/a\0b.yaml", "{}/" + "n" * 300])
def test_what_is_no_file_is_named_and_does_not_hang(tmp_path, name):
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    with pytest.raises(ConfigError, match="config file '.*' (cannot be read|is larger)"):
        load_config(name.format(tmp_path))


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "no such.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    check_message(caught.value, f"{path} | cannot be read | No such file", path)


def test_a_directory_is_no_config_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path))
    check_message(caught.value, f"{tmp_path} | cannot be read | directory", tmp_path)


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        ({"epoch": 3}, "overrides | unknown key 'epoch' | epoch_size"),
        ({"lr": "fast"}, "overrides | lr | 'fast'"),
        ({"lr": float("nan")}, "overrides | lr | 'nan'"),
        ({"scale": (0.1, None)}, "overrides | scale | None"),
        ({"epoch_size": 2.0}, "overrides | epoch_size | '2.0'"),
        ({"data_url": "x"}, "overrides | data_url | ModelArts"),
        ({"weight_decay_filter": "auto", "filter_bias_and_bn": True}, "overrides | set twice"),
        ({"lr": 0.1, "min_lr": 1.0}, "overrides: min_lr | 1.0 | 0.1"),
    ],
)
def test_broken_overrides_are_answered_alike(overrides, fragments):
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={"model": "m", **overrides})
    check_message(caught.value, fragments, None)


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        ({"model": "m"}, "ckpt_path | no weights given"),
        ({"model": "m", "ckpt_path": "x", "mean": [1.0]}, "mean | in_channels 3"),
        ({"model": "m", "ckpt_path": "x", "std": [0.2, 0.2, 0.2]}, "std | 255"),
        ({"model": "m", "ckpt_path": "x", "distribute": True}, "distribute | msrun"),
    ],
)
def test_contradictions_of_an_evaluation_are_found(overrides, fragments):
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=overrides, rules=evaluation_contradictions)
    check_message(caught.value, fragments, None)


def test_processes_started_together_must_work_together(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setenv("MS_WORKER_NUM", "2")
    with pytest.raises(ConfigError, match=r"distribute: False.*2 processes.*--distribute True"):
        load_config(overrides={"model": "m"})
    assert load_config(overrides={"model": "m", "distribute": True}).distribute
    monkeypatch.setenv("MS_WORKER_NUM", "1")
    assert not load_config(overrides={"model": "m"}).distribute

"""A wrong recipe ends in a ConfigError and exit code 2; the message says what, where and why."""

import pytest
from broken_recipes import YAML_CASES

from mindcv.config import evaluation_contradictions, load_config
from mindcv.errors import ConfigError, MindCVError

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

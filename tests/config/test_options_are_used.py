"""No option is silently ignored: each command uses it, or refuses it on its command line.

train.py and validate.py run against a library that only records how it is called; whether an
argument then matters is tested with its factory. `lr` runs as it is.
"""

import importlib.util
import re
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from commands import call
from conftest import ROOT
from option_values import CHANGED, CHANGED_APART, CHANGED_ON_DEVICE

from mindcv.config import Config, parse_arguments
from mindcv.config.options import OPTIONS
from mindcv.data import datasets
from mindcv.engine import build as recipe
from mindcv.engine import build_step, classes
from mindcv.errors import ConfigError

BASE = dict(
    model="regnet_x_200mf",
    val_while_train=True,
    epoch_size=30,
    num_classes=20,
    batch_size=8,
    ckpt_path="start.ckpt",
    ckpt_save_dir="run",
)
# What an option needs beside it before it can matter.
NEEDS = {
    "anynet": {"model": "anynet"},
    "aug_splits": {"auto_augment": "augmix"},
    "bce_target_thresh": {"loss": "BCE"},
    "clip_mode": {"clip_grad": True},
    "clip_value": {"clip_grad": True},
    "cycle_decay": {"num_cycles": 2},
    "decay_rate": {"scheduler": "exponential_decay"},
    "decay_shape": {"scheduler": "wsd", "decay_epochs": 10},
    "drop_overflow_update": {"loss_scale": 64.0},
    "early_stop_min_delta": {"early_stop_patience": 2},
    "ema_decay": {"ema": True},
    "label_smoothing": {"mixup": 0.0},
    "loss_scale_type": {"amp_level": "O2"},
    "max_skipped_steps": {"drop_overflow_update": True},
    "multi_step_decay_milestones": {"scheduler": "multi_step_decay"},
    "pretrained": {"ckpt_path": ""},
    "regnet": {"model": "regnet"},
    "sync_bn": {"distribute": True},
    "unfreeze_epoch": {"freeze_stages": 1},
    "val_weights": {"ema": True},
    "warmup_factor": {"warmup_epochs": 3},
}
# Where the usual other value will not do: a path outside the test's folder, two names of one thing.
OTHER = {"ckpt_save_dir": "another run", "scheduler": "constant"}
OTHER_VALUES = {**CHANGED, **CHANGED_APART, **CHANGED_ON_DEVICE, **OTHER}
# The same for `lr`, on 300 images for each of two processes.
LR_BASE = dict(epoch_size=30, batch_size=8)
LR_NEEDS = {
    "multi_step_decay_milestones": {"scheduler": "multi_step_decay", "epoch_size": 90},
    "import_module": {"dataset": "own", "import_module": "own.py"},
    "lr_epoch_stair": {"warmup_factor": 0.01},
}
LR_OTHER = {
    "data_dir": "elsewhere",
    "drop_remainder": False,
    "import_module": "fewer.py",
    "num_samples": 100,
    "warmup_steps": 5,
}
# Read before a command's own code starts; a test of each is named in the value.
OUTSIDE = {"debug": "test_debug_shows_the_traceback_wherever_it_is_set"}


def command(name: str) -> ModuleType:
    return importlib.import_module(f"mindcv.{name}")


def recorded(name: str, config: Config, tmp_path, monkeypatch) -> list[str]:
    """Return every call that the command makes, as text."""
    module, library = command(name), MagicMock(name="mindcv")
    runtime = library.engine.start_runtime.return_value
    runtime.world_size, runtime.rank, runtime.is_main = 2, 0, True
    train_set = library.create_dataset.return_value
    train_set.num_classes.return_value = 6
    train_set.samples.others.return_value.num_classes = 6
    train_set.get_dataset_size.return_value = 800
    train_set.samples.__len__.return_value = 1600
    train_set.class_names.return_value = None
    library.data.EpochBatches.return_value.steps = 100
    library.engine.find_checkpoint.return_value = None
    library.engine.uses_sink.return_value = False
    library.data.first_batch.return_value = ("images", "labels")
    library.data.open_samples.return_value.num_classes = 6
    described = MagicMock(name="metadata", num_classes=6, class_names=None)
    library.models.create_model_from_file.return_value = (MagicMock(name="network"), described)
    library.data.create_dataset = library.create_dataset
    # The real ones: it is they that read the options.
    library.engine.build, library.engine.classes = recipe, classes
    monkeypatch.setattr(classes, "data", library.data)
    for part in ("data", "engine", "models"):
        monkeypatch.setattr(recipe, part, getattr(library, part))
    for part in ("data", "engine", "models", "create_loss", "create_optimizer"):
        monkeypatch.setattr(build_step, part, getattr(library, part))
    monkeypatch.setattr(recipe, "CheckpointWriter", library.CheckpointWriter)
    monkeypatch.setattr(module, "mindcv", library)
    monkeypatch.setattr(module, "import_user_module", library.import_user_module)
    if name == "train":  # all options at once, for the run folder and the other ranks
        monkeypatch.setattr(module, "describe_config", lambda config: {})
        monkeypatch.setattr(module, "dump_config", lambda config: "")
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    library.weights.read_weights.return_value.metadata = None
    library.weights.count_classes.return_value = 0
    library.weights.describe_choice.return_value = ("raw", "the raw weights")
    monkeypatch.chdir(tmp_path)
    if name == "validate":
        module.told_by_the_weights(config)
    module.main(config)
    if library.data.EpochBatches.call_args:
        library.data.EpochBatches.call_args.args[1]("rows")  # the loader of an epoch
    run = library.engine.Run.call_args
    if run is not None and run.kwargs["evaluate"] is not None:
        run.kwargs["evaluate"]()
    lines = [re.sub(r" id='\d+'", "", str(call)) for call in library.mock_calls]
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    return [re.sub(r" at 0x[0-9a-f]+", "", line) for line in lines] + written


def pairs(commands: tuple[str, ...], is_used: bool) -> list[tuple[str, str]]:
    """Return (option, command) for every option that a command uses, or does not."""
    return [
        (option, command)
        for option, entry in sorted(OPTIONS.items())
        for command in commands
        if (command in entry.metadata["used_by"]) is is_used and option not in OUTSIDE
    ]


CALLS = {}  # what was recorded, by command and config


@pytest.mark.parametrize("command", ["train", "validate"])
def test_the_same_config_makes_the_same_calls(command, tmp_path, monkeypatch):
    """Else a difference says nothing."""
    found = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        with monkeypatch.context() as patch:
            found.append(recorded(command, Config(**BASE), tmp_path / folder, patch))
    assert found[0] == found[1]


def are_changed(option: str, command: str, values: dict, tmp_path, monkeypatch) -> bool:
    """Return whether an option changes the calls of a command."""

    def calls(config: Config) -> list[str]:
        if (command, config) in CALLS:
            return CALLS[command, config]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with monkeypatch.context() as patch:
            name = "validate" if command == "measuring" else command
            return CALLS.setdefault((command, config), recorded(name, config, folder, patch))

    changed = OTHER_VALUES[option]
    if changed == values.get(option):
        changed = OPTIONS[option].default
    return calls(Config(**values)) != calls(Config(**{**values, option: changed}))


@pytest.mark.parametrize("option, command", pairs(("train", "validate", "measuring"), True))
def test_an_option_changes_what_its_commands_do(option, command, tmp_path, monkeypatch):
    values = {**BASE, **NEEDS.get(option, {})}
    if command == "measuring":
        values["precise_bn_samples"] = 16
    assert are_changed(option, command, values, tmp_path, monkeypatch)


def test_an_option_that_a_command_refuses_would_have_changed_nothing(tmp_path, monkeypatch):
    for option, command in pairs(("train", "validate"), False):
        values = {**BASE, **NEEDS.get(option, {})}
        assert not are_changed(option, command, values, tmp_path, monkeypatch), (option, command)


def words_of(options: dict) -> list[str]:
    texts = {key: value if isinstance(value, tuple) else (value,) for key, value in options.items()}
    return [str(word) for key, value in texts.items() for word in (f"--{key}", *value)]


def test_an_option_changes_the_rates_that_lr_prints(tmp_path, monkeypatch, capsys):
    (tmp_path / "train/a").mkdir(parents=True)
    for number in range(600):  # `lr` counts images, and reads none
        (tmp_path / f"train/a/{number}.jpg").touch()
    for module, count in (("own.py", 600), ("fewer.py", 100)):
        images = f"[(np.zeros((9, 9), np.uint8), 0)] * {count}"
        (tmp_path / module).write_text(
            "import mindcv, numpy as np\n"
            f"mindcv.register_dataset('own', lambda root, split: {images})\n",
            encoding="utf-8",
        )
    monkeypatch.chdir(tmp_path)
    for option, _ in pairs(("lr",), True):
        base = {**LR_BASE, **NEEDS.get(option, {}), **LR_NEEDS.get(option, {})}
        found = []
        for options in (base, {**base, option: {**OTHER_VALUES, **LR_OTHER}[option]}):
            monkeypatch.setattr(datasets, "_registered", {})
            found.append(call(capsys, "lr", "--devices", 2, *words_of(options)))
        assert found[0][0] == 0, (option, found[0])
        assert found[0] != found[1], option


PROGRAMS = {"train": "train.py", "validate": "validate.py", "lr": "python -m mindcv lr"}


def test_what_a_command_would_not_obey_is_refused_on_its_command_line_only(tmp_path):
    for option, command in pairs(tuple(PROGRAMS), False):
        words = words_of({option: OTHER_VALUES[option]})
        with pytest.raises(ConfigError) as caught:
            parse_arguments(PROGRAMS[command], "", lambda *_: (), words)
        assert re.match(f"command line: {option}: (is an option|concerns)", str(caught.value))
        if command == "validate" and "measuring" in OPTIONS[option].metadata["used_by"]:
            parse_arguments("validate.py", "", lambda *_: (), [*words, "--precise_bn_samples", "9"])
    recipe = tmp_path / "shared.yaml"
    recipe.write_text("resume: auto\nloss: BCE\nhflip: 0\nval_amp_level: O2\n", encoding="utf-8")
    for program in PROGRAMS.values():
        config = parse_arguments(program, "", lambda *_: (), ["--config", str(recipe)])
        assert (config.resume, config.hflip, config.val_amp_level) == ("auto", 0.0, "O2")


def test_what_is_read_elsewhere_has_its_test():
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*/test_*.py"))
    for option, name in OUTSIDE.items():
        assert option in OPTIONS and f"def {name}(" in tests

"""No option is parsed and ignored: each changes what train.py or validate.py hands to the library.

The commands run against a library that only writes down how it is called. That a factory's argument
then matters is shown where that factory is tested.
"""

import importlib.util
import re
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from conftest import ROOT
from option_values import CHANGED, CHANGED_APART, CHANGED_ON_DEVICE

from mindcv import recipe
from mindcv.config import Config
from mindcv.config.options import OPTIONS

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
    "aug_splits": {"auto_augment": "augmix"},
    "bce_target_thresh": {"loss": "BCE"},
    "clip_mode": {"clip_grad": True},
    "clip_value": {"clip_grad": True},
    "cycle_decay": {"num_cycles": 2},
    "decay_rate": {"scheduler": "exponential_decay"},
    "decay_shape": {"scheduler": "wsd", "decay_epochs": 10},
    "drop_overflow_update": {"loss_scale": 64.0},
    "ema_decay": {"ema": True},
    "label_smoothing": {"mixup": 0.0},
    "loss_scale_type": {"amp_level": "O2"},
    "max_skipped_steps": {"drop_overflow_update": True},
    "multi_step_decay_milestones": {"scheduler": "multi_step_decay"},
    "pretrained": {"ckpt_path": ""},
    "val_weights": {"ema": True},
    "sync_bn": {"distribute": True},
    "warmup_factor": {"warmup_epochs": 3},
}
# Where the usual other value will not do: a path outside the test's folder, two names of one thing.
OTHER = {"ckpt_save_dir": "another run", "scheduler": "constant"}
# Read before a command's own code starts; a test of each is named in the value.
OUTSIDE = {"debug": "test_debug_shows_the_traceback_wherever_it_is_set"}


def command(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_recorded", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(name: str, config: Config, tmp_path, monkeypatch) -> list[str]:
    """Return every call that the command makes, as text."""
    module, library = command(name), MagicMock(name="mindcv")
    runtime = library.engine.start_runtime.return_value
    runtime.world_size, runtime.rank, runtime.is_main = 2, 0, True
    train_set = library.create_dataset.return_value
    train_set.num_classes.return_value = 6
    train_set.get_dataset_size.return_value = 800
    train_set.class_names.return_value = None
    library.data.EpochBatches.return_value.steps = 101
    library.engine.find_checkpoint.return_value = None
    library.data.first_batch.return_value = ("images", "labels")
    library.data.channel_statistics.return_value = ((1.0,) * 3, (2.0,) * 3)
    library.data.create_evaluation_loader.return_value = (MagicMock(name="loader"), 6)
    described = MagicMock(name="metadata", num_classes=6, class_names=None)
    library.models.create_model_from_file.return_value = (MagicMock(name="network"), described)
    library.data.create_dataset = library.create_dataset
    library.recipe = recipe  # the real one: it is what reads the options
    for part in ("data", "engine", "models"):
        monkeypatch.setattr(recipe, part, getattr(library, part))
    monkeypatch.setattr(recipe, "create_loss", library.create_loss)
    monkeypatch.setattr(recipe, "create_optimizer", library.create_optimizer)
    monkeypatch.setattr(module, "mindcv", library)
    monkeypatch.setattr(module, "import_user_module", library.import_user_module)
    if name == "train":  # all options at once, for the checkpoints and the other ranks
        monkeypatch.setattr(module, "describe_config", lambda config: {})
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    for reader in ("read_weights", "told_classes"):
        if hasattr(module, reader):
            monkeypatch.setattr(module, reader, getattr(library, reader))
            getattr(library, reader).return_value = MagicMock(name=reader, metadata=None)
    if name == "validate":
        library.told_classes.return_value = 0
    monkeypatch.chdir(tmp_path)
    module.main(config)
    if name == "train":
        library.data.EpochBatches.call_args.args[1]("rows")  # the loader of an epoch
    evaluate = library.engine.EpochEnd.call_args
    if evaluate is not None and callable(evaluate.args[3]):
        evaluate.args[3]()
    lines = [re.sub(r" id='\d+'", "", str(call)) for call in library.mock_calls]
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    return [re.sub(r" at 0x[0-9a-f]+", "", line) for line in lines] + written


def calls(config: Config, tmp_path, monkeypatch) -> list[list[str]]:
    found = []
    for name in ("train", "validate"):
        folder = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        with monkeypatch.context() as patch:
            found.append(recorded(name, config, folder, patch))
    return found


@pytest.mark.parametrize("option", sorted(name for name in OPTIONS if name not in OUTSIDE))
def test_an_option_changes_what_a_command_does(option, tmp_path, monkeypatch):
    if OPTIONS[option].metadata["fixed"]:
        pytest.skip("only its default is accepted")
    values = {**BASE, **NEEDS.get(option, {})}
    changed = {**CHANGED, **CHANGED_APART, **CHANGED_ON_DEVICE, **OTHER}[option]
    if changed == values.get(option):
        changed = OPTIONS[option].default
    before = calls(Config(**values), tmp_path, monkeypatch)
    assert before == calls(
        Config(**values), tmp_path, monkeypatch
    )  # else a difference says nothing
    after = calls(Config(**{**values, option: changed}), tmp_path, monkeypatch)
    assert before != after


def test_what_is_read_elsewhere_has_its_test():
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py"))
    for option, name in OUTSIDE.items():
        assert option in OPTIONS and f"def {name}(" in tests

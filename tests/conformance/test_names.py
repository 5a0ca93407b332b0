"""Names are taken in any case, as MindCV takes them, and mean the same."""

import numpy as np
import pytest
from mindspore import nn

from mindcv import create_loss, create_optimizer, create_transforms
from mindcv.config import load_config
from mindcv.data import open_samples
from mindcv.data.datasets import DATASETS, dataset_row, register_dataset
from mindcv.errors import ConfigError
from mindcv.loss import LOSSES
from mindcv.optim import OPTIMIZERS


def cases(name: str) -> set[str]:
    return {name.lower(), name.upper(), name.title(), name.swapcase()}


def config_of(option: str, value: str):
    needed = {"loss": "BCE"} if value.lower() == "multi_label" else {}
    return load_config(overrides={"model": "regnet_x_200mf", option: value, **needed})


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_its_operations_in_any_case(name):
    for spelling in cases(name):
        assert dataset_row(spelling) is DATASETS[name]
        assert config_of("dataset", spelling).dataset == name
    found = [create_transforms(spelling, 32) for spelling in sorted(cases(name))]
    parts = [(one.decode is None, [type(entry) for entry in one]) for one in found]
    means = [next(entry.mean for entry in one if hasattr(entry, "mean")) for one in found]
    assert parts == parts[:1] * len(found)
    assert means == [list(DATASETS[name].mean)] * len(found)


def test_cifar10_in_capitals_gets_no_operations_of_imagenet():
    upper, lower = create_transforms("CIFAR10", 32), create_transforms("cifar10", 32)
    assert [type(entry) for entry in upper.clean] == [type(entry) for entry in lower.clean]
    imagenet = create_transforms("imagenet", 32)
    assert upper.decode is lower.decode is None and imagenet.decode is not None


def test_a_registered_name_is_found_in_any_case_and_no_row_is_shadowed(monkeypatch):
    monkeypatch.setattr("mindcv.data.datasets._registered", {})
    register_dataset("Own", lambda root, split: [(np.zeros((4, 4, 3), np.uint8), 0)] * 2)
    assert len(open_samples("oWN", ".", "train")) == 2
    with pytest.raises(ConfigError, match="'CIFAR10' is taken"):
        register_dataset("CIFAR10", lambda root, split: [])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_the_same_in_any_case(name):
    net = nn.Dense(2, 2)
    kinds = {type(create_optimizer(net, opt=spelling)) for spelling in cases(name)}
    assert len(kinds) == 1
    assert {config_of("opt", spelling).opt for spelling in cases(name)} == {name}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_same_in_any_case(name):
    splits = {"num_splits": 3} if LOSSES[name].splits else {}
    kinds = {type(create_loss(spelling, **splits)) for spelling in cases(name)}
    assert len(kinds) == 1


@pytest.mark.parametrize(
    ("option", "given", "meant"),
    [
        ("interpolation", "BICUBIC", "bicubic"),
        ("opt", "adamW", "adamw"),
        ("loss", "ce", "CE"),
        ("dataset", "ImageNet", "imagenet"),
        ("dataset", "Mine", "Mine"),
        ("device_target", "cpu", "CPU"),
        ("amp_level", "o2", "O2"),
    ],
)
def test_an_option_takes_its_choices_in_any_case(option, given, meant):
    assert getattr(config_of(option, given), option) == meant

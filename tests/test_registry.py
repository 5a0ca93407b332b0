"""Models by name: what is listed, what is refused and with which words."""

import pytest
from mindspore import nn

import mindcv
from mindcv.errors import ConfigError, WeightsError
from mindcv.models import (
    RegNet,
    create_model,
    is_model,
    is_model_in_modules,
    is_model_pretrained,
    list_models,
    list_modules,
    model_entrypoint,
    register_model,
    registry,
)

SIZES = "200mf 400mf 600mf 800mf 1_6gf 3_2gf 4_0gf 6_4gf 8_0gf 12gf 16gf 32gf".split()
MODELS = [f"regnet_{family}_{size}" for family in "xy" for size in SIZES]


@pytest.fixture
def own_models(monkeypatch):
    """Let a test register models that are gone after it."""
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))


def test_models_are_listed_in_the_order_of_their_size():
    assert list_models() == MODELS


def test_patterns_choose_and_exclude():
    assert list_models("regnet_x_*") == MODELS[:12]
    assert list_models("*00mf") == [name for name in MODELS if name.endswith("00mf")]
    assert list_models("regnet_y_1[26]*") == ["regnet_y_12gf", "regnet_y_16gf"]
    assert list_models("resnet*") == []
    assert list_models(exclude_filters="regnet_x_*") == MODELS[12:]
    assert list_models("*_y_*", exclude_filters=["*mf", "*_?gf"]) == MODELS[-3:]
    assert list_models(exclude_filters="") == list_models(exclude_filters=[]) == MODELS


def test_the_module_chooses_too():
    assert list_modules() == ["regnet"]
    assert list_models(module="regnet") == MODELS
    assert list_models(module="resnet") == []
    assert list_models("regnet_y*", module="regnet") == MODELS[12:]


def test_no_model_claims_published_weights():
    assert list_models(pretrained=True) == []
    assert not is_model_pretrained("regnet_x_200mf")


def test_a_name_is_known_or_not():
    assert is_model("regnet_x_800mf")
    assert not is_model("regnet_x_900mf") and not is_model("")
    assert is_model_in_modules("regnet_x_800mf", ["resnet", "regnet"])
    assert not is_model_in_modules("regnet_x_800mf", ["resnet"])
    assert not is_model_in_modules("regnet_x_900mf", ["regnet"])


def test_the_package_itself_offers_the_registry():
    assert mindcv.list_models() == MODELS
    assert mindcv.create_model is create_model


@pytest.mark.parametrize("ask", [create_model, model_entrypoint, is_model_pretrained])
def test_an_unknown_model_is_refused_with_the_closest_names(ask):
    with pytest.raises(ConfigError, match="regnet_x_80mf.*regnet_x_800mf") as caught:
        ask("regnet_x_80mf")
    assert caught.value.exit_code == 2


def test_a_name_like_no_other_is_refused_without_a_suggestion():
    with pytest.raises(ConfigError, match="zzz") as caught:
        create_model("zzz")
    assert "did you mean" not in str(caught.value).lower()


def test_the_entry_point_builds_the_model():
    network = model_entrypoint("regnet_x_200mf")(num_classes=3)
    assert isinstance(network, RegNet) and network.num_classes == 3


def test_options_reach_the_builder():
    network = create_model("regnet_x_200mf", num_classes=3, in_channels=1, drop_rate=0.25, se_r=0.5)
    assert network.plan.in_channels == 1 and network.plan.se_ratio == 0.5
    assert network.head.dropout.p == 0.25
    assert network.head.fc.weight.shape == (3, 368)


def test_an_option_of_none_means_the_default():
    network = create_model("regnet_x_200mf", drop_rate=None, drop_path_rate=None, nonsense=None)
    assert network.head.dropout is None


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ConfigError, match="regnet_x_200mf.*drop_pth_rate") as caught:
        create_model("regnet_x_200mf", drop_rate=0.1, drop_pth_rate=0.1)
    assert caught.value.exit_code == 2


def test_published_weights_are_refused_not_ignored():
    with pytest.raises(WeightsError, match="checkpoint_path") as caught:
        create_model("regnet_x_200mf", pretrained=True)
    assert caught.value.exit_code == 5


def test_an_unknown_model_is_told_before_its_weights():
    with pytest.raises(ConfigError):
        create_model("regnet_x_80mf", pretrained=True)


def test_a_name_is_registered_once(own_models):
    def regnet_x_200mf():
        raise AssertionError("never called")

    with pytest.raises(ValueError, match="regnet_x_200mf.*mindcv.models.regnet"):
        register_model(regnet_x_200mf)
    assert isinstance(create_model("regnet_x_200mf"), RegNet)


def test_a_model_of_ones_own_is_created_by_name(own_models):
    @register_model
    def tiny_mlp_12(num_classes: int = 1000, in_channels: int = 3, hidden: int = 4):
        return nn.SequentialCell(
            nn.Flatten(), nn.Dense(in_channels * 4, hidden), nn.Dense(hidden, num_classes)
        )

    @register_model
    def tiny_mlp_2(num_classes: int = 1000, in_channels: int = 3):
        return nn.SequentialCell(nn.Flatten(), nn.Dense(in_channels * 4, num_classes))

    assert callable(tiny_mlp_12) and tiny_mlp_12.__name__ == "tiny_mlp_12"
    assert list_models() == [*MODELS, "tiny_mlp_2", "tiny_mlp_12"]
    assert list_models(module="test_registry") == ["tiny_mlp_2", "tiny_mlp_12"]
    assert list_modules() == ["regnet", "test_registry"]
    network = create_model("tiny_mlp_12", num_classes=5, in_channels=1, hidden=7)
    assert [cell.weight.shape for cell in (network[1], network[2])] == [(7, 4), (5, 7)]
    with pytest.raises(ConfigError, match="drop_rate"):
        create_model("tiny_mlp_12", drop_rate=0.1)


def test_an_error_inside_a_builder_is_not_taken_for_a_wrong_option(own_models):
    @register_model
    def broken(num_classes: int, in_channels: int):
        return num_classes + "classes"

    with pytest.raises(TypeError, match="unsupported operand"):
        create_model("broken")


def test_test_models_do_not_outlive_their_test():
    assert list_models() == MODELS

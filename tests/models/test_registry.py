"""Models by name: which are listed, which are refused, and with what message."""

import pytest
from mindspore import nn

import mindcv
from mindcv.design_space import SETTINGS
from mindcv.errors import ConfigError
from mindcv.models import (
    RegNet,
    canonical_name,
    create_model,
    get_pretrained_cfg,
    is_model,
    is_model_in_modules,
    is_model_pretrained,
    list_models,
    list_modules,
    model_entrypoint,
    register_model,
    registry,
)

X = "200mf 400mf 400mf_tv 600mf 800mf 1_6gf 3_2gf 4_0gf 6_4gf 8_0gf 12gf 16gf 32gf".split()
Y = (
    "200mf 400mf 600mf 800mf 800mf_tv 1_6gf 3_2gf 4_0gf 6_4gf 8_0gf 8_0gf_tv 12gf 16gf 32gf 128gf"
).split()
Z = ["500mf", "4_0gf"]
MODELS = [f"regnet_{family}_{size}" for family, all in zip("xyz", (X, Y, Z)) for size in all]
X_MODELS, Y_MODELS = MODELS[:13], MODELS[13:28]


@pytest.fixture
def own_models(monkeypatch):
    """Let a test register models, which are removed after it."""
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))


def test_models_are_listed_in_the_order_of_their_size():
    assert list_models() == MODELS


def test_patterns_choose_and_exclude():
    assert list_models("regnet_x_*") == X_MODELS
    assert list_models("*00mf") == [name for name in MODELS if name.endswith("00mf")]
    assert list_models("regnet_y_1[26]*") == ["regnet_y_12gf", "regnet_y_16gf", "regnet_y_128gf"]
    assert list_models("resnet*") == []
    assert list_models(exclude_filters="regnet_x_*") == MODELS[13:]
    assert list_models("*_y_*", exclude_filters=["*mf*", "*_?gf*"]) == Y_MODELS[-4:]
    for nothing in ("", [], None):
        assert list_models(nothing, exclude_filters=nothing) == MODELS


def test_the_module_chooses_too():
    assert list_modules() == ["regnet"]
    assert list_models(module="regnet") == MODELS
    assert list_models(module="resnet") == []
    assert list_models("regnet_y*", module="regnet") == Y_MODELS


def test_a_name_is_known_or_not():
    assert is_model("regnet_x_800mf")
    assert not is_model("regnet_x_900mf") and not is_model("")
    assert is_model_in_modules("regnet_x_800mf", ["resnet", "regnet"])
    assert is_model_in_modules("regnet_x_800mf", "regnet")
    assert not is_model_in_modules("regnet_x_800mf", ["resnet"])
    assert not is_model_in_modules("regnet_x_900mf", ["regnet"])


# As timm 1.0 (timm/models/regnet.py), torchvision 0.28 (torchvision/models/regnet.py), pycls
# (MODEL_ZOO.md) and ClassyVision (classy_vision/models/regnet.py) call them.
FOREIGN = {
    "regnetx_002": "regnet_x_200mf",
    "regnetx_004": "regnet_x_400mf",
    "regnetx_004_tv": "regnet_x_400mf_tv",
    "regnetx_006": "regnet_x_600mf",
    "regnetx_008": "regnet_x_800mf",
    "regnetx_016": "regnet_x_1_6gf",
    "regnetx_032": "regnet_x_3_2gf",
    "regnetx_040": "regnet_x_4_0gf",
    "regnetx_064": "regnet_x_6_4gf",
    "regnetx_080": "regnet_x_8_0gf",
    "regnetx_120": "regnet_x_12gf",
    "regnetx_160": "regnet_x_16gf",
    "regnetx_320": "regnet_x_32gf",
    "regnety_002": "regnet_y_200mf",
    "regnety_008": "regnet_y_800mf",
    "regnety_008_tv": "regnet_y_800mf_tv",
    "regnety_080": "regnet_y_8_0gf",
    "regnety_080_tv": "regnet_y_8_0gf_tv",
    "regnety_320": "regnet_y_32gf",
    "regnety_1280": "regnet_y_128gf",
    "regnetz_005": "regnet_z_500mf",
    "regnetz_040_h": "regnet_z_4_0gf",
    "regnety_032.ra_in1k": "regnet_y_3_2gf",
    "regnetx_004_tv.tv2_in1k": "regnet_x_400mf_tv",
    "regnet_x_8gf": "regnet_x_8_0gf",
    "regnet_y_8gf": "regnet_y_8_0gf_tv",
    "RegNetX-200MF": "regnet_x_200mf",
    "RegNetX-1.6GF": "regnet_x_1_6gf",
    "regnety-8.0gf": "regnet_y_8_0gf",
    "REGNETY-12GF": "regnet_y_12gf",
    "RegNetZ-500MF": "regnet_z_500mf",
    "regnet_z_4gf": "regnet_z_4_0gf",
}


@pytest.mark.parametrize("alias, name", FOREIGN.items())
def test_other_libraries_names_resolve(alias, name):
    assert canonical_name(alias) == name
    assert model_entrypoint(alias) is model_entrypoint(name)
    assert is_model(alias) and is_model_in_modules(alias, ["regnet"])
    assert alias not in list_models()


def test_registered_names_stay_what_they_are():
    assert [canonical_name(name) for name in MODELS] == MODELS


@pytest.mark.parametrize(
    "name",
    [
        "regnetx_003",
        "regnetx_1280",
        "regnetz_040",  # timm's has another head
        "regnetz_005_h",
        "RegNetX-1.7GF",
        "regnety_032.",
        "regnety_032.a.b",
        "resnet_032.ra_in1k",
        "regnet_y_3_2gf.ra_in1k",
        "regnet_X_400mf",
    ],
)
def test_a_name_that_only_looks_like_an_alias_is_refused(name):
    assert not is_model(name)
    with pytest.raises(ConfigError, match="not registered"):
        canonical_name(name)


def test_an_alias_builds_the_model():
    network = create_model("RegNetX-200MF", num_classes=3)
    assert network.plan == SETTINGS["regnet_x_200mf"].plan(num_classes=3)


def test_a_registered_name_goes_before_an_alias(own_models):
    @register_model
    def regnetx_002(num_classes: int, in_channels: int):
        return nn.Dense(in_channels, num_classes)

    assert canonical_name("regnetx_002") == "regnetx_002"
    assert isinstance(create_model("regnetx_002"), nn.Dense)


def test_the_package_itself_offers_the_registry():
    assert mindcv.list_models() == MODELS
    assert mindcv.create_model is create_model


@pytest.mark.parametrize("ask", [create_model, model_entrypoint, canonical_name])
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


@pytest.mark.parametrize(
    "name, value, kind",
    [
        ("num_classes", "3", "a whole number"),
        ("num_classes", None, "a whole number"),
        ("in_channels", 3.0, "a whole number"),
        ("drop_rate", "0.1", "a number"),
        ("drop_path_rate", True, "a number"),
        ("pretrained", 1, "True, False or a source of weights"),
        ("checkpoint_path", 3, "a path"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(name, value, kind):
    with pytest.raises(ConfigError, match=f"{name} {value!r} is not {kind}"):
        create_model("regnet_x_200mf", **{name: value})


@pytest.mark.parametrize("indices", [2, "12", ["a"], [1.5]])
def test_indices_that_are_no_numbers_are_refused(indices):
    with pytest.raises(ConfigError, match="out_indices .* are not several whole numbers"):
        create_model("regnet_x_200mf", features_only=True, out_indices=indices)


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ConfigError, match="regnet_x_200mf.*drop_pth_rate") as caught:
        create_model("regnet_x_200mf", drop_rate=0.1, drop_pth_rate=0.1)
    assert caught.value.exit_code == 2


def test_a_name_is_registered_once(own_models):
    def regnet_x_200mf():
        raise AssertionError("never called")

    with pytest.raises(ValueError, match="regnet_x_200mf.*mindcv.models.regnet"):
        register_model(regnet_x_200mf)
    assert isinstance(create_model("regnet_x_200mf"), RegNet)


def test_a_function_that_is_defined_again_replaces_itself(own_models):
    for size in (1, 2):  # as when a notebook's cell runs again

        @register_model
        def mine(num_classes: int, in_channels: int, size: int = size):
            return nn.Dense(in_channels, size)

    assert create_model("mine").weight.shape == (2, 3)
    assert list_models(module="test_registry") == ["mine"]


default_cfgs = {"mindcvs_form": {"url": "https://example.org/a.ckpt", "classifier": "fc"}}


def test_a_builder_of_mindcvs_form_gets_all_that_create_model_was_given(own_models, monkeypatch):
    calls = []

    @register_model
    def mindcvs_form(pretrained: bool = False, num_classes: int = 1000, in_channels=3, **kwargs):
        calls.append(kwargs | {"pretrained": pretrained, "num_classes": num_classes})
        return nn.Dense(in_channels, num_classes)

    create_model("mindcvs_form", 7)
    create_model("mindcvs_form", 7, pretrained=True, drop_rate=0.5, drop_path_rate=None)
    create_model("mindcvs_form", features_only=True, out_indices=[1])
    assert calls == [
        {"pretrained": False, "num_classes": 7},
        {"pretrained": True, "num_classes": 7, "drop_rate": 0.5},
        {"pretrained": False, "num_classes": 1000, "features_only": True, "out_indices": [1]},
    ]
    assert is_model_pretrained("mindcvs_form")
    assert list_models("m*", pretrained=True) == ["mindcvs_form"]
    assert get_pretrained_cfg("mindcvs_form") == default_cfgs["mindcvs_form"]


def test_a_module_that_lists_its_names_lists_its_models(own_models, monkeypatch):
    monkeypatch.setitem(globals(), "__all__", [])

    @register_model
    def listed(num_classes: int, in_channels: int):
        return nn.Dense(in_channels, num_classes)

    register_model(listed)
    assert __all__ == ["listed"]  # noqa: F821


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

"""Models, registry, layers and helpers equal MindCV's (golden/make_mindcv_models.py)."""

import builtins
import copy
import importlib
import inspect
import json
import pickle
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from conftest import parameters_of
from golden.mindcv_model_cases import (
    DIVISIBLE,
    FILTERS,
    LAYERS,
    NETWORKS,
    Chain,
    Rewritten,
    layer_shape,
    named_in_a_parent,
    output,
)
from mindspore import nn

import mindcv
from mindcv.config import Config
from mindcv.engine.build import check_model
from mindcv.hub import PublishedWeights
from mindcv.models import (
    FeatureExtractWrapper,
    create_model,
    helpers,
    layers,
    register_model,
    registry,
    regnet,
)

GOLDEN = Path(__file__).parents[1] / "golden"
ARRAYS = np.load(GOLDEN / "mindcv_models.npz")
FACTS = json.loads((GOLDEN / "mindcv_models.json").read_text(encoding="utf-8"))
SIGNATURES = [(room, name) for room, names in FACTS["signatures"].items() for name in names]


@pytest.fixture
def pynative():
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=before)


def plain(default):
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, type) or default is ms.float32:
        return getattr(default, "__name__", str(default))
    return list(default) if isinstance(default, tuple) else default


@pytest.mark.parametrize("room, name", SIGNATURES)
def test_a_name_takes_the_parameters_of_mindcv_in_its_order(room, name):
    function = getattr(importlib.import_module(f"mindcv.{room}"), name)
    ours = parameters_of(function)
    for own, (parameter, default) in zip(ours, FACTS["signatures"][room][name], strict=False):
        assert own.name == parameter
        # Of AnyNet, MindCV requires what has a default here.
        assert default == "required" or plain(own.default) == default
    assert len(ours) >= len(FACTS["signatures"][room][name])


@pytest.mark.parametrize(
    "mode", [ms.PYNATIVE_MODE, pytest.param(ms.GRAPH_MODE, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_mindcvs_gives(name, mode, pynative):
    ms.set_context(mode=mode)
    kind, arguments, options = LAYERS[name]
    (module,) = (room for room, names in FACTS["signatures"].items() if kind in names)
    layer = getattr(importlib.import_module(f"mindcv.{module}"), kind)(*arguments, **options)
    assert [parameter.name for parameter in layer.get_parameters()] == FACTS["parameters"][name]
    assert output(layer, layer_shape(name)) == pytest.approx(ARRAYS[name], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("scales, kept", [(True, 2.0), (False, 1.0)])
def test_drop_path_scales_by_keep_or_not(scales, kept, pynative):
    ms.set_seed(1)
    layer = layers.DropPath(0.5, scales).set_train(True)
    assert np.unique(layer(ms.ops.ones((64, 3, 2))).asnumpy()).tolist() == [0.0, kept]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_by_positional_arguments_gives_mindcvs_logits(name, pynative):
    kind, arguments = NETWORKS[name]
    logits = output(getattr(regnet, kind)(*arguments), (2, 3, 32, 32))
    assert logits == pytest.approx(ARRAYS[name], rel=1e-5, abs=1e-5)


def test_a_builder_takes_pretrained_classes_and_channels_by_position():
    network = mindcv.models.regnet_x_200mf(False, 10, 1)
    assert network.get_classifier().weight.shape[0] == 10
    assert network.stem.conv.weight.shape[1] == 1
    assert mindcv.regnet_x_200mf is registry.model_entrypoint("regnet_x_200mf")
    backbone = mindcv.models.regnet_y_200mf(features_only=True, out_indices=[1, 2])
    assert backbone.out_channels == [24, 56]


@pytest.mark.parametrize("case, listed", list(zip(FILTERS, FACTS["listed"])), ids=str)
def test_filters_list_the_models_that_mindcv_lists(case, listed):
    ours = [name for name in mindcv.list_models(**case) if name in FACTS["configs"]]
    assert sorted(ours) == sorted(listed)


@pytest.mark.parametrize("name", FACTS["configs"])
def test_the_configuration_of_a_model_has_mindcvs_entries(name):
    ours, theirs = mindcv.get_pretrained_cfg(name), FACTS["configs"][name]
    assert ours.keys() == theirs.keys()
    # MindCV's regnet_x_16gf has the file of regnet_y_16gf; see docs/from_mindcv.md.
    if theirs["url"] and name != "regnet_x_16gf":
        assert ours["url"] == theirs["url"]
    assert mindcv.get_pretrained_cfg_value(name, "num_classes") == theirs["num_classes"]
    assert mindcv.has_pretrained_cfg_key(name, "url")


def test_the_configuration_names_layers_that_exist():
    """MindCV's guide freezes everything but the classifier with these names."""
    cells = dict(create_model("regnet_x_200mf").cells_and_names())
    config = registry._model_pretrained_cfgs["regnet_x_200mf"]
    assert isinstance(cells[config["first_conv"]], nn.Conv2d)
    assert isinstance(cells[config["classifier"]], nn.Dense)


@pytest.mark.parametrize("name", FACTS["unknown"])
def test_an_unknown_model_gives_what_mindcv_gives(name):
    more = {
        "is_model_in_modules": (["regnet"],),
        "get_pretrained_cfg_value": ("url",),
        "has_pretrained_cfg_key": ("url",),
    }
    assert getattr(mindcv, name)("no_such_model", *more.get(name, ())) == FACTS["unknown"][name]


REFUSALS = {
    "create_model": lambda: create_model("no_such_model"),
    "model_entrypoint": lambda: mindcv.model_entrypoint("no_such_model"),
    "two sources": lambda: create_model(
        "regnet_x_200mf", pretrained=True, checkpoint_path="a.ckpt"
    ),
    "features": lambda: helpers.build_model_with_cfg(
        nn.Dense, False, {}, features_only=True, in_channels=2, out_channels=3
    ),
}


@pytest.mark.parametrize("name", FACTS["refusals"])
def test_a_refusal_is_of_the_type_that_scripts_of_mindcv_catch(name):
    with pytest.raises(getattr(builtins, FACTS["refusals"][name])) as caught:
        REFUSALS[name]()
    assert caught.value.exit_code == 2
    assert not str(caught.value).startswith(("'", '"'))  # as a KeyError's own text


def test_numbers_are_made_divisible_as_in_mindcv():
    assert [helpers.make_divisible(*case) for case in DIVISIBLE] == FACTS["divisible"]


def test_a_config_dictionary_has_attributes():
    config = helpers.ConfigDict(width=3)
    config.depth = 4
    assert (config.width, config["depth"], config.missing) == (3, 4, None)
    del config.width
    assert config == copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == {"depth": 4}


def test_a_single_value_is_repeated_and_a_sequence_is_not():
    from mindcv.models.layers.helpers import to_2tuple

    from mindcv.models.helpers import _ntuple

    assert (to_2tuple(3), to_2tuple([1, 2]), _ntuple(3)("a")) == ((3, 3), [1, 2], "a")


IMAGES = (2, 3, 8, 8)


@pytest.mark.parametrize("kind", [Chain, Rewritten])
@pytest.mark.parametrize("indices, channels", [([0, 1, 2, 3, 4], [4, 6, 8]), ([1], [6])])
def test_a_network_of_mindcvs_form_gives_the_maps_of_its_layers(kind, indices, channels, pynative):
    network = kind()
    wrapper = FeatureExtractWrapper(network, indices)
    assert wrapper.out_channels == channels
    wanted = [one.asnumpy() for one in network.maps(ms.ops.ones(IMAGES))]
    wanted = [one for index, one in enumerate(wanted) if index in indices]
    for one, other in zip(wrapper(ms.ops.ones(IMAGES)), wanted, strict=True):
        assert np.array_equal(one.asnumpy(), other)


@pytest.mark.parametrize("kind", [Chain, Rewritten])
def test_a_wrapped_network_names_its_parameters_as_mindcv_does(kind):
    wrapper = FeatureExtractWrapper(kind())
    names = [parameter.name for parameter in wrapper.get_parameters()]
    assert [names, named_in_a_parent(wrapper)] == FACTS["wrapped"][kind.__name__]


def test_a_map_of_a_cell_that_does_not_exist_is_refused():
    network = Chain()
    network.flatten_sequential = False
    with pytest.raises(RuntimeError, match=r"names the cells \['features.0', 'features.1'\]"):
        FeatureExtractWrapper(network)


@pytest.fixture
def published(monkeypatch, tmp_path) -> list[PublishedWeights]:
    """Serve a file of 7 classes at every address; return what was fetched."""
    path, fetched = str(tmp_path / "chain.ckpt"), []
    ms.save_checkpoint(Chain(num_classes=7), path)
    monkeypatch.setattr(helpers, "fetch", lambda row: [fetched.append(row), path][1])
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    return fetched


default_cfgs = {
    "chain": {
        "url": "https://example.org/chain-0a1b2c3d.ckpt",
        "num_classes": 7,
        "first_conv": "features.0",
        "classifier": "classifier",
    }
}


def test_a_model_in_mindcvs_form_loads_its_published_weights(published, tmp_path, pynative):
    @register_model
    def chain(pretrained: bool = False, num_classes: int = 1000, in_channels=3, **kwargs):
        options = dict(num_classes=num_classes, in_channels=in_channels, **kwargs)
        return helpers.build_model_with_cfg(Chain, pretrained, default_cfgs["chain"], **options)

    file = ms.load_checkpoint(str(tmp_path / "chain.ckpt"))
    check_model(Config(model="chain", pretrained=True))
    assert registry.find_published("chain").num_classes == 7
    network = create_model("chain", 5, pretrained=True, in_channels=1)
    assert np.array_equal(network.last.weight.asnumpy(), file["last.weight"].asnumpy())
    summed = file["features.0.weight"].asnumpy().sum(1, keepdims=True)
    assert network.features[0].weight.asnumpy() == pytest.approx(summed)
    assert network.classifier.weight.shape == (5, 8)
    assert published[0].sha256 == "0a1b2c3d" and published[0].model == "chain"
    maps = create_model("chain", pretrained=True, features_only=True, out_indices=[2])
    assert maps(ms.ops.ones(IMAGES))[0].shape == (2, 8, 2, 2)
    whole = str(tmp_path / "chain.ckpt")
    maps = create_model("chain", 7, checkpoint_path=whole, features_only=True)
    assert [one.shape[1] for one in maps(ms.ops.ones(IMAGES))] == [4, 6, 8]


MODULE = """
from mindspore import nn
from mindcv.models.registry import register_model

default_cfgs = {"net_of_a_file": {"url": "https://example.org/net.ckpt", "num_classes": 12}}


@register_model
def net_of_a_file(pretrained: bool = False, num_classes: int = 1000, in_channels=3, **kwargs):
    return nn.Dense(in_channels, num_classes)
"""


def test_validate_takes_the_published_weights_of_a_module_of_ones_own(
    published, monkeypatch, tmp_path
):
    from mindcv import validate

    (tmp_path / "nets.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr("mindcv.hub.fetch", helpers.fetch)
    options = dict(pretrained=True, import_module=str(tmp_path / "nets.py"))
    known, name = validate.told_by_the_weights(Config(model="net_of_a_file", **options))
    assert (known["num_classes"], name) == (12, "published weights example.org")
    assert known["ckpt_path"] == str(tmp_path / "chain.ckpt")
    assert published[0].model == "net"


def test_a_filter_changes_published_weights_before_they_are_loaded(published):
    network = Chain(num_classes=7)
    helpers.load_pretrained(
        network,
        default_cfgs["chain"],
        filter_fn=lambda file: {
            name: ms.Parameter(value * 0 + 3, name=name) for name, value in file.items()
        },
    )
    assert (network.last.weight.asnumpy() == 3).all()


def test_weights_without_an_address_are_refused_instead_of_random():
    with pytest.raises(ValueError, match="default_cfg has no url"):
        helpers.load_pretrained(Chain(), {"url": ""})


def test_a_checkpoint_of_mindcv_loads_plainly_after_auto_map():
    source, target = (regnet.RegNet(8, 8, 2.0, 3, 8, num_classes=5) for _ in range(2))
    renamed = {
        name.replace("stages.0.blocks", "0.blocks").replace("stages.1.", "0.blocks.1."): value
        for name, value in source.parameters_dict().items()
    }
    assert renamed.keys() != target.parameters_dict().keys()
    missing, surplus = ms.load_param_into_net(target, helpers.auto_map(target, renamed))
    assert (missing, surplus) == ([], [])
    ours, theirs = (network.stages[1].blocks[0].f.c.weight for network in (target, source))
    assert np.array_equal(ours.asnumpy(), theirs.asnumpy())

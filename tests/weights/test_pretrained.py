"""`pretrained=`: which published weights are asked for, and what becomes of them."""

import mindspore as ms
import numpy as np
import pytest

from mindcv.config import Config
from mindcv.engine.build_step import build_network
from mindcv.errors import ConfigError
from mindcv.hub import PublishedWeights, table
from mindcv.models import RegNet, create_model, is_model_pretrained, list_models, registry

TABLE = (
    PublishedWeights("regnet_y_3_2gf", "mindcv", "https://example.org/a.ckpt"),
    PublishedWeights("regnet_y_3_2gf", "timm_ra", "https://example.org/b.safetensors"),
    PublishedWeights("regnet_y_3_2gf", "torchvision_v2", "https://example.org/c.pth"),
    PublishedWeights("regnet_x_400mf", "mindcv", "https://example.org/d.ckpt"),
    PublishedWeights("regnet_x_400mf_tv", "torchvision_v2", "https://example.org/e.pth"),
)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Serve weights of a tiny network as everybody's; return what was fetched."""
    ms.set_seed(1)
    path = tmp_path / "weights.ckpt"
    ms.save_checkpoint(tiny(num_classes=6), str(path))
    fetched = []

    def fetch(weights):
        fetched.append((weights.model, weights.source))
        return path

    monkeypatch.setattr(table, "_table", lambda: TABLE)
    monkeypatch.setattr(registry, "fetch", fetch)
    builders = dict.fromkeys(registry._BUILDERS, tiny)
    monkeypatch.setattr(registry, "_BUILDERS", builders)
    return fetched


def tiny(num_classes: int = 1000, in_channels: int = 3, **kwargs) -> RegNet:
    return RegNet(8, 8, 2.0, 3, 8, num_classes=num_classes, in_channels=in_channels, **kwargs)


@pytest.mark.parametrize(
    "name, pretrained, model, source",
    [
        ("regnet_y_3_2gf", True, "regnet_y_3_2gf", "mindcv"),
        ("RegNetY-3.2GF", True, "regnet_y_3_2gf", "mindcv"),
        ("regnet_y_3_2gf", "torchvision_v2", "regnet_y_3_2gf", "torchvision_v2"),
        ("regnety_032.ra_in1k", True, "regnet_y_3_2gf", "timm_ra"),
        ("regnety_032.ra_in1k", "timm_ra", "regnet_y_3_2gf", "timm_ra"),
        ("regnety_032.tv2_in1k", True, "regnet_y_3_2gf", "torchvision_v2"),
        ("regnet_x_400mf", True, "regnet_x_400mf", "mindcv"),
        ("regnetx_004_tv.tv2_in1k", True, "regnet_x_400mf_tv", "torchvision_v2"),
    ],
)
def test_name_tag_and_source_choose_the_weights(hub, name, pretrained, model, source):
    create_model(name, num_classes=6, pretrained=pretrained)
    assert hub == [(model, source)]


def test_the_fetched_weights_are_loaded(hub, tmp_path):
    ms.set_seed(2)
    network = create_model("regnet_y_3_2gf", num_classes=6, pretrained=True)
    for name, value in ms.load_checkpoint(str(tmp_path / "weights.ckpt")).items():
        assert np.array_equal(network.parameters_dict()[name].asnumpy(), value.asnumpy())


def test_another_number_of_classes_gets_a_fresh_head_and_features_none(hub, caplog):
    network = create_model("regnet_y_3_2gf", num_classes=3, pretrained=True)
    assert network.get_classifier().weight.shape[0] == 3
    assert "re-initialised: 6 classes" in caplog.text
    backbone = create_model("regnet_y_3_2gf", pretrained=True, features_only=True)
    pooled = create_model("regnet_y_3_2gf", pretrained=True, num_classes=0)
    source = network.stem.conv.weight.asnumpy()
    assert np.array_equal(backbone.stem.conv.weight.asnumpy(), source)
    assert np.array_equal(pooled.stem.conv.weight.asnumpy(), source)


def test_without_pretrained_a_tag_only_names_the_model(hub):
    create_model("regnety_032.ra_in1k", num_classes=3)
    assert hub == []


@pytest.mark.parametrize("source", ["torchvision_v1", "torchvision_v2"])
@pytest.mark.parametrize("name", ["regnet_x_400mf", "regnet_y_800mf", "regnet_y_8_0gf"])
def test_torchvisions_weights_are_refused_to_pycls_widths_and_the_twin_is_named(hub, name, source):
    with pytest.raises(ConfigError, match=f"{name}_tv"):
        create_model(name, pretrained=source)
    assert hub == []


def test_a_run_starts_from_the_source_that_its_config_names_and_says_so(hub, log_lines):
    for pretrained in (True, "torchvision_v2"):
        config = Config(model="regnet_y_3_2gf", pretrained=pretrained)
        build_network(config, None, 6, is_fresh=True)
        build_network(config, None, 6, is_fresh=False)  # its weights come from the checkpoint
    assert [source for _, source in hub] == ["mindcv", "torchvision_v2"]
    said = [line.partition(" of ")[0] for line in log_lines if line.startswith("starting from ")]
    assert said == [
        f"starting from regnet_y_3_2gf: weights {source}" for source in ("mindcv", "torchvision_v2")
    ]


def test_a_source_that_has_none_is_refused_by_the_hub(hub):
    with pytest.raises(ConfigError, match="regnet_y_3_2gf from 'pycls'"):
        create_model("regnet_y_3_2gf", pretrained="pycls")
    with pytest.raises(ConfigError, match="regnet_y_3_2gf from 'timm_ra9'"):
        create_model("regnety_032.ra9_in1k", pretrained=True)


def test_a_tag_and_another_source_contradict_each_other(hub):
    with pytest.raises(ConfigError, match="timm_ra.*torchvision_v2"):
        create_model("regnety_032.ra_in1k", pretrained="torchvision_v2")


def test_two_sources_of_weights_are_refused(hub, tmp_path):
    with pytest.raises(ConfigError, match="pretrained and checkpoint_path"):
        create_model(
            "regnet_y_3_2gf", pretrained=True, checkpoint_path=str(tmp_path / "weights.ckpt")
        )
    assert hub == []


def test_an_unknown_model_is_told_before_anything_is_fetched(hub):
    with pytest.raises(ConfigError, match="regnet_x_80mf"):
        create_model("regnet_x_80mf", pretrained=True)
    assert hub == []


def test_the_table_tells_which_models_are_pretrained(hub):
    assert is_model_pretrained("regnet_y_3_2gf") and is_model_pretrained("regnety_032")
    assert not is_model_pretrained("regnet_z_500mf")
    expected = ["regnet_x_400mf", "regnet_x_400mf_tv", "regnet_y_3_2gf"]
    assert list_models(pretrained=True) == expected


def test_every_published_row_is_of_a_registered_model():
    from mindcv.hub import published_weights

    assert {row.model for row in published_weights()} <= set(list_models())
    assert list_models(pretrained=True) == [m for m in list_models() if published_weights(m)]

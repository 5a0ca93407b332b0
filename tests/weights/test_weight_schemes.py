"""Names of seven libraries: each known by itself, and translated without a rest, both ways."""

import json
from pathlib import Path

import numpy as np
import pytest

from mindcv.errors import WeightsError
from mindcv.weights import WeightFile
from mindcv.weights.match import sort_contents
from mindcv.weights.schemes import SCHEMES, recognise

# Modules of the libraries' own networks, one row a module.
NAMES = json.loads((Path(__file__).parents[1] / "golden/state_dict_names.json").read_text())
LIBRARIES = ("pycls", "timm", "torchvision", "transformers", "mindcv")
MODELS = ("RegNetX-400MF", "RegNetY-400MF")
BN = ("weight", "bias", "running_mean", "running_var")
OUR_BN = ("gamma", "beta", "moving_mean", "moving_variance")


def table(model: str, library: str) -> dict[str, str]:
    """Return the library's parameter names -> ours.

    Ours are MindCV's with stages that are numbered by their place.
    """
    column = LIBRARIES.index(library)
    result = {}
    for row in NAMES[model]:
        ours = row[4]
        parts = ours.split(".")
        if parts[:2] == ["0", "blocks"]:
            later = len(parts) > 4 and parts[3] == "blocks"
            place = [parts[2], parts[4]] if later else ["0", parts[2]]
            ours = ".".join(["stages", place[0], "blocks", place[1], *parts[5 if later else 3 :]])
        if ours.endswith("bn"):
            theirs = OUR_BN if column == 4 else BN
            result |= {f"{row[column]}.{t}": f"{ours}.{o}" for t, o in zip(theirs, OUR_BN)}
        else:
            has_bias = ".se." in ours or ours == "head.fc"
            result |= {
                f"{row[column]}.{t}": f"{ours}.{t}" for t in ("weight", "bias")[: 1 + has_bias]
            }
    return result


def file_of(names, prefix: str = "", **more) -> WeightFile:
    tensors = {f"{prefix}{name}": np.full((1, 1), i) for i, name in enumerate(names)}
    return WeightFile("a.pth", "torch zip", {**tensors, **more})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_name_is_translated_and_back(model, library):
    names = table(model, library)
    assert len(names) == (357 if "X" in model else 331)
    contents = sort_contents(file_of(names))
    assert contents.scheme == library
    assert list(contents.weights) == list(names.values()) and contents.set_aside == ()
    assert [v.item() for v in contents.weights.values()] == list(range(len(names)))
    scheme, has_se = SCHEMES[library], "Y" in model
    assert {scheme.from_native(ours, has_se): ours for ours in names.values()} == names


@pytest.mark.parametrize("library", LIBRARIES[:4])
@pytest.mark.parametrize(
    "prefix",
    ["module.", "model_state.", "state_dict.", "model.", "state_dict.module.", "model._orig_mod."],
)
def test_containers_and_wrappers_are_opened(library, prefix):
    names = table("RegNetX-400MF", library)
    counters = {f"{prefix}{name}": np.ones(()) for name in ("stem.bn.num_batches_tracked",)}
    contents = sort_contents(file_of(names, prefix, **counters))
    assert contents.scheme == library
    assert list(contents.weights) == list(names.values()) and contents.set_aside == ()


@pytest.mark.parametrize("averaged", ["ema_state.", "state_dict_ema.", "model_ema.module.", "ema."])
def test_averages_and_optimizers_stand_aside_until_asked_for(averaged):
    names = table("RegNetY-400MF", "pycls")
    more = {f"{averaged}{name}": np.full((1, 1), -1) for name in names}
    more |= {f"optimizer_state.state.{i}.momentum_buffer": np.ones(1) for i in range(9)}
    file = file_of(names, "model_state.", **more)
    plain = sort_contents(file)
    assert all(v >= 0 for v in plain.weights.values()) and not plain.averaged
    assert {*plain.set_aside, *plain.others} == set(more) and len(plain.set_aside) == 9
    ema = sort_contents(file, ema=True)
    assert set(ema.weights) == set(names.values())
    assert all(v == -1 for v in ema.weights.values())


# One block each, as the modules of ClassyVision and vissl are nested.
CLASSY_BLOCK = {
    "proj": "proj",
    "bn": "bn",
    "f.a.0": "f.a",
    "f.a.1": "f.a_bn",
    "f.b.0": "f.b",
    "f.b.1": "f.b_bn",
    "f.se.excitation.0": "f.se.conv_reduce",
    "f.se.excitation.2": "f.se.conv_expand",
    "f.c": "f.c",
    "f.final_bn": "f.c_bn",
}
TASK = "classy_state_dict.base_model.model."


@pytest.mark.parametrize(
    "scheme, stem, block, head",
    [
        ("classyvision", "stem.stem", "trunk_output.block3.block3-1", "head.fc"),
        (
            "classyvision",
            f"{TASK}trunk.stem.stem",
            f"{TASK}trunk.trunk_output.block3.block3-1",
            f"{TASK}heads.block4-6.default_head.fc",
        ),
        (
            "vissl",
            f"{TASK}trunk._feature_blocks.conv1.stem",
            f"{TASK}trunk._feature_blocks.res4.block3-1",
            f"{TASK}heads.0.clf.0",
        ),
    ],
    ids=["swag", "classyvision", "vissl"],
)
def test_classyvision_vissl_and_swag_names_are_translated(scheme, stem, block, head):
    expected = {f"{stem}.0.weight": "stem.conv.weight", f"{head}.bias": "head.fc.bias"}
    expected[f"{head}.weight"] = "head.fc.weight"
    expected |= {f"{stem}.1.{t}": f"stem.bn.{o}" for t, o in zip(BN, OUR_BN)}
    for theirs, ours in CLASSY_BLOCK.items():
        place = f"stages.2.blocks.1.{ours}"
        if ours.endswith("bn"):
            expected |= {f"{block}.{theirs}.{t}": f"{place}.{o}" for t, o in zip(BN, OUR_BN)}
        else:
            expected[f"{block}.{theirs}.weight"] = f"{place}.weight"
    more = {"classy_state_dict.optimizer.state.0.momentum_buffer": np.ones(1)}
    contents = sort_contents(file_of(expected, **(more if TASK in stem else {})))
    assert contents.scheme == scheme
    assert contents.weights.keys() == set(expected.values())
    assert contents.set_aside == (tuple(more) if TASK in stem else ())


def test_projection_heads_of_self_supervised_training_are_no_classifier():
    trunk = f"{TASK}trunk._feature_blocks.res2.block1-0.f.a.0.weight"
    names = [trunk, f"{TASK}heads.0.projection_head.0.weight", f"{TASK}heads.0.prototypes0.weight"]
    contents = sort_contents(file_of(names))
    assert list(contents.weights) == ["stages.0.blocks.0.f.a.weight"]
    assert contents.num_classes == 0 and len(contents.set_aside) == 2


def test_a_head_with_more_than_a_classifier_keeps_what_is_unknown():
    names = [
        f"{TASK}trunk._feature_blocks.res2.block1-0.f.a.0.weight",
        f"{TASK}heads.0.clf.0.weight",
        f"{TASK}heads.0.channel_bn.running_mean",
    ]
    assert f"{TASK}heads.0.channel_bn.running_mean" in sort_contents(file_of(names)).weights


def test_only_pycls_files_are_turned_from_bgr():
    stem = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
    for library in LIBRARIES:
        names = table("RegNetX-400MF", library)
        name = next(theirs for theirs, ours in names.items() if ours == "stem.conv.weight")
        contents = sort_contents(file_of(names, **{name: stem}))
        turned = np.array_equal(contents.weights["stem.conv.weight"], stem[:, [2, 1, 0]])
        assert turned == (library == "pycls")
        assert any("BGR" in note for note in contents.notes) == turned


@pytest.mark.parametrize(
    "prefix", ["state.model.", "state.model.module.", "backbone.", "model.backbone."]
)
@pytest.mark.parametrize("library", ["timm", "torchvision", "ours"])
def test_what_composer_and_users_put_before_a_network_is_taken_off(prefix, library):
    """A classifier may stand beside a backbone, as in a detector or a module of one's own."""
    names = table("RegNetY-400MF", "pycls" if library == "ours" else library)
    ours = list(names.values())
    names = ours if library == "ours" else list(names)
    beside = prefix.endswith("backbone.")
    before = prefix.removesuffix("backbone.")
    put = [
        f"{before if beside and our.startswith('head.fc') else prefix}{name}"
        for name, our in zip(names, ours)
    ]
    state = ["state.optimizers.SGD.momentum"] if prefix.startswith("state") else []
    contents = sort_contents(file_of([*put, *state]))
    assert set(contents.set_aside) == set(state)
    assert sorted(contents.weights) == sorted(ours)


def test_our_names_and_strangers_are_left_as_they_are():
    ours = list(table("RegNetY-400MF", "pycls").values())
    for names in (ours, ["layer1.0.conv1.weight", "fc.bias"], ["stages.0.blocks.1.f.new.weight"]):
        assert recognise(names) is None
        contents = sort_contents(file_of(names))
        assert list(contents.weights) == names
        assert contents.scheme == ("" if "fc.bias" in names else "native")


def test_two_sets_of_weights_in_one_file_are_an_error():
    names = table("RegNetX-400MF", "timm")
    more = {f"model.{name}": np.zeros(1) for name in names}
    with pytest.raises(WeightsError, match="under 'state_dict.' .357 tensors., 'model.' .357"):
        sort_contents(file_of(names, "state_dict.", **more))


def test_blocks_of_other_kinds_have_names_where_the_library_has_them():
    head_conv = "head.conv.weight"
    assert SCHEMES["timm"].from_native(head_conv, True) == "final_conv.conv.weight"
    assert SCHEMES["pycls"].from_native("head.bn.gamma", True) == "head.bn.weight"
    assert SCHEMES["torchvision"].from_native(head_conv, True) is None
    names = ["s1.b1.conv1.conv.weight", "final_conv.conv.weight", "final_conv.bn.running_var"]
    assert list(sort_contents(file_of(names)).weights) == [
        "stages.0.blocks.0.f.a.weight",
        head_conv,
        "head.bn.moving_variance",
    ]

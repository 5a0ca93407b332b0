"""`average`: the mean in float64 of files of one network, and of nothing else."""

import mindspore as ms
import numpy as np
import pytest
from commands import NAMES, call, other_metadata, registered, tiny_regnet, weights, write_checkpoint
from PIL import Image

from mindcv.errors import WeightsError
from mindcv.models import create_model_from_file
from mindcv.tools.average import average_weights
from mindcv.weights.guards import ENTRY


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("average")
    return [write_checkpoint(folder / f"{seed}.ckpt", weights(seed)) for seed in (1, 2, 3)]


def read(path) -> dict[str, np.ndarray]:
    found = ms.load_checkpoint(str(path))
    return {name: value.asnumpy() for name, value in found.items() if name != ENTRY}


def test_the_average_is_numpys_mean_and_keeps_what_is_known(capsys, tmp_path, files):
    code, out, _ = call(capsys, "average", *files, "--output", tmp_path / "a.ckpt")
    assert code == 0
    expected = [weights(seed) for seed in (1, 2, 3)]
    found = read(tmp_path / "a.ckpt")
    assert set(found) == set(expected[0])
    for name, value in found.items():
        mean = np.mean([each[name].astype(np.float64) for each in expected], 0)
        assert np.array_equal(value, mean.astype(np.float32)), name
    statistics = [name for name in found if "moving_" in name]
    assert (
        f"{len(statistics)} of them are running statistics" in out
        and "--data_dir FOLDER measures them" in out
    )
    with registered(tiny_regnet):
        _, metadata = create_model_from_file(str(tmp_path / "a.ckpt"))
    assert metadata.class_names == NAMES


def test_with_images_the_statistics_are_those_of_the_averaged_weights(
    capsys, tmp_path, files, image_folder
):
    """All other tensors are the mean; the statistics of the first layer are those of its output."""
    for name in ("plain", "measured"):
        words = ["--output", tmp_path / f"{name}.ckpt"]
        if name == "measured":
            words += ["--data_dir", image_folder, "--precise_bn_samples", 48, "--batch_size", 16]
        with registered(tiny_regnet):
            code, out, err = call(capsys, "average", *files, *words)
        assert code == 0, err
    assert "running statistics of batch normalisation measured on 48 images" in out
    plain, measured = read(tmp_path / "plain.ckpt"), read(tmp_path / "measured.ckpt")
    changed = {name for name in plain if not np.array_equal(plain[name], measured[name])}
    assert changed == {name for name in plain if "moving_" in name}
    network = tiny_regnet(5)
    ms.load_param_into_net(network, {k: ms.Parameter(v) for k, v in measured.items()})
    images = []
    for path in (image_folder / "train").rglob("*.jpg"):  # without the crops and flips
        pixels = np.asarray(Image.open(path).convert("RGB").resize((32, 32)), np.float32)
        images.append(((pixels - (120, 110, 100)) / (60, 50, 40)).transpose(2, 0, 1))
    output = network.stem.conv(ms.Tensor(np.stack(images), ms.float32)).asnumpy()
    near, far = (
        np.abs(output.mean((0, 2, 3)) - of["stem.bn.moving_mean"]).mean()
        for of in (measured, plain)
    )
    assert near < 0.3 * far
    words = [*files, "--output", tmp_path / "x.ckpt", "--data_dir", tmp_path / "none"]
    with registered(tiny_regnet):
        code, _, err = call(capsys, "average", *words)
    assert code == 4 and "no image folder" in err and not (tmp_path / "x.ckpt").exists()


def test_weights_count_by_their_ratio(capsys, tmp_path, files):
    words = ["--output", tmp_path / "a.ckpt", "--weights", 3, 1]
    assert call(capsys, "average", *files[:2], *words)[0] == 0
    first, second = weights(1), weights(2)
    for name, value in read(tmp_path / "a.ckpt").items():
        np.testing.assert_allclose(value, 0.75 * first[name] + 0.25 * second[name], atol=1e-7)


@pytest.mark.parametrize("own", [False, True], ids=["RegNet", "own names"])
def test_of_runs_with_averages_those_are_averaged_and_that_is_said(capsys, tmp_path, own):
    """As every command chooses; the running statistics, which have no average, are the raw ones."""

    def named(values, prefix=""):
        names = {name: name.replace("stem", "trunk") if own else name for name in values}
        return {f"{prefix}{names[name]}": value for name, value in values.items()}

    paths, sets = [], []
    for seed in (1, 2):
        raw, averaged = weights(seed), weights(seed + 2)
        averaged = {name: v for name, v in averaged.items() if "moving_" not in name}
        entries = named(raw) | named(averaged, "ema.")
        paths.append(write_checkpoint(tmp_path / f"{seed}.ckpt", entries, None))
        sets.append((named(raw), named(raw | averaged)))
    for words, which in (([], 1), (["--ema", "False"], 0)):
        output = tmp_path / f"a{which}.ckpt"
        code, out, _ = call(capsys, "average", *paths, "--output", output, *words)
        kind = ("the raw weights; ema True", "the averaged weights; ema False")[which]
        assert code == 0 and out.count(kind) == 2
        found = read(output)
        assert found.keys() == sets[0][0].keys()
        for name, value in found.items():
            mean = (sets[0][which][name].astype(np.float64) + sets[1][which][name]) / 2
            np.testing.assert_array_equal(value, mean.astype(np.float32))


def refused(capsys, output, code, told, *words):
    before = output.read_bytes() if output.exists() else None
    found, out, err = call(capsys, "average", *words, "--output", output)
    assert found == code and "wrote" not in out
    assert told in err
    assert (output.read_bytes() if output.exists() else None) == before
    assert not [path for path in output.parent.iterdir() if "unfinished" in path.name]
    return err


def test_another_architecture_is_refused_with_counts_and_names(capsys, tmp_path, files):
    plain = write_checkpoint(tmp_path / "x.ckpt", weights(1, tiny_regnet(5, se_r=0.0)))
    err = refused(capsys, tmp_path / "a.ckpt", 5, "not of the same network", files[0], plain)
    squeeze = 4 * 3
    assert (
        f"{squeeze} of {len(weights(1))} tensors missing from the file: stages.0.blocks.0.f.se"
        in err
    )
    err = refused(capsys, tmp_path / "a.ckpt", 5, "not of the same network", plain, files[0])
    assert f"{squeeze} of {len(weights(1)) - squeeze} tensors only there" in err
    wide = write_checkpoint(tmp_path / "w.ckpt", weights(1, tiny_regnet(6)))
    err = refused(capsys, tmp_path / "a.ckpt", 5, "of another shape", files[0], wide)
    assert "head.fc.weight (6, " in err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"class_names": NAMES[::-1]}, "class_names"),
        ({"model": "regnet_x_200mf"}, "model: 'regnet_x_200mf' for 'tiny_regnet'"),
        (None, "names none"),
    ],
)
def test_other_metadata_is_refused(capsys, tmp_path, files, changes, told):
    metadata = None if changes is None else other_metadata(**changes)
    other = write_checkpoint(tmp_path / "o.ckpt", weights(2), metadata)
    refused(capsys, tmp_path / "a.ckpt", 5, told, files[0], other)


def test_files_that_tell_nothing_can_be_averaged(capsys, tmp_path):
    two = [write_checkpoint(tmp_path / f"{seed}.ckpt", weights(seed), None) for seed in (1, 2)]
    assert call(capsys, "average", *two, "--output", tmp_path / "a.ckpt")[0] == 0


def test_existing_files_stay_unless_forced(capsys, tmp_path, files):
    output = tmp_path / "a.ckpt"
    output.write_bytes(b"precious")
    refused(capsys, output, 2, "exists already", *files)
    assert call(capsys, "average", *files, "--output", output, "--force")[0] == 0
    assert set(read(output)) == set(weights(1))


def test_an_input_is_never_overwritten(capsys, tmp_path, files):
    own = write_checkpoint(tmp_path / "own.ckpt", weights(1))
    refused(capsys, own, 2, "is an input file", own, files[0], "--force")


def test_wrong_files_and_words_are_refused(capsys, tmp_path, files):
    output = tmp_path / "a.ckpt"
    refused(capsys, output, 2, "name two or more", files[0])
    refused(capsys, output, 2, "named twice", files[0], files[0])
    refused(capsys, output, 2, "3 weights for 2", *files[:2], "--weights", 1, 2, 3)
    refused(capsys, output, 2, "positive", *files[:2], "--weights", 1, -2)
    refused(capsys, output, 2, "positive", *files[:2], "--weights", 1, "nan")
    refused(capsys, output, 2, "--batch_size is for training", *files[:2], "--batch_size", 32)
    refused(capsys, output, 2, "--import_module is for", *files[:2], "--import_module", "json")
    refused(capsys, output, 5, "holds no averaged", *files[:2], "--ema")
    refused(capsys, tmp_path / "a.bin", 2, "ending in .ckpt", *files[:2])
    refused(capsys, output, 5, "gone.ckpt", files[0], tmp_path / "gone.ckpt")
    page = tmp_path / "page.ckpt"
    page.write_text("<html>not found</html>", encoding="utf-8")
    refused(capsys, output, 5, "page.ckpt", files[0], page)
    broken = weights(2)
    broken["head.fc.bias"][1] = np.nan
    nan = write_checkpoint(tmp_path / "nan.ckpt", broken)
    refused(capsys, output, 5, "head.fc.bias is not finite", files[0], nan)


def test_whole_numbers_must_agree():
    def files(*numbers):
        return [(str(n), {"w": np.ones(2), "n": np.array([n])}, None) for n in numbers]

    tensors, _ = average_weights(files(7, 7), [1, 1])
    assert tensors["n"].tolist() == [7] and tensors["n"].dtype == np.int64
    with pytest.raises(WeightsError, match="n holds whole numbers"):
        average_weights(files(7, 8), [1, 1])


def test_the_sum_is_kept_in_float64():
    values = np.array([2.0**24, 1.0, 1.0, -(2.0**24)], np.float32)  # float32 would lose the ones
    files = [(str(i), {"w": value.reshape(1)}, None) for i, value in enumerate(values)]
    tensors, _ = average_weights(files, [1] * 4)
    assert tensors["w"].tolist() == [0.5] and tensors["w"].dtype == np.float32

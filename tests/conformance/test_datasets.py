"""Datasets give what MindCV's give (golden/make_mindcv_datasets.py), and download as it does."""

import gzip
import hashlib
import io
import json
import logging
import os
import tarfile
from pathlib import Path

import pytest
from conftest import parameters_of
from golden.mindcv_dataset_cases import CALLS, SAMPLERS, batches, facts, root_of, write_datasets
from misbehaving_server import Server, whole

import mindcv.data
from mindcv.data import create_dataset, create_loader, create_transforms, dataset_download
from mindcv.data.datasets import get_dataset_size
from mindcv.data.order import RepeatAugSampler, sample_order
from mindcv.data.samples.folder import FolderSamples
from mindcv.errors import ConfigError, DataError
from mindcv.process import archives

GOLDEN = Path(__file__).parents[1] / "golden/mindcv_datasets.json"
RECORDED = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    write_datasets(root)
    return root


@pytest.mark.parametrize("title", CALLS)
def test_a_dataset_has_mindcvs_columns_rows_and_classes(root, title):
    name, split, more = CALLS[title]
    expected = RECORDED["datasets"][title]

    def given() -> dict:
        place = root_of(name, split, root)
        return facts(create_dataset(name, place, split, shuffle=False, **more))

    if "error" in expected:
        with pytest.raises(DataError):
            given()
    else:
        assert given() == expected


@pytest.mark.parametrize("is_training", [True, False])
def test_digits_reach_the_network_as_in_mindcv(root, is_training):
    dataset = create_dataset("mnist", str(root / "mnist"), "train", shuffle=False)
    transform = create_transforms("MNIST", 32, is_training)
    found = batches(create_loader(dataset, 4, transform=transform))
    for mine, theirs in zip(found, RECORDED["digits"][str(is_training)], strict=True):
        assert mine[0] == theirs[0] and mine[3] == theirs[3]
        assert mine[1:3] == pytest.approx(theirs[1:3], abs=2e-4)


@pytest.mark.parametrize("place", range(len(SAMPLERS)))
def test_the_sampler_gives_mindcvs_indices(place):
    sampler = RepeatAugSampler(**SAMPLERS[place])
    length, epochs = RECORDED["samplers"][place]
    assert len(sampler) == length and [list(sampler), list(sampler)] == epochs
    sampler.set_epoch(0)
    assert list(sampler) == epochs[0]


def test_an_epoch_of_repeated_augmentation_is_as_long_as_mindcvs(root):
    for arguments, (length, _) in zip(SAMPLERS, RECORDED["samplers"]):
        if arguments.get("selected_round") == 0 and arguments["dataset_size"] == 20:
            how = dict(num_shards=arguments["num_shards"], shard_id=arguments["rank_id"])
            order = sample_order(20, 1, 0, True, **how, num_aug_repeats=3)
            assert len(order) == length
    with pytest.raises(ConfigError, match="num_samples 4 does not go with num_aug_repeats 3"):
        create_dataset("", str(root / "images"), num_samples=4, num_aug_repeats=3)


def test_a_dataset_is_counted_without_reading_its_images(root, tmp_path, monkeypatch):
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.jpg").write_text("no image")
    monkeypatch.setattr(FolderSamples, "read", None)
    assert get_dataset_size("", str(tmp_path), "train") == 2
    assert get_dataset_size("MNIST", str(root / "mnist"), "train") == 7


@pytest.mark.parametrize("function", [create_dataset, RepeatAugSampler])
def test_parameters_have_mindcvs_names_order_and_defaults(function):
    mine = parameters_of(function)
    expected = RECORDED["parameters"][function.__name__]
    assert [[each.name, repr(each.default)] for each in mine][: len(expected)] == expected


def test_images_of_other_classes_are_left_out_with_a_warning(root, caplog, tmp_path):
    with caplog.at_level(logging.WARNING):
        dataset = create_dataset("", str(root / "images"), class_indexing={"bee": 3, "yak": 1})
    assert "6 of 9 images are left out: class_indexing or extensions" in caplog.text
    assert set(dataset.samples.labels.tolist()) == {3} and dataset.num_classes() == 4
    assert dataset.get_class_indexing() == {"bee": 3, "yak": 1}
    assert dataset.class_names() == ("0", "yak", "2", "bee")
    mindcv.data.write_class_map(tmp_path / "map.json", dataset.samples)
    assert json.loads((tmp_path / "map.json").read_text())["classes"] == {"bee": 3, "yak": 1}
    with pytest.raises(DataError, match="holds no image of the classes yak$"):
        create_dataset("", str(root / "images"), class_indexing={"yak": 1})


def test_class_indexing_may_merge_classes_but_not_number_them_below_0(root):
    merged = {"ant": 2, "bee": 2, "0": 3, "cow": 1}
    dataset = create_dataset("", str(root / "images"), class_indexing=merged)
    assert dataset.class_names() == ("label 0", "cow", "ant or bee", "0")
    assert dataset.get_class_indexing() == merged
    for label in (-1, 0.5):
        with pytest.raises(DataError, match=f"label {label} of 'bee'; expected 0, 1"):
            create_dataset("", str(root / "images"), class_indexing={"ant": 0, "bee": label})


def test_a_cache_is_not_needed_and_extensions_belong_to_folders(root, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(create_dataset("", str(root / "images"), cache=object()).samples) == 9
    assert "MindSpore's cache is not used" in caplog.text
    suffixes = {path.suffix for path in (root / "images").rglob("*.*")}
    one = min(suffixes)
    count = len(list((root / "images/train").rglob(f"*{one}")))
    for extensions in (one, [one]):
        dataset = create_dataset("", str(root / "images"), extensions=extensions)
        assert len(dataset.samples) == count
    with pytest.raises(DataError, match="holds no image with the extensions .tif$"):
        create_dataset("", str(root / "images"), extensions=".tif")
    with pytest.raises(ConfigError, match="extensions .*: dataset 'mnist' does not search"):
        create_dataset("mnist", str(root / "mnist"), extensions=[".png"])


# Downloads


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINDCV_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(archives, "_root", str(tmp_path / "home"))
    return tmp_path / "home/datasets"


def served(monkeypatch, kind: type, contents: dict[str, bytes]) -> Server:
    """Let a class download from a server of ours, which answers in the order of `contents`."""
    server = Server(b"")
    plan = []
    for content in contents.values():

        def answer(request, content=content):
            server.content = content
            whole(request)

        plan.append(answer)
    server.plan = plan
    rows = [
        (f"{server.root}/{name}", hashlib.md5(content).hexdigest())
        for name, content in contents.items()
    ]
    monkeypatch.setattr(kind, "archives", tuple(rows))
    return server


def test_missing_digits_are_downloaded_once_into_mindcvs_folder(root, home, monkeypatch):
    names = [name for name, _ in dataset_download.MnistDownload.resources]
    contents = {
        name: gzip.compress((root / "mnist" / name.removesuffix(".gz")).read_bytes())
        for name in names
    }
    server = served(monkeypatch, dataset_download.MnistDownload, contents)
    for _ in range(2):  # the second one finds the files
        dataset = create_dataset("MNIST", split="train", download=True, shuffle=False)
        assert dataset.samples.labels.tolist() == RECORDED["datasets"]["mnist"]["label"]
    server.close()
    assert len(server.requests) == 4
    assert {path.name for path in (home / "mnist").iterdir() if path.suffix != ".lock"} == {
        name.removesuffix(".gz") for name in names
    }


def tar_of(folder: Path) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(folder, folder.name)
    return file.getvalue()


def test_an_archive_that_was_put_there_by_hand_is_unpacked(root, home, monkeypatch):
    content = tar_of(root / "cifar100/cifar-100-binary")
    server = served(monkeypatch, dataset_download.Cifar100Download, {"cifar.tar": content})
    server.close()  # nobody answers
    monkeypatch.setattr(dataset_download.Cifar100Download, "files", ("test.bin",))
    (home / "cifar100").mkdir(parents=True)
    (home / "cifar100/cifar.tar").write_bytes(content)
    dataset = create_dataset("cifar100", split="test", download=True)
    assert len(dataset.samples) == 10000 and server.requests == []


def test_files_of_an_archive_appear_complete_and_a_killed_unpacking_is_repeated(
    root, home, monkeypatch
):
    content = tar_of(root / "cifar100/cifar-100-binary")
    served(monkeypatch, dataset_download.Cifar100Download, {"cifar.tar": content}).close()
    monkeypatch.setattr(dataset_download.Cifar100Download, "files", ("test.bin",))
    target = home / "cifar100/cifar-100-binary/test.bin"
    (home / "cifar100/.cifar100.unfinished/of-a-killed-process").mkdir(parents=True)
    (home / "cifar100/cifar.tar").write_bytes(content)
    replace, download = os.replace, dataset_download.Cifar100Download()

    def killed(source, place):
        assert Path(source).stat().st_size and not target.exists()
        if Path(place) == target:
            raise KeyboardInterrupt
        replace(source, place)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dataset_download.os, "replace", killed)
        download.download()
    assert not download.is_there() and (home / "cifar100/cifar.tar").is_file()
    download.download()
    assert download.is_there()
    assert {path.name for path in (home / "cifar100").iterdir()} == {
        "cifar-100-binary", ".cifar100.lock",
    }  # fmt: skip


def test_files_beside_an_archive_are_awaited_but_those_one_can_only_read_are_used(
    home, monkeypatch
):
    class Own(dataset_download.Cifar10Download):
        url = ("https://x.invalid/own.tar", "0" * 32)
        files = ("a.bin",)

    (home / "cifar10").mkdir(parents=True)
    for name in ("a.bin", "own.tar"):
        (home / "cifar10" / name).touch()
    waited = []
    locked = dataset_download.locked
    monkeypatch.setattr(
        dataset_download, "locked", lambda *place: waited.append(place) or locked(*place)
    )
    assert Own().archives == (Own.url,)
    Own().download()
    assert [url for _, url in waited] == ["https://x.invalid/own.tar"]
    monkeypatch.setattr(dataset_download.os, "access", lambda *_: False)
    Own().download()
    (home / "cifar10/own.tar").unlink()
    monkeypatch.undo()
    assert len(waited) == 1


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_without_network_the_error_says_what_to_get_and_where_to_put_it(home, monkeypatch, name):
    monkeypatch.setenv("MINDCV_OFFLINE", "1")
    with pytest.raises(DataError) as caught:
        create_dataset(name, download=True)
    file = {"mnist": "train-images-idx3-ubyte.gz"}.get(name, f"{name[:5]}-{name[5:]}-binary.tar.gz")
    message = str(caught.value)
    assert file in message and "cannot be fetched: MINDCV_OFFLINE is set" in message
    assert message.endswith(f"put it at {home / name / file}")


def test_the_classes_of_mindcv_name_its_folders(home):
    assert mindcv.data.get_dataset_download_root() == str(home)
    found = {
        kind(): kind("elsewhere").path
        for kind in (
            mindcv.data.MnistDownload,
            mindcv.data.Cifar10Download,
            mindcv.data.Cifar100Download,
        )
    }
    assert [(own.root, own.path) for own in found] == [
        (f"{home}/mnist", f"{home}/mnist"),
        (f"{home}/cifar10", f"{home}/cifar10/cifar-10-batches-bin"),
        (f"{home}/cifar100", f"{home}/cifar100/cifar-100-binary"),
    ]
    assert list(found.values()) == [
        "elsewhere", "elsewhere/cifar-10-batches-bin", "elsewhere/cifar-100-binary",
    ]  # fmt: skip


def test_addresses_follow_those_of_a_subclass(home):
    class Fashion(dataset_download.MnistDownload):
        url_path, resources = "https://x.invalid/", (("train-images-idx3-ubyte.gz", "0" * 32),)

    assert Fashion().archives == (("https://x.invalid/train-images-idx3-ubyte.gz", "0" * 32),)


def test_a_missing_root_is_looked_for_in_mindcvs_folder(home):
    with pytest.raises(DataError, match=f"{home}/imagenet"):
        create_dataset("imagenet")


def test_a_folder_that_cannot_be_written_is_named(home, tmp_path):
    (tmp_path / "file").write_text("")
    told = f"{tmp_path}/file/inner cannot be written: Not a directory"
    with pytest.raises(DataError, match=told):
        create_dataset("cifar10", str(tmp_path / "file/inner"), download=True)

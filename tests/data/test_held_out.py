"""val_fraction: images held out of the training set, the same ones wherever they lie."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, WARM, write_images
from packed_sets import quiet_pack

from mindcv.data import create_dataset, open_samples, register_dataset, training_classes
from mindcv.data.samples.subset import hold_out, write_split
from mindcv.errors import ConfigError, DataError


class InMemory:
    """Images of given contents, as `Samples`."""

    encoded, in_memory, class_names = True, True, None

    def __init__(self, contents: list[bytes], labels: list[int]):
        self.contents, self.labels = contents, np.array(labels, np.int32)
        self.num_classes = max(labels) + 1
        self.coarse_labels = self.labels + 100

    def __len__(self):
        return len(self.contents)

    def read(self, index):
        return np.frombuffer(self.contents[index], np.uint8)

    def name(self, index):
        return f"image {index}"

    def fingerprint(self):
        return "in memory"


def sides(samples, fraction: float) -> tuple[set[bytes], set[bytes]]:
    """Return the contents of both sides."""
    return tuple(
        {side.read(index).tobytes() for index in range(len(side))}
        for side in (hold_out(samples, fraction, held_out) for held_out in (False, True))
    )


def opened(*place, **named) -> tuple[set[bytes], set[bytes]]:
    both = [open_samples(*place, held_out=h, val_fraction=0.25, **named) for h in (False, True)]
    return tuple({s.read(index).tobytes() for index in range(len(s))} for s in both)


@pytest.fixture
def pets(tmp_path) -> Path:
    write_images(tmp_path / "pets", 60, 3)
    return tmp_path / "pets"


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.9])
def test_each_class_gives_its_share_and_has_an_image_on_both_sides(fraction):
    rng = np.random.default_rng(1)
    counts = [2, 3, 5, 10, 101]
    labels = rng.permutation(np.repeat(np.arange(5), counts)).tolist()
    samples = InMemory([rng.bytes(30) for _ in labels], labels)
    train, val = (hold_out(samples, fraction, held_out) for held_out in (False, True))
    held = np.bincount(val.labels, minlength=5)
    for count, own in zip(counts, held.tolist()):
        nearest = min(range(1, count), key=lambda whole: abs(whole - fraction * count))
        assert abs(own - fraction * count) == abs(nearest - fraction * count), (count, own)
    assert (np.bincount(train.labels, minlength=5) + held).tolist() == counts
    names = [side.name(index) for side in (train, val) for index in range(len(side))]
    assert sorted(names) == sorted(map(samples.name, range(len(samples))))
    assert (val.coarse_labels == val.labels + 100).all()


def test_the_rule_is_the_one_that_sha256sum_finds(pets):
    """Held out: the images of a class whose size and start have the smallest hashes."""
    found = opened("", str(pets), "train")[1]
    for folder in pets.iterdir():
        starts = {}
        for path in folder.iterdir():
            content = path.read_bytes()
            start = len(content).to_bytes(8, "little") + content[:4096]
            digest = subprocess.run(["sha256sum"], input=start, capture_output=True, check=True)
            starts[digest.stdout] = content
        expected = {starts[digest] for digest in sorted(starts)[: len(starts) // 4]}
        assert expected == found & set(starts.values())


def test_the_same_images_are_divided_alike_as_folder_list_packed_and_renamed(pets, tmp_path):
    expected = opened("", str(pets), "train")
    for index, path in enumerate(sorted(pets.rglob("*.jpg"))):
        place = tmp_path / "renamed/train" / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / f"{index * 7 % 61}.jpeg")
    assert opened("imagenet", str(tmp_path / "renamed"), "train") == expected
    lines = [f"{path},{path.parent.name}" for path in pets.rglob("*.jpg")]
    (tmp_path / "train.csv").write_text("\n".join(["path,label", *lines]))
    assert opened("csv", str(tmp_path), "train") == expected
    quiet_pack(pets, tmp_path / "packed")
    assert opened("mindrecord", str(tmp_path / "packed"), "pets") == expected

    class Own:
        paths = sorted(pets.rglob("*.jpg"))
        labels = [int(path.parent.name[-1]) for path in paths]

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            return self.paths[index].read_bytes(), self.labels[index]

    register_dataset("held-out-own", lambda root, split: Own())
    assert opened("held-out-own", str(tmp_path), "train") == expected


def test_an_added_image_moves_at_most_one_other():
    rng = np.random.default_rng(2)
    contents = [rng.bytes(20) for _ in range(60)]
    for count in range(2, 60):
        before = sides(InMemory(contents[:count], [0] * count), 0.2)[1]
        after = sides(InMemory(contents[: count + 1], [0] * (count + 1)), 0.2)[1]
        assert len((before ^ after) - {contents[count]}) <= 1, count


def test_copies_of_an_image_and_images_that_only_begin_alike():
    rng = np.random.default_rng(3)
    same_start = [bytes(5000) + rng.bytes(20) for _ in range(20)]  # as uncompressed borders
    train, val = sides(InMemory(same_start, [0] * 20), 0.25)
    assert (len(train), len(val)) == (15, 5)
    copied = [rng.bytes(20) for _ in range(10)] * 3
    train, val = sides(InMemory(copied, [0] * 30), 0.2)
    assert (len(train), len(val)) == (8, 2) and not train & val


def test_a_class_without_two_different_images_is_an_error_that_names_it(pets):
    first = next((pets / "class_1").iterdir()).read_bytes()
    for path in (pets / "class_1").iterdir():
        path.write_bytes(first)
    for path in sorted((pets / "class_2").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="2 of 3 classes hold only one: class_1, class_2; add"):
        open_samples("", str(pets), "train", val_fraction=0.2)
    for wrong in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="val_fraction .* expected a share"):
            open_samples("", str(pets), "train", val_fraction=wrong)


def test_a_broken_link_and_an_empty_file_are_left_to_the_training(pets):
    (pets / "class_0/broken.jpg").symlink_to("nowhere")
    (pets / "class_0/empty.jpg").touch()
    both = [open_samples("", str(pets), "train", val_fraction=0.2, held_out=h) for h in (0, 1)]
    assert sum(map(len, both)) == 62


def test_an_error_of_a_users_own_dataset_names_the_image():
    class Broken(InMemory):
        def read(self, index):
            return {}[index]

    with pytest.raises(DataError, match="image 0: reading it raised KeyError: 0"):
        hold_out(Broken([b"a", b"b"], [0, 0]), 0.5, True)


@pytest.mark.parametrize("held_out", [False, True])
def test_images_that_are_drawn_anew_at_each_reading_are_not_divided(held_out):
    class Drawn(InMemory):
        rng = np.random.default_rng(4)

        def read(self, index):
            return super().read(index)[:: self.rng.choice((1, -1))]

    with pytest.raises(DataError, match="image .* is another one each time it is read"):
        hold_out(Drawn([bytes([index, 0]) for index in range(1, 41)], [0, 1] * 20), 0.2, held_out)


def test_the_others_of_a_side_are_the_other_side():
    samples = InMemory([bytes([index]) for index in range(40)], [0, 1] * 20)
    train, val = (hold_out(samples, 0.2, held_out) for held_out in (False, True))
    assert train.others().fingerprint() == val.fingerprint() == val.others().others().fingerprint()


def test_without_splits_the_folder_itself_is_divided_else_the_training_split(pets, tmp_path):
    assert training_classes("", str(pets), "train", 0.2) == {f"class_{i}": i for i in range(3)}
    assert training_classes("", str(pets), "train") is None
    (tmp_path / "data").mkdir()
    shutil.copytree(pets, tmp_path / "data/train")
    write_images(tmp_path / "data/val", 6, 3, seed=9)
    assert opened("", str(tmp_path / "data"), "train") == opened("", str(pets), "train")
    (pets / "train").mkdir()  # a class of this name
    shutil.copy(next((pets / "class_0").iterdir()), pets / "train/1.jpg")
    shutil.copy(next((pets / "class_1").iterdir()), pets / "train/2.jpg")
    assert "train" in open_samples("", str(pets), "train", val_fraction=0.2).class_names
    shutil.rmtree(tmp_path / "data/train")
    with pytest.raises(DataError, match="no image folder .*/data/train"):
        open_samples("", str(tmp_path / "data"), "train", val_fraction=0.2)


def test_a_list_without_splits_is_divided_whole_and_another_one_in_its_training_split(
    pets, tmp_path
):
    whole = open_samples("", str(pets), ".")
    rows = [(whole.path(i).decode(), whole.labels[i]) for i in range(len(whole))]
    lines = [f"{path},class_{label}\n" for path, label in rows]
    (tmp_path / "labels.csv").write_text("".join(["path,label\n", *lines]))
    text = json.dumps([{"path": path, "label": f"class_{label}"} for path, label in rows])
    (tmp_path / "labels.json").write_text(text)
    for kind in ("csv", "json"):
        place = kind, str(tmp_path / f"labels.{kind}"), "train"
        assert opened(*place) == opened("", str(pets), "train")
        assert training_classes(*place, 0.25) == {f"class_{label}": label for label in range(3)}
    train = open_samples("", str(pets), "train", val_fraction=0.25)
    write_split(tmp_path / "split.csv", train)
    divided = opened("csv", str(tmp_path / "split.csv"), "train")
    assert set.union(*divided) == {train.read(index).tobytes() for index in range(len(train))}


def test_a_folder_of_classes_alone_is_an_error_whose_remedies_work(pets):
    for split in ("train", "val"):
        with pytest.raises(DataError) as error:
            open_samples("", str(pets), split)
        assert "look like classes" in str(error.value) and "--val_fraction 0.2" in str(error.value)
    pets.rename(pets.with_name("train"))
    with pytest.raises(
        DataError, match="/val; .* holds train; --val_fraction 0.2 evaluates on 20 %"
    ):
        open_samples("", str(pets.parent), "val")


def test_the_written_list_reads_as_the_same_two_splits(pets, tmp_path):
    odd = pets / os.fsdecode(b'=cl\xff, "s"')
    shutil.copytree(pets / "class_0", odd)
    held = [open_samples("", str(pets), "train", val_fraction=0.25, held_out=h) for h in (0, 1)]
    write_split(tmp_path / "split.csv", held[0])
    for split, expected in zip(("train", "val"), held):
        found = open_samples("csv", str(tmp_path / "split.csv"), split)
        assert [found.path(i) for i in range(len(found))] == [
            os.path.abspath(expected.path(i)) for i in range(len(expected))
        ]
        assert found.class_names == expected.class_names
        assert found.labels.tolist() == expected.labels.tolist()


def test_classes_and_extensions_choose_among_the_images_of_a_side(pets):
    for path in sorted((pets / "class_0").iterdir())[::2]:
        path.rename(path.with_suffix(".jpeg"))
    chosen = create_dataset(
        *("imagenet", str(pets), "train", False),
        class_indexing={"class_0": 0, "class_2": 1},
        extensions=".jpeg",
        val_fraction=0.25,
    )
    whole = open_samples("", str(pets), "train", val_fraction=0.25)
    names = [whole.name(index) for index in range(len(whole))]
    expected = [name for name in names if "class_0" in name and name.endswith(".jpeg")]
    assert [chosen.samples.name(i) for i in range(len(chosen.samples))] == expected
    assert chosen.samples.labels.tolist() == [0] * len(expected) and chosen.num_classes() == 2


def refused(words: list, place: Path) -> str:
    done = WARM.run(words, place)
    assert done.code == 2, done.err
    return done.err


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_train_validate_report_and_resume_use_one_split(pets, tiny_models, tmp_path):
    common = ["--import_module", tiny_models, "--data_dir", pets, "--val_fraction", "0.25"]
    words = [*common, "--model", "tiny", "--image_resize", "32", "--batch_size", "8"]
    words += ["--ckpt_save_dir", tmp_path / "run", "--val_while_train", "True", "--epoch_size", "2"]
    words += ["--warmup_epochs", "1"]
    before = digests(pets)
    told = refused(["train.py", *words, "--val_split", "test"], tmp_path)
    assert "val_split: is not read: val_fraction holds its images out" in told
    done = WARM.run(["train.py", *words], tmp_path)
    assert done.code == 0, done.err
    assert digests(pets) == before
    assert "45 images to train on, 15 of each class" in done.out
    assert "evaluating on 15 images, 0.25 of train in" in done.out
    trained = re.search("epoch 2: (top-1 .*)", done.out)[1]
    run = tmp_path / "run"
    config = ["--config", run / "config.yaml", "--ckpt_path", run / "tiny-2_5.ckpt"]
    validated = WARM.run(["validate.py", *config, "--results_dir", tmp_path / "found"], tmp_path)
    assert validated.code == 0 and trained in validated.out, validated.err
    assert '"split": "0.25 of train"' in (tmp_path / "found/metrics.json").read_text()
    reported = WARM.run(["mindcv", "report", tmp_path / "run"], tmp_path)
    assert "on 0.25 of train of" in reported.out and "15 images" in reported.out, reported.err
    lists = ["--dataset", "csv", "--data_dir", tmp_path / "run/split.csv", "--val_fraction", "0"]
    again = WARM.run(["validate.py", *config, *lists], tmp_path)
    assert trained in again.out, again.err
    shutil.copy(next((pets / "class_1").iterdir()), pets / "class_1/added.jpg")
    resumed = WARM.run(["train.py", *words, "--resume", "auto"], tmp_path)
    assert resumed.code == 4 and "the dataset is not the one" in resumed.err, resumed.err


def test_the_commands_of_the_documentation_run(pets, tiny_models, tmp_path):
    """On other images, and on a tiny network in place of published weights."""
    text = "".join((ROOT / f"docs/{name}.md").read_text("utf-8") for name in ("finetune", "data"))
    lines = re.findall("^mindcv train .*(?:val_fraction|split.csv).*$", text, re.MULTILINE)
    assert len(lines) == 3
    own = f"--import_module {tiny_models} --model tiny --drop_path_rate null --image_resize 32"
    own += " --batch_size 8 --epoch_size 1 --warmup_epochs 0 --layer_decay null --val_interval 1"
    for line in lines:
        line = re.sub(r"/path/to/\w+", str(pets), line).replace(" --pretrained", "")
        folder = "" if "ckpt_save_dir" in line else " --ckpt_save_dir finetuned --resume auto"
        done = WARM.run([*f"{line} {own}{folder}".split()], tmp_path)
        assert done.code == 0, done.err
        assert "3 classes: class_0, class_1, class_2" in done.out
    assert {"finetuned", "again"} <= {path.name for path in tmp_path.iterdir()}

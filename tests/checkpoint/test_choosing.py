"""Which checkpoint a run goes on from; what is damaged is named, and nothing is begun anew."""

from pathlib import Path

import pytest
from checkpoints import files, save

from mindcv.checkpoint import STATE, CheckpointStore, choose_checkpoint
from mindcv.errors import ConfigError, WeightsError
from mindcv.weights import read_weights


def test_where_all_are_bad_the_run_is_refused_and_never_begun_anew(store):
    for epoch in (1, 2, 3):
        damage = save(store, epoch).file(".ckpt")
        damage.write_bytes(damage.read_bytes()[:-1])
    before = files(store.folder)
    with pytest.raises(WeightsError, match="none of the 3 checkpoints .* never begun anew") as told:
        choose_checkpoint(store.folder, "auto")
    assert all(f"net-{epoch}_4.ckpt" in str(told.value) for epoch in (1, 2, 3))
    assert files(store.folder) == before
    (store.folder / "net-3_4.json").unlink()  # what lacks its manifest is no reason to restart
    with pytest.raises(WeightsError, match="none of the 3"):
        choose_checkpoint(store.folder, "auto")


def test_damaged_ones_are_set_aside_with_a_warning(store, log_lines):
    save(store, 1), save(store, 2)
    path = save(store, 3).file(STATE)
    path.write_bytes(b"")
    assert choose_checkpoint(store.folder, "auto").path.name == "net-2_4.json"
    assert "net-3_4.state.npz is damaged: 0 bytes" in log_lines[0]
    assert "the one before is used, its files are in" in log_lines[0]
    assert (store.folder / "damaged-1/net-3_4.ckpt").exists()
    assert store.names() == ["net-2_4", "net-1_4"]


def test_a_run_never_begins_in_a_folder_with_checkpoints(store):
    assert choose_checkpoint(store.folder, None) is None
    assert choose_checkpoint(store.folder, "auto") is None
    (store.folder / "net-3_4.ckpt").write_bytes(b"weights of an older version")
    for asked in (None, "auto"):
        with pytest.raises(ConfigError, match="1 weight files .* net-3_4.ckpt"):
            choose_checkpoint(store.folder, asked)
    save(store, 5)
    with pytest.raises(ConfigError, match="1 checkpoint, the newest net-5_4, .*--resume auto"):
        choose_checkpoint(store.folder, None)


def test_a_path_names_a_checkpoint_by_any_of_its_files(store, tmp_path):
    save(store, 1), save(store, 2)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("net-2_4.ckpt", "net-2_4.json", "net-2_4.state.npz", ""):
        chosen = choose_checkpoint(other, str(store.folder / name))
        assert chosen.path == store.folder / "net-2_4.json"
    assert choose_checkpoint(other, str(store.folder / "net-1_4.ckpt")).record["epoch"] == 1
    with pytest.raises(ConfigError, match="not the newest .* net-2_4 is"):
        choose_checkpoint(store.folder, str(store.folder / "net-1_4.ckpt"))
    with pytest.raises(WeightsError, match="no checkpoint"):
        choose_checkpoint(other, str(store.folder / "net-7_4.ckpt"))
    (other / "mine.ckpt").write_bytes(b"weights")
    with pytest.raises(WeightsError, match="no mine.json beside it"):
        choose_checkpoint(tmp_path, str(other / "mine.ckpt"))
    damaged = store.folder / "net-2_4.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    with pytest.raises(WeightsError, match="net-2_4.ckpt is damaged"):
        choose_checkpoint(other, str(damaged))


def test_nothing_is_changed_in_the_folder_of_another_run(store, tmp_path, log_lines):
    """It may be living, and amid a save."""
    save(store, 1)
    path = save(store, 2).file(".ckpt")
    path.write_bytes(path.read_bytes()[:-1])
    (store.folder / ".saving-7").mkdir()
    before = files(store.folder)
    other = tmp_path / "other"
    other.mkdir()
    assert choose_checkpoint(other, str(store.folder)).path.name == "net-1_4.json"
    assert "net-2_4.ckpt is damaged" in log_lines[0] and "before is used" in log_lines[0]
    assert files(store.folder) == before
    assert {path.name for path in store.folder.iterdir()} == {*before, ".saving-7"}


def test_a_new_run_from_another_folder_is_told_how_to_go_on(store, tmp_path):
    save(store, 1)
    other = CheckpointStore(tmp_path)
    save(other, 1)
    with pytest.raises(ConfigError, match="would go on from .*; add --resume auto to go on"):
        choose_checkpoint(tmp_path, str(store.folder))


def test_what_a_killed_run_left_and_cannot_be_removed_is_named(store):
    (store.folder / ".saving-2").write_text("a file")
    with pytest.raises(WeightsError, match="saving-2, left by a killed run, cannot .*; remove it"):
        choose_checkpoint(store.folder, "auto")


def test_a_damaged_one_that_cannot_be_set_aside_is_named(store, monkeypatch):
    save(store, 1)
    path = save(store, 2).file(STATE)
    path.write_bytes(b"")

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WeightsError, match="net-2_4 cannot be moved to .*damaged-1: Read-only"):
        choose_checkpoint(store.folder, "auto")


def test_weights_that_are_not_as_they_were_sealed_are_used_by_nobody(store):
    path = save(store, 1).file(".ckpt")
    content = bytearray(path.read_bytes())
    content[content.find(b"a.bias") - 100] ^= 1  # amid the numbers of the other tensor
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="net-1_4.ckpt is damaged: .*net-1_4.json if the file"):
        read_weights(path)
    (store.folder / "net-1_4.json").write_text("{}")  # damaged: the file tells it alone
    with pytest.raises(WeightsError, match="net-1_4.ckpt.*its checksum is not that of its content"):
        read_weights(path)
    content[content.find(b"a.bias") - 100] ^= 1
    path.write_bytes(content)
    assert set(read_weights(path).tensors) == {"a.weight", "a.bias"}

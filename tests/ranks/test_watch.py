"""How ranks find out that one of them has failed, at the cost of a file or two each."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mindcv.ranks import first_failure
from mindcv.ranks import record as record_module
from mindcv.ranks.record import OwnRecord, write_first_failure
from mindcv.ranks.watch import Watch


def watches_of(folder, world_size: int, pids: dict[int, int] | None = None) -> list[Watch]:
    """Return the watches of ranks that run, or have other process numbers."""
    records = [OwnRecord(folder, 9, rank) for rank in range(world_size)]
    processes = dict.fromkeys(range(world_size), os.getpid()) | (pids or {})
    write_first_failure(folder, None)
    return [Watch(record, processes) for record in records]


@pytest.mark.parametrize("world_size", [4, 32])
def test_a_look_of_all_ranks_opens_a_file_each_however_many_they_are(
    tmp_path, monkeypatch, world_size
):
    watches, opened, listed = watches_of(tmp_path, world_size), [], []
    monkeypatch.setattr(record_module, "read_regular", lambda path, most: opened.append(path))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: listed.append(self) or [])
    assert [watch.look() for watch in watches] == [None] * world_size
    names = [path.name for path in opened]
    assert names.count("first_failure") == world_size and listed == []
    assert len(names) == world_size + 1 and names.count("scheduler.json") == 1


def test_a_killed_rank_is_noticed_by_the_one_before_it_and_then_by_all(tmp_path, gone_pid):
    watches = watches_of(tmp_path, 4, {2: gone_pid})
    assert watches[0].look() is None and watches[3].look() is None  # it is not theirs to watch
    assert watches[1].look().rank == 2
    for watch in watches:
        assert watch.look().rank == 2
    assert first_failure(tmp_path, runs_before=[]).rank == 2


def test_a_rank_that_is_done_ends_nobody(tmp_path, gone_pid):
    watches = watches_of(tmp_path, 2, {1: gone_pid})
    watches[1].own.end(0, "")
    assert watches[0].look() is None


def test_a_rank_that_is_done_hands_on_whom_it_watched(tmp_path, gone_pid):
    watches = watches_of(tmp_path, 4, {1: gone_pid, 2: gone_pid})
    watches[1].own.end(0, "")
    assert watches[0].look().rank == 2


def test_who_was_killed_because_of_a_failure_is_not_its_cause(tmp_path, gone_pid):
    """A launcher kills the others within a second."""
    watches = watches_of(tmp_path, 3, {1: gone_pid, 2: gone_pid})
    watches[2].own.end(4, "image x.jpg cannot be read")
    assert watches[0].look().rank == 2
    watches[0].own.end(4, "stopped", of_rank=2)
    assert first_failure(tmp_path, runs_before=[]).rank == 2


def test_a_failure_of_a_run_before_ends_nobody(tmp_path):
    watches = watches_of(tmp_path, 2)
    write_first_failure(tmp_path, replace(watches[1].own.record, run=8))
    assert watches[0].look() is None

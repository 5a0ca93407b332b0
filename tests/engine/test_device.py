"""What a process finds out at its start: the others, and which cores are its own."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import pytest
from test_agreement import Together

from mindcv import engine
from mindcv.engine import device
from mindcv.errors import ConfigError, RankError
from mindcv.process import cpu


@pytest.fixture
def fresh_counts():
    """Let nobody see a number of threads that another test has found."""
    cpu.usable_workers.cache_clear()
    yield
    cpu.usable_workers.cache_clear()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be bound here")
def test_a_bound_process_has_the_cores_it_is_bound_to(monkeypatch, fresh_counts, log_lines):
    """As by `msrun --bind_core=True`, whatever the machine has."""
    monkeypatch.setattr(os, "cpu_count", lambda: 192)
    before = os.sched_getaffinity(0)
    core = min(before)
    try:
        os.sched_setaffinity(0, {core})
        assert cpu.available_cores() == [core]
        assert cpu.usable_workers(8) == cpu.usable_workers(None) == 1
        assert engine.Runtime("CPU", 0, "O1", 0, 1).workers(8) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert "num_parallel_workers 8 lowered to 1, the cores that this process has" in log_lines


def shares(monkeypatch, cores_of_ranks: list[list[int]], hosts: str) -> list[int]:
    """Return what `start_runtime` finds for each rank, which are threads here."""
    together, own = Together(len(cores_of_ranks)), threading.local()

    def share(rank):
        own.rank = rank
        return device._share_of_cores(together.of(rank))

    monkeypatch.setattr(device, "available_cores", lambda: cores_of_ranks[own.rank])
    monkeypatch.setattr(device, "own_pid_space", lambda: hosts[own.rank])
    with ThreadPoolExecutor(len(cores_of_ranks)) as pool:
        return list(pool.map(share, range(len(cores_of_ranks))))


ALL = list(range(24))


@pytest.mark.parametrize(
    "cores_of_ranks, hosts, expected",
    [
        ([ALL] * 4, "AAAA", [6] * 4),  # not bound
        ([ALL] * 4, "AABB", [12] * 4),
        ([ALL[:6], ALL[6:12], ALL[12:18], ALL[18:]], "AAAA", [6] * 4),  # bound one by one
        ([ALL[:12], ALL[:12], ALL[12:], ALL[12:]], "AAAA", [6] * 4),  # bound by NUMA node
        ([[0, 1]] * 4, "AAAA", [1] * 4),  # fewer cores than ranks
    ],
)
def test_ranks_share_the_cores_that_they_may_all_run_on(
    monkeypatch, cores_of_ranks, hosts, expected
):
    assert shares(monkeypatch, cores_of_ranks, hosts) == expected


def test_a_rank_that_is_missing_at_the_start_is_reported_at_once():
    runtime = Together(8).of(3)

    def gather(values):
        raise RuntimeError("EI0006: Getting socket times out. Reason: Remote Rank did not send\n\n")

    runtime.gather = gather
    with pytest.raises(RankError, match="rank 3 cannot reach all of the 8 processes.*EI0006"):
        device._share_of_cores(runtime)


def chosen_device(monkeypatch) -> dict:
    """Return what will be asked of MindSpore; its own device stays as it is."""
    chosen = {}
    name = "set_device" if hasattr(ms, "set_device") else "set_context"
    monkeypatch.setattr(ms, name, lambda *target, **options: chosen.update(options))
    return chosen


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({}, {}),
        ({"RANK_TABLE_FILE": "hccl.json", "DEVICE_ID": "3"}, {"device_id": 3}),
        ({"OMPI_COMM_WORLD_RANK": "11", "OMPI_COMM_WORLD_LOCAL_RANK": "3"}, {"device_id": 3}),
        ({"MS_ROLE": "MS_WORKER", "DEVICE_ID": "3"}, {}),  # msrun's affair
    ],
)
def test_each_process_of_a_rank_table_or_mpirun_takes_its_own_card(monkeypatch, environ, expected):
    chosen = chosen_device(monkeypatch)
    for key in ("MS_ROLE", "DEVICE_ID", "OMPI_COMM_WORLD_LOCAL_RANK"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    device._set_device("Ascend")
    chosen.pop("device_target", None)
    assert chosen == expected


def test_cards_that_mindspore_does_not_see_are_not_left_idle_in_silence(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "_ASCEND_DRIVER", tmp_path)
    with pytest.raises(ConfigError, match=r"set_env\.sh .* --device_target CPU"):
        device._set_device(None)
    chosen_device(monkeypatch)
    assert device._set_device("CPU") == "CPU"

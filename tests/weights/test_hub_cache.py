"""The cache of published weights: one process fills it, and a wrong file is never used."""

import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import misbehaving_server as answers
import pytest
from conftest import ROOT
from misbehaving_server import LOCK, Server, files, get, leave_part, make_impatient, refusal

from mindcv.errors import ConfigError, WeightsError
from mindcv.hub import PublishedWeights, fetch
from mindcv.hub.cache import place_of
from mindcv.process import download
from mindcv.process.files import cache_folder

CONTENT = b"some weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.org/models/net.pth"  # never asked: without a server these tests are offline
TORCH = {kind: ROOT / f"tests/golden/weights/{kind}.pth" for kind in ("zip", "legacy")}

# What a user's process does: wait for a line, fetch, print where.
PROGRAM = """
import sys
from mindcv.hub import PublishedWeights, fetch
print("ready", flush=True)
sys.stdin.readline()
print(fetch(PublishedWeights("regnet_x_200mf", "test", sys.argv[1], sys.argv[2])))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINDCV_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("MINDCV_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(answers.CONTENT)
    yield server
    server.close()


def weights(url: str = URL, sha256: str | None = DIGEST, **more) -> PublishedWeights:
    return PublishedWeights("regnet_x_200mf", "test", url, sha256, **more)


def put(row: PublishedWeights, content: bytes) -> Path:
    """Put the file where the message of an offline machine says."""
    with pytest.raises(WeightsError) as caught:
        fetch(row)
    place = Path(str(caught.value).rsplit("put it here: ", 1)[1])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def safetensors(size: int = 8, header: dict | None = None) -> bytes:
    header = header or {"fc.bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    "variables, folder",
    [
        ({"MINDCV_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"MINDCV_CACHE": "~/w", "XDG_CACHE_HOME": "/c"}, "/home/me/w"),
        ({"MINDCV_CACHE": "", "XDG_CACHE_HOME": "/c"}, "/c/mindcv"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/mindcv"),
        ({}, "/home/me/.cache/mindcv"),
    ],
)
def test_the_environment_chooses_the_folder(monkeypatch, variables, folder):
    for name in ("MINDCV_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://h/a/../../etc/passwd", "passwd"),
        ("https://h/a/%2e%2e/%2e%2e/net.pth", "net.pth"),
        ("https://h/%2e%2e%2f%2e%2e%2fnet.pth", "net.pth"),
        ("https://h/%252e%252e%252fnet.pth", "_2e_2e_2fnet.pth"),
        ("https://h/..%5c..%5cnet.pth", "net.pth"),
        ("https://h/net.pth?file=../../evil", "net.pth"),
        ("https://h/.bashrc", "bashrc"),
        ("https://h/a%00b%0a c.pth", "a_b__c.pth"),
    ],
)
def test_no_address_leads_out_of_the_cache(cache, url, name):
    assert place_of(weights(url)) == cache / "regnet_x_200mf/test" / name


@pytest.mark.parametrize("url", ["https://h/", "https://h/..", "https://h/%2e%2e", "https://h/a/."])
def test_an_address_without_a_file_name_is_refused(url):
    with pytest.raises(WeightsError, match="is not a file name"):
        place_of(weights(url))


def test_neither_model_nor_source_leads_out_of_the_cache(cache):
    row = PublishedWeights("../../model", "/etc", URL, DIGEST)
    assert place_of(row) == cache / "_.._model/_etc/net.pth"


def test_offline_tells_address_and_place_and_takes_a_file_put_there():
    with pytest.raises(WeightsError, match=f"MINDCV_OFFLINE is set\n  address: {URL}"):
        fetch(weights())
    place = put(weights(), CONTENT)
    assert fetch(weights()) == place


def test_a_doubtful_wish_to_be_offline_is_refused(monkeypatch):
    monkeypatch.setenv("MINDCV_OFFLINE", "perhaps")
    with pytest.raises(ConfigError, match="MINDCV_OFFLINE: expected 1 or 0, got 'perhaps'"):
        fetch(weights())


def test_a_wrong_file_in_the_cache_is_told_with_both_hashes_and_kept():
    place = put(weights(), b"other weights")
    with pytest.raises(WeightsError, match=f"expected {DIGEST}") as caught:
        fetch(weights())
    message = str(caught.value)
    assert hashlib.sha256(b"other weights").hexdigest() in message
    assert f"delete {place}" in message and URL in message
    assert place.read_bytes() == b"other weights"


def test_published_digits_are_compared_with_the_start_of_the_hash():
    put(weights(), CONTENT)
    fetch(weights(sha256=DIGEST[:8]))
    with pytest.raises(WeightsError, match="expected 01234567…"):
        fetch(weights(sha256="01234567"))


def test_a_cache_that_cannot_be_written_serves_what_it_holds(cache):
    place = put(weights(), CONTENT)
    for folder in (place.parent, cache):
        folder.chmod(0o555)
    try:
        assert fetch(weights()) == place
        assert os.listdir(place.parent) == ["net.pth"]  # no lock, no record
    finally:
        for folder in (cache, place.parent):
            folder.chmod(0o755)


@pytest.mark.parametrize("part", ["regnet_x_200mf", "regnet_x_200mf/test"])
def test_a_link_in_place_of_a_folder_of_the_cache_is_told(cache, tmp_path, monkeypatch, part):
    place = put(weights(), CONTENT)
    outside = (cache / part).rename(tmp_path / "outside")
    (cache / part).symlink_to(outside)
    for offline in ("1", "0"):
        monkeypatch.setenv("MINDCV_OFFLINE", offline)
        with pytest.raises(WeightsError, match=f"{part}: it is a symbolic link"):
            fetch(weights())
    assert not list(outside.rglob("*.lock"))
    (cache / part).unlink()
    outside.rename(cache / part)
    assert fetch(weights()) == place


@pytest.mark.parametrize(
    "name, sha256", [("net.pth", DIGEST), ("net.pth", None), ("net.pth.sha256", None)]
)
def test_a_link_or_pipe_in_place_of_a_file_of_the_cache_is_told(tmp_path, name, sha256):
    row = weights(sha256=sha256)
    path = put(row, TORCH["legacy"].read_bytes()).with_name(name)
    path.unlink(missing_ok=True)
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT)
    path.symlink_to(outside)
    with pytest.raises(WeightsError, match="it is a symbolic link"):
        fetch(row)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(WeightsError, match="it is no regular file"):
        fetch(row)
    assert outside.read_bytes() == CONTENT


def test_without_a_known_hash_the_first_one_is_recorded_and_must_stay(caplog):
    row = weights("https://h/model.safetensors", None)
    first, second = safetensors(), safetensors()[:-1] + b"!"
    place = put(row, first)
    with caplog.at_level(logging.WARNING):
        assert fetch(row) == place
    assert "no published hash of https://h/model.safetensors is known: trusted" in caplog.text
    record = place.with_name("model.safetensors.sha256")
    assert record.read_text() == f"{hashlib.sha256(first).hexdigest()}  model.safetensors\n"
    caplog.clear()
    fetch(row)
    assert caplog.text == ""
    place.write_bytes(second)
    with pytest.raises(WeightsError, match="is not what it was at its first use") as caught:
        fetch(row)
    assert all(hashlib.sha256(each).hexdigest() in str(caught.value) for each in (first, second))
    assert place.read_bytes() == second


def test_a_damaged_record_is_told():
    row = weights("https://h/model.safetensors", None)
    place = put(row, safetensors())
    place.with_name("model.safetensors.sha256").write_text("nonsense")
    with pytest.raises(WeightsError, match="holds no SHA-256"):
        fetch(row)


@pytest.mark.parametrize(
    "content, fault",
    [
        (safetensors(7), "cut off or damaged"),
        (safetensors(9), "cut off or damaged"),
        (b"\xff" * 40, "no known format"),
        (b"", "is empty"),
        (b"PK\x03\x04 cut off", "cut off or damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\n <!DOCTYPE HTML><p>Not found", "is a web page"),
    ],
)
def test_without_a_known_hash_it_must_be_a_whole_weight_file(content, fault):
    row = weights(sha256=None)
    place = put(row, content)
    with pytest.raises(WeightsError, match=fault) as caught:
        fetch(row)
    assert f"delete {place}" in str(caught.value)
    assert files(place.parent) == ["net.pth"]


def test_without_a_known_hash_the_size_must_fit_the_parameters():
    row = weights("https://h/model.safetensors", None, params=2.68)
    put(row, safetensors())
    with pytest.raises(WeightsError, match="bytes are too few for 2.68 million parameters"):
        fetch(row)


@pytest.mark.parametrize("kind", TORCH)
def test_without_a_known_hash_torch_files_of_both_kinds_are_taken(kind):
    row = weights(sha256=None)
    place = put(row, TORCH[kind].read_bytes())
    assert fetch(row) == place


def test_a_file_that_is_fetched_again_must_be_the_one_of_its_first_use(server):
    server.content = TORCH["zip"].read_bytes()
    get(server, None).unlink()
    assert get(server, None).read_bytes() == server.content
    get(server, None).unlink()
    server.content = TORCH["legacy"].read_bytes()
    assert "is not what it was at its first use" in refusal(server, None)


# ---- many processes, and killed ones


def start(server) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, answers.DIGEST],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process


def test_processes_that_ask_at_once_cause_one_transfer(server, cache):
    server.plan = [answers.slow(0.5)]
    processes = [start(server) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    path = cache / "regnet_x_200mf/test/net-1234.pth"
    assert outputs == {f"{path}\n"} and path.read_bytes() == answers.CONTENT
    assert len(server.requests) == 1


def test_a_killed_download_is_continued_by_the_next_process(server, cache):
    server.plan = [answers.then_silence(0.5, 30), answers.whole]
    process = start(server)
    process.stdin.write("go\n")
    process.stdin.flush()
    part = cache / "regnet_x_200mf/test/net-1234.pth.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = part.stat().st_size
    assert not part.with_suffix("").exists() and kept <= len(answers.CONTENT) // 2
    assert get(server).read_bytes() == answers.CONTENT
    assert server.requests[1]["Range"] == f"bytes={kept}-"
    assert files(cache) == ["net-1234.pth", LOCK]


def test_waiting_for_another_process_has_an_end(server, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    path = place_of(weights(server.url))
    path.parent.mkdir(parents=True)
    with path.with_name(LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(download, "DEADLINE", 0.2)
        assert "another process has been fetching" in refusal(server)
    assert server.requests == []


# ---- the disk


def test_a_full_disk_is_told_and_left_no_fuller(server, cache):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(answers.CONTENT) // 2, before[1]))
    try:
        assert "net-1234.pth.part: File too large" in refusal(server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == [LOCK]


def test_a_cache_folder_that_cannot_be_written_is_told(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "file/cache"))
    assert "Not a directory" in refusal(server)
    assert server.requests == []


def test_a_symbolic_link_does_not_lead_a_download_out_of_the_cache(server, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(answers.CONTENT[:100])
    part = leave_part(server, b"")
    part.unlink()
    part.symlink_to(outside)
    assert "it is a symbolic link" in refusal(server)
    assert get(server).read_bytes() == answers.CONTENT
    assert outside.read_bytes() == answers.CONTENT[:100]


@pytest.mark.parametrize("status, tries", [(403, 1), (407, 1), (503, 4)])
def test_the_proxy_of_the_environment_is_used_and_its_refusal_is_final(
    server, monkeypatch, status, tries
):
    waits = make_impatient(monkeypatch)
    server._http.RequestHandlerClass.do_CONNECT = lambda handler: handler.send_error(status)
    monkeypatch.setenv("https_proxy", server.root)
    with pytest.raises(WeightsError, match=f"Tunnel connection failed: {status}"):
        fetch(weights())
    assert len(waits) == tries - 1

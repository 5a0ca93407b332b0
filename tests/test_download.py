"""Downloads end with the whole, verified file or with a message, whatever the server does."""

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import misbehaving_server as answers
import pytest
from conftest import ROOT
from misbehaving_server import Server, whole

from mindcv.errors import WeightsError
from mindcv.hub import PublishedWeights, fetch
from mindcv.hub.cache import place_of
from mindcv.hub.download import Patience

CONTENT = bytes(range(256)) * 4000  # 1 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PATIENCE = Patience(4, first_wait=1, longest_wait=8, stall=0.3, slowest=1000, deadline=20)

# What a user's process does: wait for a line, fetch, print where.
PROGRAM = """
import sys
from mindcv.hub import PublishedWeights, fetch
print("ready", flush=True)
sys.stdin.readline()
print(fetch(PublishedWeights("regnet_x_200mf", "test", sys.argv[1], sys.argv[2])))
"""


@pytest.fixture
def server():
    server = Server(CONTENT)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINDCV_OFFLINE", raising=False)
    return tmp_path / "cache"


def weights(url: str, sha256: str | None = DIGEST, **more) -> PublishedWeights:
    return PublishedWeights("regnet_x_200mf", "test", url, sha256, **more)


def get(server, sha256=DIGEST, waits=None, patience=PATIENCE, **more) -> Path:
    waits = [] if waits is None else waits
    return fetch(weights(server.url, sha256, **more), patience, waits.append)


def refusal(server, sha256=DIGEST, **more) -> str:
    """Fetch in vain and return the message, which always tells address and place."""
    with pytest.raises(WeightsError) as caught:
        get(server, sha256, **more)
    assert caught.value.exit_code == 5
    message = str(caught.value)
    assert server.url in message and str(place_of(weights(server.url))) in message
    return message


def leave_part(server) -> Path:
    """Write the origin of a part that a dead process left; return the part, to be written."""
    part = place_of(weights(server.url)).with_name("net-1234.pth.part")
    part.parent.mkdir(parents=True)
    origin = {"url": server.url, "validator": '"first"', "length": len(CONTENT)}
    part.with_name("net-1234.pth.part.json").write_text(json.dumps(origin))
    return part


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once_under_its_name_and_nothing_else_is_left(server, cache, capfd):
    path = get(server)
    assert path == cache / "regnet_x_200mf/test/net-1234.pth"
    assert path.read_bytes() == CONTENT
    assert get(server) == path and len(server.requests) == 1
    assert files(cache) == ["net-1234.pth", "net-1234.pth.lock"]
    assert capfd.readouterr() == ("", "")  # no progress bar without a terminal


def test_the_published_digits_of_a_hash_suffice(server):
    assert get(server, DIGEST[:8]).read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [answers.no_ranges, answers.no_length])
def test_a_plain_server_is_good_enough(server, answer):
    server.plan = [answer]
    assert get(server).read_bytes() == CONTENT


def test_progress_is_shown_on_a_terminal(server, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    get(server)
    assert "net-1234.pth:" in terminal.getvalue() and "1.02M" in terminal.getvalue()


# ---- an attempt that breaks off


@pytest.mark.parametrize(
    "answer, reason",
    [
        (answers.short(0.6), "the transfer ended after 614400 of 1024000 bytes"),
        (answers.reset(0.6), "ConnectionResetError"),
        (answers.then_silence(0.6, 1.0), "the server fell silent"),
    ],
)
def test_a_broken_transfer_is_continued_where_it_broke(server, answer, reason, caplog):
    server.plan, waits = [answer, whole], []
    assert get(server, waits=waits).read_bytes() == CONTENT
    kept = int(server.requests[1]["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < kept <= 0.6 * len(CONTENT) and server.requests[1]["If-Range"] == '"first"'
    assert server.sent[1] == len(CONTENT) - kept
    assert len(waits) == 1 and reason in caplog.text


def test_a_file_that_changed_meanwhile_is_begun_anew(server):
    def change(handler):
        server.etag = '"second"'
        server.content = CONTENT[::-1]
        whole(handler)

    server.plan = [answers.short(0.5), change]
    assert get(server, hashlib.sha256(CONTENT[::-1]).hexdigest()).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    "answer",
    [answers.no_ranges, answers.wrong_range, answers.status(416)],
    ids=["no ranges", "wrong range", "416"],
)
def test_a_server_that_cannot_continue_makes_it_begin_anew(server, answer):
    server.plan = [answers.short(0.5), answer, whole]
    assert get(server).read_bytes() == CONTENT


def test_pieces_that_do_not_fit_together_are_discarded_and_fetched_whole(server):
    other = CONTENT[::-1][: len(CONTENT) // 2]
    leave_part(server).write_bytes(other)
    assert get(server).read_bytes() == CONTENT
    assert [request["Range"] is None for request in server.requests] == [False, True]


def test_without_a_known_hash_nothing_of_a_dead_process_is_trusted(server):
    leave_part(server).write_bytes(b"\x80\x02" + CONTENT[:100])
    server.content = b"\x80\x02" + CONTENT
    assert get(server, None).read_bytes() == b"\x80\x02" + CONTENT
    assert server.requests[0]["Range"] is None


def test_attempts_are_bounded_and_waits_grow(server):
    server.plan, waits = [answers.status(500)], []
    assert "HTTP 500 Internal Server Error (attempt 4 of 4)" in refusal(server, waits=waits)
    assert len(server.requests) == 4
    assert all(low <= wait <= 2 * low for low, wait in zip((0.5, 1, 2), waits, strict=True))


@pytest.mark.parametrize(
    "asked, wait", [("3", 3), ("9999", 8), (formatdate(0, usegmt=True), 0), (formatdate(0), 0)]
)
def test_a_wait_the_server_asks_for_is_kept_within_bounds(server, asked, wait):
    server.plan, waits = [answers.status(503, Retry_After=asked), whole], []
    get(server, waits=waits)
    assert waits == [wait]


def test_a_server_that_speaks_no_http_is_told(server):
    server.plan = [answers.garbage]
    assert "BadStatusLine" in refusal(server)


def test_a_server_that_is_not_there_is_told(server):
    server.close()
    assert "Connection refused (attempt 4 of 4)" in refusal(server)


# ---- an attempt that cannot succeed


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_missing_file_is_asked_for_once(server, code, cache):
    server.plan = [answers.status(code)]
    assert f"HTTP {code}" in refusal(server)
    assert len(server.requests) == 1
    assert files(cache) == ["net-1234.pth.lock"]


def test_a_wrong_file_is_discarded_and_both_hashes_are_told(server, cache):
    wrong = CONTENT + b"!"
    server.plan = [answers.body(wrong)]
    message = refusal(server)
    assert DIGEST in message and hashlib.sha256(wrong).hexdigest() in message
    assert len(server.requests) == 1
    assert files(cache) == ["net-1234.pth.lock"]


def test_half_of_a_file_that_claims_to_be_all_is_discarded(server, cache):
    server.plan = [answers.wrong_length]
    assert "is not the published one" in refusal(server)
    assert files(cache) == ["net-1234.pth.lock"]


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_no_weights(server, kind, cache):
    server.plan = [answers.body(b"<!DOCTYPE html>\n<p>Please log in", Content_Type=kind)]
    assert "web page" in refusal(server)
    assert "web page" in refusal(server, None)
    assert len(server.requests) == 2
    assert files(cache) == ["net-1234.pth.lock"]


def test_encoded_content_is_refused(server):
    server.plan = [answers.body(CONTENT, Content_Encoding="gzip")]
    assert "encoded (gzip)" in refusal(server)
    assert server.requests[0]["Accept-Encoding"] == "identity"


# ---- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> dict[str, Path]:
    """Self-signed certificates of this machine and of another name, each with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name in ("IP:127.0.0.1", "DNS:example.org"):
        made[name] = folder / f"{name[-3:]}.pem"
        words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext "
        words += f"subjectAltName={name} -keyout {made[name]} -out {made[name]}.crt"
        try:
            subprocess.run(words.split(), check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"openssl makes no certificate: {error}")
        with made[name].open("a") as file:
            file.write(Path(f"{made[name]}.crt").read_text())
    return made


@pytest.mark.parametrize(
    "name, trusted, reason",
    [
        ("IP:127.0.0.1", True, None),
        ("IP:127.0.0.1", False, "certificate is not trusted: self-signed certificate"),
        ("DNS:example.org", True, "certificate is not valid for '127.0.0.1'"),
    ],
)
def test_certificates_are_verified(certificates, monkeypatch, name, trusted, reason):
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificates[name]}.crt")
    server = Server(CONTENT, certificates[name])
    try:
        if reason is None:
            assert get(server).read_bytes() == CONTENT
        else:
            assert reason in refusal(server).replace("self signed", "self-signed")
            assert server.requests == []
    finally:
        server.close()


def test_https_is_never_left_for_http(certificates, monkeypatch, server):
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificates['IP:127.0.0.1']}.crt")
    secure = Server(CONTENT, certificates["IP:127.0.0.1"])
    secure.plan = [answers.redirect(server.url)]
    try:
        assert f"redirected to {server.url}, which is not https" in refusal(secure)
        assert server.requests == []
    finally:
        secure.close()


# ---- many processes, and killed ones


def start(server) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, DIGEST],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process


def test_eight_processes_that_ask_at_once_cause_one_transfer(server, cache):
    server.plan = [answers.slow(1.0)]
    processes = [start(server) for _ in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    path = cache / "regnet_x_200mf/test/net-1234.pth"
    assert outputs == {f"{path}\n"} and path.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_killed_download_is_continued_by_the_next_process(server, cache):
    server.plan = [answers.then_silence(0.5, 30), whole]
    process = start(server)
    process.stdin.write("go\n")
    process.stdin.flush()
    part = cache / "regnet_x_200mf/test/net-1234.pth.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size == len(CONTENT) // 2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not part.with_suffix("").exists()
    assert get(server).read_bytes() == CONTENT
    assert server.requests[1]["Range"] == f"bytes={len(CONTENT) // 2}-"
    assert files(cache) == ["net-1234.pth", "net-1234.pth.lock"]


def test_waiting_for_another_process_has_an_end(server):
    fcntl = pytest.importorskip("fcntl")
    path = place_of(weights(server.url))
    path.parent.mkdir(parents=True)
    with path.with_name("net-1234.pth.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        patience = Patience(deadline=0.2)
        assert "another process has been fetching" in refusal(server, patience=patience)
    assert server.requests == []


# ---- the disk


def test_a_full_disk_is_told_and_left_no_fuller(server, cache):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, before[1]))
    try:
        assert "net-1234.pth.part: File too large" in refusal(server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == ["net-1234.pth.lock"]


def test_a_cache_folder_that_cannot_be_written_is_told(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "file/cache"))
    assert "Not a directory" in refusal(server)
    assert server.requests == []


def test_a_symbolic_link_does_not_lead_a_download_out_of_the_cache(server, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT[:100])
    leave_part(server).symlink_to(outside)
    assert "it is a symbolic link" in refusal(server)
    assert get(server).read_bytes() == CONTENT
    assert outside.read_bytes() == CONTENT[:100]

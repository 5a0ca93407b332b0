"""Servers that try to hold a download for ever, to lead it elsewhere or to fill disk and memory."""

import hashlib
import itertools
import time
from pathlib import Path

import misbehaving_server as answers
import pytest
from misbehaving_server import Server, headers, whole

from mindcv.errors import WeightsError
from mindcv.hub import PublishedWeights, fetch
from mindcv.hub.download import Patience

CONTENT = bytes(range(256)) * 4000  # 1 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PATIENCE = Patience(4, first_wait=1, longest_wait=8, stall=0.3, slowest=1000, deadline=20)


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


def weights(url: str) -> PublishedWeights:
    return PublishedWeights("regnet_x_200mf", "test", url, DIGEST)


def get(server, patience=PATIENCE) -> Path:
    return fetch(weights(server.url), patience, lambda seconds: None)


def refusal(server, patience=PATIENCE) -> str:
    with pytest.raises(WeightsError) as caught:
        get(server, patience)
    assert server.url in str(caught.value)
    return str(caught.value)


def test_a_slow_drip_ends(server):
    server.plan = [answers.drip]
    patience = Patience(2, 0, 0, stall=0.2, slowest=1000, deadline=20)
    assert "slower than 1000 bytes a second" in refusal(server, patience=patience)
    patience = Patience(2, 0, 0, stall=5, slowest=1, deadline=0.3)
    before = time.monotonic()
    assert "0 s are over" in refusal(server, patience=patience)
    assert time.monotonic() - before < 3


def test_redirects_are_followed_but_not_in_circles_nor_to_other_schemes(server):
    server.plan = [answers.redirect("/elsewhere?key=1"), whole]
    assert get(server).name == "net-1234.pth"
    for target, reason in {
        server.url: "infinite loop",
        "http://example.org/net.pth": "redirected to http://example.org/net.pth, which is not",
        "file:///etc/passwd": "is not allowed",
        "ftp://127.0.0.1/net.pth": "which is not https",
    }.items():
        get(server).unlink()
        server.plan = [answers.redirect(target)]
        assert reason in refusal(server)
        server.plan = [whole]


def test_plain_http_is_refused_but_on_this_machine():
    for url in ("http://example.org/net.pth", "file:///etc/passwd", "ftp://localhost/net.pth"):
        with pytest.raises(WeightsError, match="the address is not https"):
            fetch(weights(url))


def head_without_end(line: bytes):
    """Send headers, or answers that announce another one, for as long as someone listens."""

    def answer(handler):
        if line.startswith(b"X"):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            handler.wfile.write(line)
            handler.wfile.flush()
            time.sleep(0.02)

    return answer


@pytest.mark.parametrize("line", [b"X", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["drip", "100"])
def test_headers_that_do_not_end_are_given_up(server, line, cache):
    server.plan = [head_without_end(line)]
    before = time.monotonic()
    patience = Patience(2, 0, 0, stall=0.3, slowest=1, deadline=20)
    assert "the server fell silent (attempt 2 of 2)" in refusal(server, patience)
    assert time.monotonic() - before < 10
    assert [path.name for path in cache.rglob("*.pth*")] == ["net-1234.pth.lock"]


@pytest.mark.parametrize(
    "head, reason",
    [
        (b"X: " + b"y" * 100_000 + b"\r\n", "LineTooLong"),
        (b"".join(b"X%d: y\r\n" % number for number in range(1000)), "more than 100 headers"),
    ],
    ids=["long", "many"],
)
def test_headers_too_large_are_refused(server, head, reason):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")

    server.plan = [answer]
    assert reason in refusal(server)


def test_redirects_to_ever_new_addresses_end(server):
    places = map("/{}".format, itertools.count())
    server.plan = [lambda handler: headers(handler, 302, Location=next(places), Content_Length=0)]
    refusal(server, Patience(1, 0, 0, stall=1, slowest=1, deadline=20))
    assert 10 <= len(server.requests) <= 12


def test_more_bytes_than_any_weights_have_are_not_even_begun(server, cache):
    server.plan = [lambda handler: headers(handler, 200, Content_Length=2**60)]
    assert f"the server announces {2**60} bytes" in refusal(server)
    assert len(server.requests) == 1
    assert [path.name for path in cache.rglob("*.pth*")] == ["net-1234.pth.lock"]


@pytest.mark.parametrize("chunk", [b"-5\r\n", b"zz\r\nxx", b"ffffffffffffffffff\r\nxx", b"5\r\nxx"])
def test_broken_chunks_are_no_file(server, chunk, cache):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)

    server.plan = [answer]
    refusal(server)
    assert not list(cache.rglob("net-1234.pth"))


def test_lies_about_the_length_are_no_file(server, cache):
    for length in ("-1", "1e9", "10, 20", str(len(CONTENT) + 1)):

        def answer(handler, length=length):
            headers(handler, 200, Content_Length=length)
            handler.wfile.write(CONTENT[:-1])

        server.plan = [answer]
        refusal(server)
        assert not list(cache.rglob("net-1234.pth"))


def test_a_whole_file_is_still_fetched(server):
    server.plan = [whole]
    assert get(server).read_bytes() == CONTENT

"""Downloads end with the whole, verified file or with a message, whatever the server does."""

import hashlib
import io
import itertools
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import misbehaving_server as answers
import pytest
from conftest import ROOT
from misbehaving_server import (
    CONTENT,
    DIGEST,
    LOCK,
    Server,
    files,
    get,
    leave_part,
    make_impatient,
    refusal,
    weights,
    whole,
)

from mindcv.errors import WeightsError
from mindcv.hub import fetch

# Read as weights where no hash is known; longer than what a socket takes in one piece.
LEGACY = (ROOT / "tests/golden/weights/legacy.pth").read_bytes()


@pytest.fixture
def server():
    server = Server(CONTENT)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINDCV_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """The seconds that downloads would have waited between their attempts."""
    return make_impatient(monkeypatch)


def test_a_file_is_fetched_once_under_its_name_and_nothing_else_is_left(server, cache, capfd):
    path = get(server)
    assert path == cache / "regnet_x_200mf/test/net-1234.pth"
    assert path.read_bytes() == CONTENT
    assert get(server) == path and len(server.requests) == 1
    assert files(cache) == ["net-1234.pth", LOCK]
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
def test_a_broken_transfer_is_continued_where_it_broke(server, answer, reason, caplog, waits):
    server.plan = [answer, whole]
    assert get(server).read_bytes() == CONTENT
    kept = int(server.requests[1]["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < kept <= 0.6 * len(CONTENT) and server.sent[1] == len(CONTENT) - kept
    assert len(waits) == 1 and reason in caplog.text


@pytest.mark.parametrize(
    "answer",
    [answers.no_ranges, answers.wrong_range, answers.status(416)],
    ids=["no ranges", "wrong range", "416"],
)
def test_a_server_that_cannot_continue_makes_it_begin_anew(server, answer):
    server.plan = [answers.short(0.5), answer, whole]
    assert get(server).read_bytes() == CONTENT


def test_pieces_that_do_not_fit_together_are_discarded_and_fetched_whole(server):
    leave_part(server, CONTENT[::-1][: len(CONTENT) // 2])
    assert get(server).read_bytes() == CONTENT
    assert [request["Range"] is None for request in server.requests] == [False, True]


def test_without_a_known_hash_nothing_is_continued(server):
    leave_part(server, LEGACY[:100])
    server.content = LEGACY
    server.plan = [answers.short(0.5), whole]
    assert get(server, None).read_bytes() == LEGACY
    assert [request["Range"] for request in server.requests] == [None, None]


def test_attempts_are_bounded_and_waits_grow(server, waits):
    server.plan = [answers.status(500)]
    assert "HTTP 500 Internal Server Error (tried 4 times)" in refusal(server)
    assert len(server.requests) == 4
    assert all(low <= wait <= 2 * low for low, wait in zip((0.5, 1, 2), waits, strict=True))


@pytest.mark.parametrize("asked, longest", [("3", 3), ("9" * 5000, 60), ("soon", 1), ("²", 1)])
def test_a_wait_the_server_asks_for_is_kept_within_bounds(server, waits, asked, longest):
    server.plan = [answers.status(503, Retry_After=asked), whole]
    get(server)
    assert longest / 2 <= waits[0] <= longest and len(waits) == 1


@pytest.mark.parametrize(
    "error",
    [socket.gaierror(socket.EAI_AGAIN, "no name server"), OSError(101, "Network is unreachable")],
)
def test_without_network_that_is_said_at_once(server, waits, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    message = refusal(server)
    assert f"there is no network, or no such host: {error.strerror}" in message
    assert "put it here" in message and waits == []


def test_a_network_that_is_gone_for_a_moment_is_waited_for(server, waits, monkeypatch):
    find, answers_left = socket.getaddrinfo, iter([True, True, False])

    def find_or_fail(*words, **more):
        if next(answers_left, True):
            return find(*words, **more)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server")

    monkeypatch.setattr(socket, "getaddrinfo", find_or_fail)
    server.plan = [answers.short(0.5), whole]
    assert get(server).read_bytes() == CONTENT
    assert len(waits) == 2 and len(server.requests) == 2


def test_a_server_that_is_not_there_is_told_after_one_more_attempt(server, waits):
    server.close()
    assert "is not running: Connection refused (tried twice)" in refusal(server)
    assert len(waits) == 1 and waits[0] <= 1


def test_a_server_that_restarts_is_waited_for(server, waits, monkeypatch):
    """Once something has come, a refused connection is a passing fault."""
    reach, asked = socket.create_connection, []

    def reach_or_refuse(*words, **more):
        asked.append(words)
        if len(asked) in (2, 3, 4):
            raise ConnectionRefusedError(111, "Connection refused")
        return reach(*words, **more)

    monkeypatch.setattr(socket, "create_connection", reach_or_refuse)
    make_impatient(monkeypatch, ATTEMPTS=6)
    server.plan = [answers.short(0.5), whole]
    assert get(server).read_bytes() == CONTENT
    assert len(asked) == 5


def test_a_host_that_swallows_the_attempt_is_given_up_soon(server, monkeypatch):
    """As behind a firewall: the queue of this listener is full, and nobody accepts."""
    waits = make_impatient(monkeypatch, CONNECT=0.4, SHORTEST=0.05)
    find, begin = socket.getaddrinfo, time.monotonic()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **more: 8 * find(*words, **more))
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/net.pth"
        with pytest.raises(WeightsError, match="does not answer within 0 s"):
            fetch(weights(url))
    assert waits == [] and time.monotonic() - begin < 2  # all eight addresses together


# ---- an answer that is not the file


def raw_line(line: bytes):
    return lambda handler: handler.wfile.write(line + b"\r\n\r\n")


def raw(head: bytes):
    return raw_line(b"HTTP/1.1 200 OK\r\n" + head)


def chunk(text: bytes):
    return raw(b"Transfer-Encoding: chunked\r\n\r\n" + text)


def with_length(length):
    def answer(handler):
        answers.headers(handler, 200, Content_Length=length)
        handler.wfile.write(CONTENT[:-1])

    return answer


PAGE = b"<!DOCTYPE html>\n<p>Please log in"
WRONG = hashlib.sha256(CONTENT + b"!").hexdigest()
# Answer, what the message says of it, and how often it is requested.
WRONG_ANSWERS = {
    "401": (answers.status(401), "HTTP 401", 1),
    "403": (answers.status(403), "HTTP 403", 1),
    "404": (answers.status(404), "HTTP 404", 1),
    "410": (answers.status(410), "HTTP 410", 1),
    "another file": (answers.body(CONTENT + b"!"), f"is {WRONG}, expected {DIGEST}", 1),
    "half, as if it were all": (answers.wrong_length, "is not the published one", 1),
    "page": (answers.body(PAGE, Content_Type="text/html; charset=utf-8"), "sent a web page", 1),
    "hidden page": (answers.body(PAGE, Content_Type="application/octet"), "it is a web page", 1),
    "gzip": (answers.body(b"\x1f\x8b", Content_Encoding="gzip"), "is not the published one", 1),
    "no http": (answers.garbage, "BadStatusLine", 4),
    "long header": (raw(b"X: " + b"y" * 100_000), "LineTooLong", 4),
    "many headers": (raw(b"".join(b"X%d: y\r\n" % n for n in range(999))), "than 100 headers", 4),
    "2**60 bytes": (with_length(2**60), "the server announces more than", 1),
    "10**4300 bytes": (with_length("9" * 4300), "the server announces more than", 1),
    "negative chunk": (chunk(b"-5\r\n"), "", None),
    "no number": (chunk(b"zz\r\nxx"), "IncompleteRead", 4),
    "cut chunk": (chunk(b"5\r\nxx"), "IncompleteRead", 4),
    "huge chunk": (chunk(b"ffffffffffffffffff\r\nxx"), "", None),
    "length -1": (with_length("-1"), "is not the published one", 1),
    "length 1e9": (with_length("1e9"), "is not the published one", 1),
    "two lengths": (with_length("10, 20"), "is not the published one", 1),
    "10**5000 bytes": (with_length("9" * 5000), "", 1),
    "long reason": (raw_line(b"HTTP/1.1 404 \x1b[2J" + b"x" * 9000), "HTTP 404 \\x1b[2Jxx", 1),
    "a byte less": (with_length(len(CONTENT)), "ended after 1023999 of 1024000 bytes", 4),
    "circle": (answers.redirect("/models/net-1234.pth"), "infinite loop", None),
    "to http": (answers.redirect("http://example.org/net"), "redirected to http://example", 1),
    "to a file": (answers.redirect("file:///etc/passwd"), "is not allowed", 1),
    "to ftp": (answers.redirect("ftp://127.0.0.1/net.pth"), "which is not https", 1),
    "to no address": (answers.redirect("https://[::1/net.pth"), "Invalid IPv6 URL", 1),
    "to no host": (answers.redirect(f"https://{'a' * 99}.org/"), "UnicodeError", 1),
}


@pytest.mark.parametrize("name", WRONG_ANSWERS)
def test_a_wrong_answer_is_refused_with_its_reason(server, name, cache):
    answer, reason, requests = WRONG_ANSWERS[name]
    server.plan = [answer]
    message = refusal(server)
    assert reason in message and len(message) < 1000
    assert requests in (None, len(server.requests))
    if requests == 1:
        assert files(cache) == [LOCK]


def test_without_a_known_hash_what_is_no_weights_is_refused(server, cache):
    server.plan = [answers.body(PAGE, Content_Type="application/octet-stream")]
    assert "is a web page (HTML)" in refusal(server, None)
    assert len(server.requests) == 1 and files(cache) == [LOCK]


def test_redirects_are_followed_but_not_for_ever(server):
    server.plan = [answers.redirect("/elsewhere?key=1"), whole]
    assert get(server).name == "net-1234.pth"
    get(server).unlink()
    places = map("/{}".format, itertools.count())
    server.plan = [lambda handler: answers.redirect(next(places))(handler)]
    server.requests.clear()
    assert "infinite loop" in refusal(server)
    assert 10 <= len(server.requests) <= 12


@pytest.mark.parametrize("scheme", ["http://example.org", "file:///etc", "ftp://127.0.0.1"])
def test_what_is_not_https_is_refused(scheme):
    with pytest.raises(WeightsError, match="the address is not https"):
        fetch(weights(f"{scheme}/net.pth"))


# ---- an answer that does not end


def endless(begin: bytes, line: bytes):
    """Send lines for as long as someone listens; some hundred bytes a second."""

    def answer(handler):
        handler.wfile.write(begin)
        while True:
            handler.wfile.write(line)
            handler.wfile.flush()
            time.sleep(0.04)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"X"),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n", b"x"),
    ],
    ids=["headers", "100", "trailers", "body"],
)
def test_a_slow_drip_ends(server, answer, cache, monkeypatch):
    server.plan = [answer]
    make_impatient(monkeypatch, ATTEMPTS=2)
    assert "the server is too slow" in refusal(server)
    assert len(server.requests) == 2
    make_impatient(monkeypatch, STALL=9, DEADLINE=0.3)
    assert "the time for all attempts is over" in refusal(server)
    assert set(files(cache)) <= {LOCK, "net-1234.pth.part"}


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

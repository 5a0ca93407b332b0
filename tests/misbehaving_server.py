"""A local HTTP server that answers each request as a test plans it, and downloads from it."""

import hashlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mindcv.errors import WeightsError
from mindcv.hub import PublishedWeights, fetch
from mindcv.hub.cache import place_of
from mindcv.process import download

CONTENT = bytes(range(256)) * 4000  # 1 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
LOCK = "net-1234.pth.lock"

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Serve `content`; the n-th request gets the n-th answer of `plan`, later ones its last.

    Attributes:
        requests: headers of all requests, in their order.
        sent: bytes of bodies sent, of each request that got any.
    """

    def __init__(self, content: bytes, certificate: Path | None = None):
        self.content, self.plan, self.requests, self.sent = content, [whole], [], []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.root = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        self.url = f"{self.root}/models/net-1234.pth"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.server_of_test = server
                server.requests.append(self.headers)
                step = min(len(server.requests), len(server.plan)) - 1
                try:
                    server.plan[step](self)
                except OSError:  # the client has gone
                    pass

            def log_message(self, *_):
                pass

        return Handler


def headers(handler, status: int, **fields) -> None:
    handler.send_response(status)
    for name, value in fields.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def send(handler, body: bytes) -> None:
    handler.server_of_test.sent.append(len(body))
    handler.wfile.write(body)


def whole(handler) -> None:
    """Answer as a good server does, ranges included."""
    server = handler.server_of_test
    size, wish = len(server.content), handler.headers.get("Range")
    if wish:
        start = int(wish.removeprefix("bytes=").removesuffix("-"))
        body, span = server.content[start:], f"bytes {start}-{size - 1}/{size}"
        headers(handler, 206, Content_Length=len(body), Content_Range=span)
    else:
        body = server.content
        headers(handler, 200, Content_Length=size)
    send(handler, body)


def no_ranges(handler) -> None:
    content = handler.server_of_test.content
    headers(handler, 200, Content_Length=len(content))
    send(handler, content)


def no_length(handler) -> None:
    headers(handler, 200)
    send(handler, handler.server_of_test.content)


def short(share: float) -> Answer:
    """Announce everything, send a share of it and hang up."""

    def answer(handler):
        server = handler.server_of_test
        headers(handler, 200, Content_Length=len(server.content))
        send(handler, server.content[: int(share * len(server.content))])

    return answer


def then_silence(share: float, seconds: float) -> Answer:
    def answer(handler):
        short(share)(handler)
        handler.wfile.flush()
        time.sleep(seconds)

    return answer


def wrong_length(handler) -> None:
    """Announce half of the content, as if that were all."""
    content = handler.server_of_test.content[: len(handler.server_of_test.content) // 2]
    headers(handler, 200, Content_Length=len(content))
    send(handler, content)


def wrong_range(handler) -> None:
    """Answer a range that nobody asked for."""
    content = handler.server_of_test.content
    span = f"bytes 0-{len(content) - 1}/{len(content)}"
    headers(handler, 206, Content_Length=len(content), Content_Range=span)
    send(handler, content)


def body(content: bytes, **fields) -> Answer:
    def answer(handler):
        headers(handler, 200, Content_Length=len(content), **fields)
        send(handler, content)

    return answer


def status(code: int, **fields) -> Answer:
    return lambda handler: headers(handler, code, Content_Length=0, **fields)


def redirect(address: str) -> Answer:
    return status(302, Location=address)


def slow(seconds: float) -> Answer:
    """Send everything, evenly over so many seconds."""

    def answer(handler):
        content = handler.server_of_test.content
        headers(handler, 200, Content_Length=len(content))
        handler.server_of_test.sent.append(len(content))
        for index in range(10):
            start, stop = (len(content) * step // 10 for step in (index, index + 1))
            handler.wfile.write(content[start:stop])
            time.sleep(seconds / 10)

    return answer


def reset(share: float) -> Answer:
    """Send a share and reset the connection."""

    def answer(handler):
        short(share)(handler)
        handler.wfile.flush()
        time.sleep(0.05)
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(handler.connection.detach())  # at once: without the orderly end of close()

    return answer


def garbage(handler) -> None:
    handler.wfile.write(b"220 this is no HTTP\r\n\r\n")


def weights(url: str, sha256: str | None = DIGEST) -> PublishedWeights:
    return PublishedWeights("regnet_x_200mf", "test", url, sha256)


def get(server, sha256=DIGEST) -> Path:
    return fetch(weights(server.url, sha256))


def refusal(server, sha256=DIGEST) -> str:
    """Fetch in vain and return the message, which always gives address and place."""
    with pytest.raises(WeightsError) as caught:
        get(server, sha256)
    assert caught.value.exit_code == 5
    message, place = str(caught.value), place_of(weights(server.url))
    assert server.url in message and str(place) in message
    assert not place.exists()
    return message


def make_impatient(monkeypatch, **limits) -> list[float]:
    """Let downloads wait for nothing; return the seconds they would have waited."""
    waits = []
    monkeypatch.setattr(download, "sleep", waits.append)
    for name, limit in {"ATTEMPTS": 4, "STALL": 0.3, **limits}.items():
        monkeypatch.setattr(download, name, limit)
    return waits


def leave_part(server, content: bytes) -> Path:
    """Leave the beginning of a file as a killed process does."""
    part = place_of(weights(server.url)).with_name("net-1234.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    return part


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())

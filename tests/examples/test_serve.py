"""examples/serve.py answers real requests as `Classifier` does, and refuses in JSON."""

import http.client
import io
import json
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from commands import METADATA, other_metadata, tiny_regnet, weights, write_checkpoint
from conftest import ROOT
from mindspore import Parameter, load_param_into_net
from PIL import Image

from mindcv import Classifier

SERVE = ROOT / "examples/serve.py"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    network = tiny_regnet(5)
    load_param_into_net(network, {name: Parameter(v) for name, v in weights(1, network).items()})
    return Classifier(network, METADATA)


@pytest.fixture
def server(classifier):
    """A server whose requests wait until its batcher runs; it holds three."""
    serve = runpy.run_path(str(SERVE))
    server = serve["Server"](("127.0.0.1", 0), serve["Batcher"](classifier, waiting=3))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    closing = threading.Thread(target=server.server_close)
    closing.start()
    server.batcher.run(until=lambda: not closing.is_alive())


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers
) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(response.read())


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_requests_that_wait_together_are_one_batch_and_get_their_own_answers(
    server, classifier, monkeypatch
):
    sizes, stream = [], classifier.stream
    monkeypatch.setattr(
        classifier, "stream", lambda images, **k: sizes.append(len(images)) or stream(images, **k)
    )
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(ask, server.server_port, "POST", "/predict?top_k=2", encoded(picture(seed)))
            for seed in range(3)
        ]
        until = time.monotonic() + 60
        while server.batcher.waiting.qsize() < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
        # One more than the server holds: it is told so at once.
        status, found = ask(server.server_port, "POST", "/predict", encoded(picture(3)))
        assert status == 503 and "try again later" in found["error"]
        server.batcher.run(until=lambda: all(one.done() for one in asked))
    assert sizes == [3]
    for seed, one in enumerate(asked):
        status, found = one.result()
        expected = classifier(picture(seed), top_k=2).guesses
        assert status == 200 and len(found["predictions"]) == 2
        for ours, theirs in zip(found["predictions"], expected):
            assert ours["class_name"] == theirs.class_name
            assert ours["probability"] == pytest.approx(theirs.probability, rel=1e-5)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "fragment"),
    [
        ("GET", "/", None, {}, 404, "GET /: no such address"),
        ("GET", "/predict", None, {}, 404, "GET /predict"),
        ("POST", "/predict", b"no image", {}, 400, "not an image"),
        ("POST", "/predict", encoded(picture(0))[:900], {}, 400, "not an image"),
        ("POST", "/predict?top_k=0", encoded(picture(0)), {}, 400, "top_k '0': expected 1 to 5"),
        ("POST", "/predict?top_k=x", encoded(picture(0)), {}, 400, "top_k 'x'"),
        ("POST", "/predict?top_k=" + "1" * 5000, encoded(picture(0)), {}, 400, "expected 1 to 5"),
        ("PUT", "/predict", bytes(2**20), {}, 501, "Unsupported method ('PUT')"),
        ("POST", "/else", bytes(2**24), {}, 404, "POST /else"),
        ("POST", "/predict", bytes(2**24 + 1), {}, 413, "16777217 bytes: at most"),
        ("POST", "/predict", bytes(2**24), {"Content-Length": "1" * 5000}, 411, "Content-Length"),
        ("POST", "/predict", None, {"Content-Length": "-1"}, 411, "Content-Length"),
        ("POST", "/predict", None, {"Content-Length": "99999999"}, 413, "99999999 bytes: at most"),
        ("POST", "/predict", encoded(Image.new("1", (9000, 6000))), {}, 413, "9000 x 6000 pixels"),
    ],
)
def test_a_wrong_request_gets_its_status_and_a_json_error(
    server, method, path, body, headers, status, fragment
):
    found, content = ask(server.server_port, method, path, body, **headers)
    assert found == status and fragment in content["error"]
    assert server.batcher.waiting.empty()


def test_connections_beyond_the_most_wait_until_one_ends(server):
    most = type(server).__init__.__globals__["MOST_CONNECTIONS"]
    silent = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(most)]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server.server_port, "GET", "/health")
        assert not wait([asked], timeout=0.5).done
        assert len(server._threads) == most
        silent.pop().close()
        assert asked.result(60)[0] == 200
    for connection in silent:
        connection.close()


def test_a_failing_network_fails_its_requests_and_not_the_server(server, classifier, monkeypatch):
    def fail(images, **options):
        raise RuntimeError("out of memory")

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr(classifier, "stream", fail)
        asked = pool.submit(ask, server.server_port, "POST", "/predict", encoded(picture(0)))
        server.batcher.run(until=asked.done)
    assert asked.result() == (500, {"error": "cannot classify: out of memory"})
    assert ask(server.server_port, "GET", "/health")[0] == 200


def test_a_stop_answers_the_request_under_way(tmp_path, classifier):
    options = {"w_a": 8, "w_0": 8, "w_m": 2.0, "d": 3, "group_w": 8, "se_r": 0.25}
    metadata = other_metadata(model="regnet", options=options)
    path = write_checkpoint(tmp_path / "tiny.ckpt", weights(1), metadata)
    words = [sys.executable, str(SERVE), str(path), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stdout if line.startswith("listening on"))
            port = int(line.rsplit(":", 1)[1])
            body = encoded(picture(7))
            slow = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            slow.putrequest("POST", "/predict")
            slow.putheader("Content-Length", str(len(body)))
            slow.endheaders(body[:100])
            # Connections are accepted in turn, so the slow one was before this answer.
            expected = {"status": "ok", "model": "regnet", "num_classes": 5}
            assert ask(port, "GET", "/health") == (200, expected)
            process.send_signal(signal.SIGTERM)
            slow.send(body[100:])
            best = json.loads(slow.getresponse().read())["predictions"][0]
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert best["class_name"] == classifier(picture(7)).name

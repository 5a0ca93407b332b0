"""Serve a classifier over HTTP: `python examples/serve.py regnet_y_400mf --port 8000`.

    curl --data-binary @photo.jpg localhost:8000/predict?top_k=3
    curl localhost:8000/health

`/predict` takes the bytes of an image file and answers with its likeliest classes; errors are JSON
too, `{"error": "…"}`. Requests that wait together are classified as one batch. SIGTERM and ctrl-C
answer what was accepted, then stop. The server speaks plain HTTP to anyone who reaches the port:
put it behind a proxy that has TLS and access control.
"""

import argparse
import io
import json
import queue
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from mindcv import Classifier

LARGEST_BODY = 16 * 2**20  # bytes
LARGEST_REFUSED = 4 * LARGEST_BODY  # bytes of a refused body that are read
LARGEST_IMAGE = 50_000_000  # pixels: a small file may claim to be a huge image
ANSWER_WITHIN = 30.0  # seconds
MOST_CLASSES = 5  # of an answer
MOST_CONNECTIONS = 128  # served at a time: each has a thread, a body and an image in memory


class Refusal(Exception):
    """A request that gets an error: status and message."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


def number_of(text: str) -> int:
    """Return a number of up to 12 digits; -1: it is something else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else -1


class Batcher:
    """Classify the images of many threads in one: MindSpore runs in the thread of `run` alone.

    Args:
        batch_size: most images of a batch.
        waiting: most images that wait; more are refused.
    """

    def __init__(self, classifier: Classifier, batch_size: int = 16, waiting: int = 64):
        self.classifier, self.batch_size = classifier, batch_size
        self.waiting: queue.Queue[tuple[Image.Image, Future]] = queue.Queue(waiting)

    def submit(self, image: Image.Image) -> Future:
        """Return the future of a `Prediction`."""
        future = Future()
        try:
            self.waiting.put_nowait((image, future))
        except queue.Full:
            message = "too many requests are waiting; try again later"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, message) from None
        return future

    def run(self, until: Callable[[], bool]) -> None:
        """Classify what waits until there is an end and nothing waits any more."""
        while not (until() and self.waiting.empty()):
            try:
                batch = [self.waiting.get(timeout=0.1)]
            except queue.Empty:
                continue
            while len(batch) < self.batch_size and not self.waiting.empty():
                batch.append(self.waiting.get())
            self.classify(batch)

    def classify(self, batch: list[tuple[Image.Image, Future]]) -> None:
        futures = {id(image): future for image, future in batch}

        def refuse(image: Image.Image, reason: str) -> None:
            futures.pop(id(image)).set_exception(Refusal(HTTPStatus.BAD_REQUEST, reason))

        images = [image for image, _ in batch]
        options = {"top_k": MOST_CLASSES, "batch_size": self.batch_size}
        try:
            predictions = list(self.classifier.stream(images, on_bad=refuse, **options))
        except Exception as error:  # these requests fail, the server goes on
            for future in futures.values():
                future.set_exception(error)
            return
        for future, (prediction, _) in zip(futures.values(), predictions):
            future.set_result(prediction)


class Server(ThreadingHTTPServer):
    """A thread for each request; `server_close` waits for the requests under way."""

    daemon_threads = False
    request_queue_size = 64  # connections that wait to be accepted

    def __init__(self, address: tuple[str, int], batcher: Batcher):
        super().__init__(address, Handler)
        self.batcher = batcher
        self.free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request, client_address) -> None:
        self.free.acquire()  # meanwhile further connections wait to be accepted
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()


class Handler(BaseHTTPRequestHandler):
    """Answer one request."""

    timeout = 10  # seconds that a client may be silent
    unread = True  # the body

    def do_GET(self) -> None:
        self.answer({"/health": self.health})

    def do_POST(self) -> None:
        self.answer({"/predict": self.predict})

    def answer(self, routes: dict[str, Callable[[dict], dict]]) -> None:
        status, place = HTTPStatus.OK, urlsplit(self.path)
        try:
            if place.path not in routes:
                raise Refusal(HTTPStatus.NOT_FOUND, f"{self.command} {place.path}: no such address")
            content = routes[place.path](parse_qs(place.query))
        except Refusal as refusal:
            status, content = refusal.status, {"error": str(refusal)}
        self.write(status, content)

    def write(self, status: HTTPStatus, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if self.unread and self.command not in ("GET", "HEAD"):
            self.drain()

    def drain(self) -> None:
        """Read what the client still sends: it would not see the answer of a closed connection."""
        left = LARGEST_REFUSED
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (part := self.rfile.read1(min(left, 2**16))):
                left -= len(part)

    def send_error(self, code, message=None, explain=None) -> None:
        """Answer what http.server itself refuses, such as another method."""
        self.write(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def health(self, query) -> dict:
        metadata = self.server.batcher.classifier.metadata
        return {"status": "ok", "model": metadata.model, "num_classes": metadata.num_classes}

    def predict(self, query) -> dict:
        image = self.read_image()
        text = query.get("top_k", ["3"])[0]
        if not 1 <= number_of(text) <= MOST_CLASSES:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"top_k {text!r}: expected 1 to {MOST_CLASSES}")
        future = self.server.batcher.submit(image)
        try:
            guesses = future.result(ANSWER_WITHIN).guesses[: number_of(text)]
        except FutureTimeout:
            message = f"no answer within {ANSWER_WITHIN:.0f} seconds"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, message) from None
        except Refusal:
            raise
        except Exception as error:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"cannot classify: {error}") from None
        return {"predictions": [asdict(guess) for guess in guesses]}

    def read_image(self) -> Image.Image:
        """Return the image of the body, which is read and decoded in this request's thread."""
        length = number_of(self.headers.get("Content-Length", ""))
        if length < 0:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "the request has no valid Content-Length")
        if length > LARGEST_BODY:
            message = f"{length} bytes: at most {LARGEST_BODY} are accepted"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        body = self.rfile.read(length)
        self.unread = False
        try:
            image = Image.open(io.BytesIO(body))
            width, height = image.size
            if width * height <= LARGEST_IMAGE:
                image.load()
                return image
        except Exception as error:  # Pillow raises many kinds for damaged files
            message = f"the body is not an image: {error}"
            raise Refusal(HTTPStatus.BAD_REQUEST, message) from None
        message = f"{width} x {height} pixels: at most {LARGEST_IMAGE} are accepted"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="a model with published weights, or a checkpoint")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    arguments = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    batcher = Batcher(Classifier.from_pretrained(arguments.weights))
    server = Server((arguments.host, arguments.port), batcher)
    threading.Thread(target=server.serve_forever).start()
    print(batcher.classifier)
    print(f"listening on http://{arguments.host}:{server.server_port}", flush=True)
    batcher.run(until=stopping.is_set)  # in the main thread
    server.shutdown()
    closing = threading.Thread(target=server.server_close)  # waits for requests under way
    closing.start()
    batcher.run(until=lambda: not closing.is_alive())


if __name__ == "__main__":
    main()

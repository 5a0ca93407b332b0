"""Download files over https: a complete, verified file or a reason why not."""

import errno
import fcntl
import http.client
import io
import logging
import os
import random
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

from tqdm import tqdm

from ..errors import ConfigError
from .files import open_regular, printable

_logger = logging.getLogger(__name__)

ATTEMPTS = 5
CONNECT = 10.0  # seconds to reach a host; a firewall may swallow the attempt
SHORTEST = 2.0  # seconds of these for each address of a host, at least
LONGEST_WAIT = 60.0  # seconds between attempts: 1, 2, 4, … or as the server requests
STALL = 30.0  # seconds; silence or a rate below SLOWEST for so long ends an attempt
SLOWEST = 1024  # bytes a second
DEADLINE = 4 * 3600.0  # seconds for all attempts
_LARGEST = 2**34  # bytes; far more than any published file
_CHUNK = 2**20  # bytes
_RANGE_BEYOND_END = 416  # the partial file is as long as the file, or longer
_PASSING = {408, 425, 429, 500, 502, 503, 504, _RANGE_BEYOND_END}
_UNREACHABLE = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH}
# disable=None: shown only on terminals.
_progress_bar = partial(tqdm, unit="B", unit_scale=True, leave=False, disable=None)


@dataclass(eq=False)
class Failure(Exception):
    reason: str
    again: bool = True  # another attempt may succeed
    keep: bool = True  # the next attempt can resume what has arrived
    wait: float | None = None  # seconds before the next attempt, requested by the server
    # Attempts before a host has answered, since an absent one is hardly a passing fault.
    most: int | None = None


def download(
    url: str,
    target: Path,
    fault_of: Callable[[Path], str | None],
    *,
    resumes: bool,
    is_there: Callable[[Path], bool] = os.path.lexists,
) -> bool:
    """Download a file unless it is there; return whether this process did.

    If several processes need it, one downloads it and the others wait. It comes to `<target>.part`,
    which is renamed once it is complete and verified. With MINDCV_OFFLINE=1 nothing is downloaded.

    Args:
        fault_of: returns why a complete file is not the published one; None: no fault found.
        resumes: continue a partial file, even one that another process left; only where `fault_of`
            compares hashes, which show whether the pieces belong together.
        is_there: whether the target needs no download. Another file in its place is replaced once
            the new one is verified; until then, and after a failure, it stays.

    Raises:
        ConfigError: MINDCV_OFFLINE is neither 1 nor 0.
        Failure: the file cannot be fetched.
        OSError: it cannot be written.
    """
    if is_there(target):
        return False
    if _is_offline():
        raise Failure("MINDCV_OFFLINE is set")
    if not _is_safe(url):
        raise Failure("the address is not https")
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target, url):
        if is_there(target):  # another process was faster
            return False
        _attempt(url, target, fault_of, resumes)
    return True


def _attempt(url: str, target: Path, fault_of: Callable[[Path], str | None], resumes: bool) -> None:
    part = target.with_name(f"{target.name}.part")
    end = monotonic() + DEADLINE
    client = urllib.request.build_opener(_Client(end), _Redirects())
    was_there = False  # whether the host has answered
    for attempt in range(1, ATTEMPTS + 1):
        try:
            size = part.lstat().st_size if resumes and os.path.lexists(part) else 0
            is_pieced = _transfer(client, url, part, size)
            if fault := fault_of(part):
                raise Failure(f"{fault}; it was discarded", again=is_pieced, keep=False)
            os.replace(part, target)
            return
        except Failure as failure:
            if not failure.keep:
                part.unlink(missing_ok=True)
            wait = 2 ** (attempt - 1) * random.uniform(0.5, 1)  # spread out processes that fail
            wait = min(wait if failure.wait is None else failure.wait, LONGEST_WAIT)
            is_last = attempt == ATTEMPTS or monotonic() + wait > end
            # An absent host is hardly a passing fault.
            was_there = was_there or failure.most is None
            if is_last or not failure.again or (not was_there and attempt >= failure.most):
                times = {1: "", 2: " (tried twice)"}.get(attempt, f" (tried {attempt} times)")
                raise Failure(failure.reason + times) from None
            _logger.warning("%s: %s; next attempt in %.1f s", url, failure.reason, wait)
        except OSError as error:  # such as a full disk, so free the space
            part.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, error.filename or str(part)) from None
        sleep(wait)


def _is_offline() -> bool:
    wish = os.environ.get("MINDCV_OFFLINE", "").lower()
    if wish in ("1", "true", "yes", "on"):
        return True
    if wish in ("", "0", "false", "no", "off"):
        return False
    raise ConfigError(f"environment variable MINDCV_OFFLINE: expected 1 or 0, got {wish!r}")


@contextmanager
def locked(target: Path, url: str) -> Iterator[None]:
    """Lock a file, by `<target>.lock`, which ends with its process: a killed one blocks nobody."""
    give_up = monotonic() + DEADLINE
    lock = open_regular(target.with_name(f"{target.name}.lock"), os.O_RDWR | os.O_CREAT)
    try:
        is_waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > give_up:
                    reason = f"another process has been fetching it for {DEADLINE:.0f} s"
                    raise Failure(reason) from None
            if not is_waiting:
                _logger.info("another process fetches %s; waiting for it", url)
                is_waiting = True
            sleep(0.05)
        yield
    finally:
        os.close(lock)


def _transfer(client, url: str, part: Path, size: int) -> bool:
    """Fetch the file from byte `size` on; return whether the server resumed there."""
    headers = {"User-Agent": "mindcv"} | ({"Range": f"bytes={size}-"} if size else {})
    with _network():
        response = client.open(urllib.request.Request(url, headers=headers), timeout=STALL)
    with response:
        kind = response.headers.get("Content-Type", "").lower()
        if kind.startswith(("text/html", "application/xhtml")):
            reason = "the server sent a web page, perhaps the login page of a network or proxy"
            raise Failure(reason, again=False)
        is_pieced = size > 0 and response.status == 206
        if not is_pieced:
            size = 0
            part.unlink(missing_ok=True)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {size}-"):
            raise Failure("the server sent another range than was requested", keep=False)
        _logger.info("fetching %s to %s, from byte %d on", url, part.parent, size)
        _receive(response, part, size)
    return is_pieced


def _receive(response: http.client.HTTPResponse, part: Path, size: int) -> None:
    """Append the body to the `size` bytes received before."""
    total = None if response.length is None else size + response.length
    if (total or 0) > _LARGEST:
        raise Failure(f"the server announces more than {_LARGEST} bytes", again=False)
    with (
        open(part, "ab", opener=open_regular) as file,
        _progress_bar(desc=part.stem, total=total, initial=size) as bar,
    ):
        while chunk := _read(response):
            size += len(chunk)
            if size > _LARGEST:
                raise Failure(f"more than {_LARGEST} bytes came", again=False, keep=False)
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total not in (None, size):
        raise Failure(f"the transfer ended after {size} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network():
        return response.read1(_CHUNK)


@contextmanager
def _network() -> Iterator[None]:
    """Turn the errors of urllib, TLS and sockets into a Failure."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            requested = error.headers.get("Retry-After", "")
        raise Failure(
            f"HTTP {error.code} {_first_line(error.msg)}",
            again=error.code in _PASSING,
            keep=error.code != _RANGE_BEYOND_END,
            wait=float(requested) if re.fullmatch("[0-9]+", requested) else None,
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
    else:
        return
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f"the server's certificate is not trusted: {cause.verify_message}"
        raise Failure(reason, again=False)
    if isinstance(cause, TimeoutError):
        raise Failure("the server fell silent")
    if isinstance(cause, ConnectionRefusedError):
        reason = f"the server, or a proxy on the way to it, is not running: {cause.strerror}"
        raise Failure(reason, most=2)
    if isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in _UNREACHABLE:
        raise Failure(f"there is no network, or no such host: {cause.strerror}", most=1)
    # A malformed address raises a ValueError, or a URLError whose reason is text.
    is_final = isinstance(cause, (ValueError, str))
    # As http.client says it.
    if refusal := re.match(r"Tunnel connection failed: (\d+)", str(cause)):
        is_final = int(refusal[1]) not in _PASSING
    raise Failure(f"{type(cause).__name__}: {_first_line(cause)}", again=not is_final)


def _first_line(text: object) -> str:
    """Return the first line of a server's text, shortened and safe to print."""
    return printable(str(text).strip().split("\n")[0])[:200]


def _is_safe(url: str) -> bool:
    """Return whether an address uses https, or http on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme, parts.hostname) == ("http", "127.0.0.1")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects to plain http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _is_safe(newurl) or (req.type == "https" and urlsplit(newurl).scheme != "https"):
            fp.close()
            raise Failure(f"redirected to {_first_line(newurl)}, which is not https", again=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Client(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Sends requests over verified TLS and reads the responses through a `_Stream`."""

    def __init__(self, end: float):
        super().__init__(context=ssl.create_default_context())
        self._end = end

    def do_open(self, http_class, req, **options):
        def respond(sock, *args, **more):
            response = http.client.HTTPResponse(sock, *args, **more)
            response.fp = io.BufferedReader(_Stream(response.fp, self._end))
            return response

        def connect(host, **more):
            connection = http_class(host, **more)
            connection.response_class, reach = respond, connection.connect

            def reach_soon():
                kind = socket.SOCK_STREAM
                count = len(socket.getaddrinfo(connection.host, connection.port, type=kind))
                # A socket's limit holds for each address, and a firewall swallows all of them.
                connection.timeout = max(CONNECT / count, min(CONNECT, SHORTEST))
                try:
                    reach()
                except TimeoutError:
                    reason = f"{host} does not answer within {CONNECT:.0f} s"
                    raise Failure(reason, most=1) from None
                connection.sock.settimeout(STALL)

            connection.connect = reach_soon
            return connection

        return super().do_open(connect, req, **options)


class _Stream(io.RawIOBase):
    """A response, headers included, that fails if the server is too slow.

    A socket's timeout restarts with each byte, so a server that trickles bytes never times out.
    """

    def __init__(self, file: io.BufferedReader, end: float):
        self._file, self._end = file, end
        self._since, self._count = monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._file.readinto1(buffer)
        self._count += count
        seconds = monotonic() - self._since
        if monotonic() > self._end:
            raise Failure("the time for all attempts is over", again=False)
        if seconds > STALL:
            if self._count < SLOWEST * seconds:
                raise Failure(f"the server is too slow: {self._count} bytes in {seconds:.1f} s")
            self._since, self._count = monotonic(), 0
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

"""Requests over verified TLS, and why they fail."""

import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

_PASSING = {408, 425, 429, 500, 502, 503, 504}  # of a server that may recover
_GONE_ON = 416  # nothing is left from the byte on that was asked for


class Trouble(Exception):
    """What ended an attempt.

    Attributes:
        passing: another attempt may do better.
        wait: seconds to wait before it, as the server asks; None: it does not.
        stale: what was kept of the file is of no use.
    """

    def __init__(
        self, reason: str, passing: bool = True, wait: float | None = None, stale: bool = False
    ):
        super().__init__(reason)
        self.reason, self.passing, self.wait, self.stale = reason, passing, wait, stale


@dataclass(frozen=True)
class Origin:
    """Where bytes came from, and what the server said of the file.

    Attributes:
        validator: strong ETag, else date of the last change; None: neither.
        length: of the whole file, bytes; None: not told.
    """

    url: str
    validator: str | None
    length: int | None


def is_safe(url: str) -> bool:
    """Tell whether the address is https, or http on this machine."""
    scheme = urlsplit(url).scheme
    return scheme == "https" or (scheme == "http" and _is_loopback(url))


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """Return an opener that verifies certificates and never leaves https."""
    handlers = [_Http(), _Https(context=ssl.create_default_context()), _Redirects()]
    if _is_loopback(url):  # no proxy reaches this machine's own servers
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def request_for(url: str, size: int = 0, origin: Origin | None = None) -> urllib.request.Request:
    """Return the request for a file, from byte `size` on if the file is still that of `origin`."""
    headers = {"User-Agent": "mindcv", "Accept-Encoding": "identity"}
    if origin:
        headers |= {"Range": f"bytes={size}-", "If-Range": origin.validator}
    return urllib.request.Request(url, headers=headers)


@contextmanager
def network():
    """Turn what urllib, TLS and sockets raise into trouble, passing or not."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            reason, wait = f"HTTP {error.code} {error.msg}", _retry_after(error.headers)
        if error.code == _GONE_ON:
            raise Trouble(reason, wait=0, stale=True) from None
        raise Trouble(reason, error.code in _PASSING, wait) from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # URLError wraps the cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f"the server's certificate is not trusted: {cause.verify_message}"
            raise Trouble(reason, passing=False) from None
        if isinstance(cause, TimeoutError):
            raise Trouble("the server fell silent") from None
        raise Trouble(f"{type(cause).__name__}: {cause}") from None


def refuse_other_content(response: http.client.HTTPResponse) -> None:
    """Raise trouble if the answer is a web page or encoded."""
    if response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xh")):
        reason = "the server sent a web page, maybe of a login or a proxy"
        raise Trouble(reason, passing=False)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise Trouble(f"the server sent it encoded ({encoding}), unasked", passing=False)


def origin_of(url: str, response: http.client.HTTPResponse) -> Origin:
    """Return what the answer says of the file."""
    etag = response.headers.get("ETag", "")
    # A weak ETag names files that mean the same, not the same bytes.
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    length = response.headers.get("Content-Length", "")
    return Origin(url, validator, int(length) if length.isdigit() else None)


def continues(response: http.client.HTTPResponse, size: int, origin: Origin) -> bool:
    """Tell whether a partial answer, `Content-Range: bytes 5-9/10`, goes on at byte `size`."""
    if origin.validator.startswith('"'):
        if response.headers.get("ETag", origin.validator) != origin.validator:
            return False
    span = f"bytes {size}-{origin.length - 1}/{origin.length}"
    return response.headers.get("Content-Range") == span


def _retry_after(headers) -> float | None:
    """Return the seconds to wait, from a number or a date."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        date = parsedate_to_datetime(asked)
    except (ValueError, TypeError):
        return None
    if date.tzinfo is None:  # the zone -0000
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())


class _InTime:
    """Limits the time until all headers are there.

    The timeout of a socket begins anew with each byte, so that a server could send headers, or
    `100 Continue`, for ever.
    """

    def getresponse(self):
        over = threading.Event()

        def give_up():
            over.set()
            self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if over.is_set():
                raise TimeoutError


class _HttpConnection(_InTime, http.client.HTTPConnection):
    pass


class _HttpsConnection(_InTime, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req):
        return self.do_open(_HttpConnection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req):
        return self.do_open(_HttpsConnection, req, context=self._context)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow ten redirects at most, and none from https to plain http."""

    max_redirections = 10

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        left = urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https"
        if left or not is_safe(newurl):
            fp.close()
            raise Trouble(f"redirected to {newurl}, which is not https", passing=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

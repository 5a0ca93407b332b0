"""A headless Chromium or Chrome, driven over the DevTools protocol by the standard library."""

import base64
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--remote-debugging-pipe"),
    "--disable-component-update",
)
_SECONDS = 300  # that an answer may take, on a machine that does much else
# Chromium reads the protocol from file 3 and writes it to file 4.
_START = (
    "import os, sys; r, w, *command = sys.argv[1:]; r, w = os.dup(int(r)), os.dup(int(w))\n"
    "for file, number in ((r, 3), (w, 4)):\n"
    "    os.dup2(file, number); os.set_inheritable(number, True)\n"
    "os.execv(command[0], command)"
)


class Browser:
    """One browser process; `show` opens a page in it, `run` evaluates JavaScript there."""

    def __init__(self, folder: Path):
        (read, self._to), (self._from, write) = os.pipe(), os.pipe()
        command = [PROGRAM, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        start = [sys.executable, "-c", _START, str(read), str(write), *command]
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self._process = subprocess.Popen(start, pass_fds=(read, write), **quiet)
        os.close(read)
        os.close(write)
        self._rest, self._number, self._session = b"", 0, None
        (target,) = (
            one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page"
        )
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # it has processes of its own
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def show(self, file: Path, width: int, scheme: str) -> None:
        """Open a file in a window of this many CSS pixels, in a colour scheme: dark or light."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", features=[feature])
        self._call("Page.navigate", url=file.resolve().as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return the value of an expression in JavaScript, of JSON's types."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self) -> np.ndarray:
        """Return the whole page, (H, W, 3) uint8."""
        found = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        image = Image.open(io.BytesIO(base64.b64decode(found["data"])))
        return np.asarray(image.convert("RGB"))

    def _call(self, method: str, **params) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], _SECONDS)
            found = os.read(self._from, 2**16) if ready else b""
            assert found, "the browser ended" if ready else f"no answer in {_SECONDS} s"
            self._rest += found
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

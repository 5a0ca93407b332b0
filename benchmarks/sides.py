"""Sides of a comparison: processes of their own that answer in JSON, and rounds in turn."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# oneDNN's variable, its older name, and torch's own kernels.
SPEED_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
WITHOUT_AVX512 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
START = time.monotonic()


class SideEnded(Exception):
    """A side ended before it answered; the message shows the last lines it wrote."""


class Side:
    """A process that answers one JSON line for each JSON line it gets.

    Its first line, {"ready": …}, says what it is.

    Args:
        command: Python, script and words.
        folder: where it runs.
        is_ours: it imports the library of this checkout; other sides import what they have
            installed.
        **variables: of its environment; otherwise no variable limits its instruction sets.

    Raises:
        SideEnded: it ended before it was ready.
    """

    def __init__(self, command: list[str], folder: Path = HERE, is_ours=False, **variables: str):
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(is_ours, **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self.ready = self._answer()["ready"]

    def ask(self, request) -> dict:
        """Send a request and return the answer."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def close(self) -> None:
        """End the process, with its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        code = self._process.wait()
        command = " ".join(map(str, self._process.args))
        raise SideEnded(f"{command} ended with code {code}: {last_lines(self._errors)}")


def serve(ready, answer: Callable[[object], dict]) -> None:
    """Be a side: answer the requests of standard input until it ends."""
    print(json.dumps({"ready": ready}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def environment(is_ours: bool, **variables: str) -> dict[str, str]:
    """Return this process's variables without those that choose a library or its speed."""
    unwanted = {"PYTHONPATH", *SPEED_VARIABLES}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"GLOG_v": "3"} | ({"PYTHONPATH": str(ROOT)} if is_ours else {}) | variables


def last_lines(file, count: int = 5) -> str:
    file.seek(0)
    return "\n".join(file.read().strip().splitlines()[-count:]) or "it wrote no error"


def take_turns(
    turns: dict[str, Callable], rounds: int, budget: float = math.inf
) -> dict[str, list]:
    """Call each in turn, round by round; what slows the machine slows all of them.

    Args:
        turns: names and calls without arguments.
        rounds: rounds at most.
        budget: seconds after which no further round begins; three rounds are always taken.
    """
    values = {name: [] for name in turns}
    start = time.monotonic()
    for number in range(rounds):
        if number >= 3 and time.monotonic() - start > budget:
            break
        for name, turn in turns.items():
            values[name].append(turn())
    return values


def library_versions(mindcv_python: str) -> dict[str, str]:
    """Return the versions of this library, of MindCV, and of MindSpore on either side."""
    code = "import mindcv, mindspore; print(f'{mindcv.__version__}, {mindspore.__version__}')"
    found = {}
    for name, python in (("ours", sys.executable), ("MindCV", mindcv_python)):
        done = subprocess.run(
            [python, "-c", code],
            cwd=HERE,  # -c imports from there first: not the checkout
            env=environment(name == "ours"),
            capture_output=True,
            text=True,
            check=True,
        )
        library, framework = done.stdout.strip().splitlines()[-1].split(", ")
        found[name] = f"{library}, MindSpore {framework}"
    return found


def say(text: str) -> None:
    """Print a line of progress with the time since the start."""
    minutes, seconds = divmod(int(time.monotonic() - START), 60)
    print(f"[{minutes:2d}:{seconds:02d}] {text}", file=sys.stderr, flush=True)


def create_parser(description: str) -> ArgumentParser:
    """Return a parser with the options that the scripts share."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--peers-python", help="Python with torch, torchvision, timm, onnxruntime")
    parser.add_argument("--mindcv-python", help="Python with mindcv==0.3.0 and this MindSpore")
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each side")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--json", type=Path, help="write the results there, too")
    return parser


def python_of(library: str, asked: Namespace) -> str | None:
    """Return the Python that runs a side, or None where the user gave none."""
    pythons = {"ours": sys.executable, "MindCV": asked.mindcv_python}
    return pythons.get(library, asked.peers_python)

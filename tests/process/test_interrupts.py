"""Ctrl-C ends a command with 130, whatever MindSpore does with the signal."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

# MindSpore's pipelines take SIGINT over; SIG_IGN stands for their handler.
STAND_IN = """
import contextlib, os, signal, sys, time
from mindcv.command import run

def main(config):
    what = os.environ["WHAT"]
    if what == "import":
        print("ready", flush=True)
        while True:
            import mindspore
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:
        if what == "listen":
            from mindcv.process.signals import StopSignal
            stop = StopSignal()
            stack.enter_context(stop.listening())
        print("ready", flush=True)
        time.sleep(1 if what == "listen" else 60)
        while stop.received is None:
            time.sleep(0.01)
        print(stop.received.name, flush=True)
        time.sleep(60)

run(main, "stand-in", "", rules=lambda config: ())
"""


def start(what: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", STAND_IN],
        env={**os.environ, "WHAT": what, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


@pytest.mark.parametrize("what", ["import", "sleep"])
def test_a_command_that_nobody_asked_to_save_leaves_at_once(what):
    process = start(what)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "stopped by the user\n")


@pytest.mark.parametrize("name", ["train.py", "validate.py"])
def test_numpy_is_not_imported_before_the_signal_is_taken_over(name):
    """Its threads would take the signal."""
    code = f"import runpy, sys; runpy.run_path({str(ROOT / name)!r}); print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n"


def test_a_run_remembers_the_first_and_leaves_at_the_second():
    process = start("listen")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "SIGINT\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "")

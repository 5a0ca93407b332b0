"""Run many commands, each in a process of its own, and import MindSpore only once.

    with WarmCommands() as commands:
        done = commands.run(["train.py", "--model", "m"], folder)

A process that has imported MindSpore, and started nothing, is copied (fork) for each command. From
there on it is what `python train.py …` is: standard streams, arguments and the interpreter's end
are its own. What is written while MindSpore is being imported is not seen this way; a few tests
start their commands from scratch for that.
"""

import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


class WarmCommands:
    """The process that is copied; it starts with the first command.

    Args:
        *modules: what it has imported; default: MindSpore.
        **variables: of its environment.

    Attributes:
        variables: these, and PYTHONPATH.
    """

    def __init__(self, *modules: str, **variables: str):
        self._modules = modules or ("mindspore",)
        self.variables = {"PYTHONPATH": str(ROOT)} | variables
        self._process: subprocess.Popen | None = None

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()  # for the streams of the commands
        return self

    def __exit__(self, *_):
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(30)
        self._folder.cleanup()

    def run(self, words: list, cwd: Path, **variables: str) -> Done:
        """Run `train.py …`, `validate.py …`, `mindcv COMMAND …` or a program, in a folder."""
        own = {key: value for key, value in os.environ.items() if "GLOG" not in key}
        environment = own | self.variables | variables
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__, *self._modules],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        out, err = (Path(self._folder.name, name) for name in ("out.txt", "err.txt"))
        order = [list(map(str, words)), str(cwd), str(out), str(err), environment]
        print(json.dumps(order), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return Done(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def _serve(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # the copies do not visit what MindSpore made, which takes longer than a fork
    for line in sys.stdin:
        words, cwd, out, err, environment = json.loads(line)
        child = os.fork()
        if not child:
            _become(words, cwd, out, err, environment)
            return  # to the end of the program, as a command does
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)


def _become(words, cwd, out, err, environment) -> None:
    for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        flags = (
            os.O_RDWR if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        )
        os.dup2(os.open(path, flags), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # found again, where TMPDIR says
    script = words[0]
    sys.argv = [script, *words[1:]]
    if script == "mindcv":
        runpy.run_module("mindcv", run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str((ROOT / script).parent))
        runpy.run_path(str(ROOT / script), run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1:])

"""Weight files with random damage: read or refused, in seconds and in little memory."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from mindcv.weights import write_weights
from mindcv.weights.array_files import write_npz

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"

FUZZ = r"""
# What zip archives, pickles and array headers may need, imported before anything is watched.
import encodings.ascii, encodings.cp437, encodings.latin_1, encodings.raw_unicode_escape
import tokenize, unicodedata
import io, os, random, re, resource, sys, time, zipfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mindcv.errors import WeightsError
from mindcv.weights import read_weights

# Nothing in a file may start or open anything: whoever tries ends the program.
watched = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "exec",
           "socket.connect", "compile", "import", "os.remove", "os.rename", "shutil.rmtree")
def watch(event, arguments):
    allowed = event == "compile" and watching == "reading npy"  # the header is parsed, never run
    if watching and event in watched and not allowed:
        os.write(2, f"{event} {arguments!r}\n".encode())
        os._exit(9)
watching = ""
sys.addaudithook(watch)

folder, golden, rounds = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)

def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}

def rebuilt(parts):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return target.getvalue()

def mutate(data, random):
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data)) if random.random() < 0.5 else random.randrange(
            min(len(data), 600))
        kind = random.randrange(6)
        if kind == 0:
            data[at] = random.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 2:
            data[at : at + 8] = random.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7))
        elif kind == 3:
            del data[at : at + random.randrange(1, 40)]
        elif kind == 4:
            other = random.randrange(len(data))
            data[at:at] = data[other : other + random.randrange(1, 40)]
        else:
            del data[at:]
        if not data:
            break
    return bytes(data)

def inside(suffix):
    def change(content, random):
        parts = members(content)
        name = random.choice([n for n in parts if n.endswith(suffix)])
        return rebuilt({**parts, name: mutate(parts[name], random)})
    return change

cases = {
    "zip": ("zip.pth", mutate), "pickle": ("zip.pth", inside("data.pkl")),
    "legacy": ("legacy.pth", mutate), "npz": ("small.npz", mutate),
    "npy": ("small.npz", inside(".npy")), "state": ("run.state.npz", mutate),
    "safetensors": ("small.safetensors", mutate),
}
outcomes, slowest = {}, 0.0
for case, (name, change) in cases.items():
    content = ((golden if name.endswith("pth") else folder) / name).read_bytes()
    assert read_weights((golden if name.endswith("pth") else folder) / name).tensors
    for seed in range(rounds):
        path = folder / "mutant"
        path.unlink(missing_ok=True)
        path.write_bytes(change(content, random.Random(f"{case} {seed}")))
        began = time.perf_counter()
        watching = "reading npy" if b"NUMPY" in path.read_bytes() else "reading"
        try:
            read_weights(path)
            outcome = "read"
        except WeightsError:
            outcome = "refused"
        except BaseException as error:
            print(f"{case} {seed}: {type(error).__name__}: {error}")
            outcome = "escaped"
        watching = ""
        slowest = max(slowest, time.perf_counter() - began)
        outcomes[case, outcome] = outcomes.get((case, outcome), 0) + 1
print(outcomes, "slowest", round(slowest, 2), "s; peak",
      int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) // 1024, "MB")
"""


@pytest.mark.parametrize("rounds", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_are_read_or_refused_in_bounded_memory(tmp_path, rounds):
    """Every mutant is read or a WeightsError, in seconds and in little memory."""
    arrays = {"a": np.arange(12.0).reshape(3, 4), "b": np.ones((2, 2), np.float16)}
    np.savez(tmp_path / "small.npz", **arrays)
    with open(tmp_path / "run.state.npz", "wb") as stream:
        write_npz(stream, arrays)
    write_weights(str(tmp_path / "small.safetensors"), arrays)
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(ROOT), str(tmp_path), str(GOLDEN), str(rounds)],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    assert "escaped" not in done.stdout, done.stdout
    print(done.stdout)
    for case in ("zip", "pickle", "legacy", "npz", "npy", "state", "safetensors"):
        assert f"('{case}', 'refused')" in done.stdout
    assert int(re.search(r"peak (\d+) MB", done.stdout)[1]) < 200
    assert float(re.search(r"slowest ([\d.]+) s", done.stdout)[1]) < 20

"""The input pipelines of this library, MindCV 0.3.0 and timm, side by side on photographs.

    python benchmarks/pipeline/make_photos.py PHOTOS
    MINDCV_030=FOLDER PEERS_PYTHON=PYTHON python benchmarks/pipeline/compare.py PHOTOS
    python benchmarks/pipeline/compare.py PHOTOS --levers

MINDCV_030 is where mindcv==0.3.0 is unpacked (`pip install --no-deps --target FOLDER`),
PEERS_PYTHON a Python with torch and timm; a side that is not told of is left out. Each side is a
process that lives through all passes. They take turns, pass by pass: what slows the machine slows
all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from cases import CASES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--passes", type=int, default=5, help="after one that warms up")
    parser.add_argument("--levers", action="store_true", help="what each lever gave, ours only")
    arguments = parser.parse_args()
    photos = str(arguments.photos.resolve())
    sides = {"ours": _start([sys.executable, "side.py", "ours", photos], PYTHONPATH=str(ROOT))}
    if not arguments.levers:
        if place := os.environ.get("MINDCV_030"):
            sides["MindCV"] = _start([sys.executable, "side.py", "mindcv", photos, place])
        if python := os.environ.get("PEERS_PYTHON"):
            sides["timm"] = _start([python, "side.py", "timm", photos])
    for name, side in sides.items():
        print(f"{name}: {_answer(side)['ready']}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    measured = {}
    for case in arguments.cases:
        measured[case] = _measure(sides, case, arguments.passes, arguments.levers)
        _print_case(case, measured[case])
    if not arguments.levers:
        _print_summary(measured)
    else:
        print("\n" + subprocess.run(
            [sys.executable, "graph.py"], cwd=HERE, env=_environment(PYTHONPATH=str(ROOT)),
            check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ).stdout)  # fmt: skip
    for side in sides.values():
        side.stdin.close()
        side.wait()


def _measure(sides: dict, case: str, passes: int, levers: bool) -> dict[str, list[dict]]:
    """Return the passes of each pipeline, measured in turn; the first round is left out."""
    if levers:
        from levers import OF_CASE

        turns = [("as it is", sides["ours"], case)]
        turns += [(name, sides["ours"], f"{case}/{name}") for name in OF_CASE[case]]
    else:
        turns = [(name, side, case) for name, side in sides.items()]
        turns.insert(1, ("ours, run", sides["ours"], f"{case}/run"))
    turns.append(("bound", sides["ours"], "bound"))
    rounds: dict[str, list[dict]] = {name: [] for name, *_ in turns}
    for _ in range(passes + 1):
        for name, side, pipeline in turns:
            side.stdin.write(pipeline + "\n")
            side.stdin.flush()
            rounds[name].append(_answer(side))
    return {name: answers[1:] for name, answers in rounds.items()}


def _print_case(case: str, rounds: dict[str, list[dict]]) -> None:
    first, rates, ratios = _rates(rounds)
    print(f"\n| {case} | images/s | range | {first} / this | CPU ms/image | first batch, s |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, answers in rounds.items():
        busy = statistics.median(1e3 * answer["busy"] / answer["images"] for answer in answers)
        start = statistics.median(answer["first"] for answer in answers)
        print(
            f"| {name} | {statistics.median(rates[name]):.0f} | {min(rates[name]):.0f}-"
            f"{max(rates[name]):.0f} | {ratios[name]:.2f} | "
            f"{'in workers' if name == 'timm' else f'{busy:.2f}'} | {start:.2f} |",
            flush=True,
        )


def _print_summary(measured: dict[str, dict[str, list[dict]]]) -> None:
    """Print images/s of all cases, and in brackets how many times as fast ours is."""
    print(f"\n| | {' | '.join(next(iter(measured.values())))} |")
    print("|---" * (1 + len(next(iter(measured.values())))) + "|")
    for case, rounds in measured.items():
        first, rates, ratios = _rates(rounds)
        cells = [
            f"{statistics.median(own):.0f}"
            + ("" if name in (first, "ours, run") else f" ({ratios[name]:.2f})")
            for name, own in rates.items()
        ]
        print(f"| {case} | {' | '.join(cells)} |", flush=True)


def _rates(rounds: dict[str, list[dict]]) -> tuple[str, dict[str, list[float]], dict[str, float]]:
    """Return the first pipeline, images/s of each pass, and medians of the first's over them."""
    rates = {
        name: [answer["images"] / answer["seconds"] for answer in answers]
        for name, answers in rounds.items()
    }
    first = next(iter(rates))
    ratios = {
        name: statistics.median(a / b for a, b in zip(rates[first], own))
        for name, own in rates.items()
    }
    return first, rates, ratios


def _start(command: list[str], **variables) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=HERE,
        env=_environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _environment(**variables) -> dict[str, str]:
    return {**os.environ, "GLOG_v": "3", **variables}


def _answer(side: subprocess.Popen) -> dict:
    for line in side.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"a side ended: {' '.join(map(str, side.args))}; run it by hand")


if __name__ == "__main__":
    main()

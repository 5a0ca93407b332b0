"""The input pipelines of this library, MindCV 0.3.0 and timm, side by side on photographs.

    python benchmarks/pipeline/make_photos.py PHOTOS
    python benchmarks/pipeline/compare.py PHOTOS --mindcv-python PYTHON --peers-python PYTHON
    python benchmarks/pipeline/compare.py PHOTOS --levers

The Pythons are those of environments with mindcv==0.3.0, and with torch and timm; a side without
one is left out. Each side is a process that lives through all passes. They take turns, pass by
pass: what slows the machine slows all.
"""

import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cases import CASES, SIDE, WORKERS  # noqa: E402
from sides import Side, create_parser, environment, python_of, say, take_turns  # noqa: E402
from tables import Table, markdown, write_results  # noqa: E402


def main() -> None:
    parser = create_parser(__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--levers", action="store_true", help="what each lever gave, ours only")
    asked = parser.parse_args()
    photos = asked.photos.resolve()
    sides = start_sides(asked, str(photos))
    count = sum(1 for path in (photos / "train").rglob("*") if path.is_file())
    table = Table("Input pipelines", f"{count} photographs, {SIDE} pixels", "images/s")
    table.notes.append(f"{WORKERS} workers a side; `bound` only decodes, crops and resizes.")
    versions = {name: side.ready for name, side in sides.items()}
    for case in asked.cases:
        answers = measure(sides, case, asked.rounds, asked.levers)
        table.rows[case] = {
            name: [answer["images"] / answer["seconds"] for answer in own]
            for name, own in answers.items()
        }
        print_costs(case, answers)
        write_results(asked.json, [table], versions, is_finished=case == asked.cases[-1])
    print("\n" + markdown(table))
    for side in sides.values():
        side.close()
    if asked.levers:
        print("\n" + subprocess.run(
            [sys.executable, "graph.py"], cwd=HERE, env=environment(is_ours=True),
            check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ).stdout)  # fmt: skip


def start_sides(asked, photos: str) -> dict[str, Side]:
    sides = {}
    for name in ("ours",) if asked.levers else ("ours", "MindCV", "timm"):
        if python := python_of(name, asked):
            sides[name] = Side([python, "side.py", name, photos], HERE, name == "ours")
            say(f"{name}: {sides[name].ready}")
    return sides


def measure(sides: dict, case: str, passes: int, levers: bool) -> dict[str, list[dict]]:
    """Return the passes of each pipeline, measured in turn, after a round that warms up."""
    if levers:
        from levers import OF_CASE

        turns = [("as it is", sides["ours"], case)]
        turns += [(name, sides["ours"], f"{case}/{name}") for name in OF_CASE[case]]
    else:
        turns = [(name, side, case) for name, side in sides.items()]
        turns.insert(1, ("ours, run", sides["ours"], f"{case}/run"))
    turns.append(("bound", sides["ours"], "bound"))
    calls = {name: lambda side=side, what=what: side.ask(what) for name, side, what in turns}
    take_turns(calls, 1)
    answers = take_turns(calls, passes)
    say(f"{case}: {passes} passes")
    return answers


def print_costs(case: str, passes: dict[str, list[dict]]) -> None:
    """Print what an image costs beside the clock's time."""
    print(f"\n| {case} | CPU ms/image | first batch, s |\n|---|---|---|")
    for name, answers in passes.items():
        busy = statistics.median(1e3 * answer["busy"] / answer["images"] for answer in answers)
        start = statistics.median(answer["first"] for answer in answers)
        cost = "in workers" if name == "timm" else f"{busy:.2f}"
        print(f"| {name} | {cost} | {start:.2f} |", flush=True)


if __name__ == "__main__":
    main()

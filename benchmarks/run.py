"""Measure this library beside its peers, and write the whole table.

    python benchmarks/run.py [--only convolutions,models] [--mindcv-checkout FOLDER] [--quick]

Peers are installed into environments of their own on first use, unless their Pythons are given.
Results go to benchmarks/results: a JSON file for each section, table.md and chart.png. A section
that fails leaves the others alone; --resume measures only what has not been finished.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from environments import make_environments
from report import read_optimizers, write_report
from sides import HERE, ROOT, environment, library_versions, say
from tables import read_results

# Minutes on two cores, without anything else running.
MINUTES = {
    "convolutions": 5,
    "optimizers": 11,
    "first_step": 3,
    "epochs": 10,
    "pipelines": 2,
    "checkpoints": 1,
    "restart": 5,
    "models": 15,
}
NEED_CHECKOUT = ("first_step", "epochs")


def main() -> int:
    asked = create_parser().parse_args()
    if asked.quick:
        asked.results = asked.results or Path(tempfile.mkdtemp(prefix="benchmark-"))
        asked.rounds = min(asked.rounds, 2)
    asked.results = (asked.results or HERE / "results").resolve()
    asked.results.mkdir(parents=True, exist_ok=True)
    find_peers(asked)
    sections = [name for name in asked.only if name not in NEED_CHECKOUT or asked.mindcv_checkout]
    if len(sections) < len(asked.only):
        say("first_step and epochs are skipped: they need --mindcv-checkout")
    if {"pipelines", "epochs", "first_step", "restart"} & set(sections):
        make_photos(asked)
    total = sum(MINUTES[name] for name in sections)
    if not asked.quick:
        say(f"about {total} minutes; let nothing else run on this machine")
    failed = [name for name in sections if not run_section(name, asked)]
    print(write_report(asked.results, list(MINUTES)))
    say(f"results are in {asked.results}")
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", type=section_names, default=list(MINUTES), help="sections, with commas between"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each side")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--resume", action="store_true", help="keep what was finished")
    parser.add_argument("--results", type=Path, help="default: benchmarks/results")
    parser.add_argument(
        "--environments",
        type=Path,
        default=HERE / "environments",
        help="where peers and photographs are installed",
    )
    parser.add_argument("--peers-python", help="Python with torch, torchvision, timm, onnxruntime")
    parser.add_argument("--mindcv-python", help="Python with mindcv==0.3.0 and this MindSpore")
    parser.add_argument(
        "--mindcv-checkout", type=Path, help="MindCV's repository at v0.3.0, for its train.py"
    )
    return parser


def section_names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in MINUTES:
            raise argparse.ArgumentTypeError(f"no section {name!r}; there are {', '.join(MINUTES)}")
    return names


def find_peers(asked) -> None:
    given = {"peers": asked.peers_python, "mindcv": asked.mindcv_python}
    missing = [name for name, python in given.items() if python is None]
    if set(asked.only) <= {"checkpoints", "restart"}:
        return
    made = make_environments(asked.environments.resolve(), missing)
    asked.peers_python = asked.peers_python or made["peers"]
    asked.mindcv_python = asked.mindcv_python or made["mindcv"]


def make_photos(asked) -> None:
    """Make the photographs of the pipelines and of the runs, each once."""
    name = "quick_photos" if asked.quick else "photos"
    asked.photos = asked.environments.resolve() / name
    asked.few_photos = asked.environments.resolve() / f"few_{name}"
    counts = ((64, 0), (32, 16)) if asked.quick else ((1215, 0), (400, 100))
    for folder, (train, val) in zip((asked.photos, asked.few_photos), counts):
        if not folder.exists():
            new = folder.with_name(f"new_{folder.name}")
            words = [new, "--count", train, "--val", val]
            run("pipeline/make_photos.py", words)
            new.rename(folder)


def run_section(name: str, asked) -> bool:
    """Run a section's script; return whether it succeeded."""
    path = asked.results / f"{name}.json"
    if asked.resume and path.exists() and read_results(path)[0]["is_finished"]:
        say(f"{name}: done before")
        return True
    say(f"{name}, about {MINUTES[name]} minutes" if not asked.quick else name)
    peers = ["--peers-python", asked.peers_python, "--mindcv-python", asked.mindcv_python]
    if name == "optimizers":
        words = ["--peer", asked.mindcv_python]
        words += ["--steps", 2, "--opt", "sgd"] if asked.quick else []
    else:
        words = ["--quick"] if asked.quick else []
        words += [] if name in ("checkpoints", "restart") else peers
    script, own = {
        "convolutions": ("networks.py", ["convolutions"]),
        "optimizers": ("optimizers.py", []),
        "first_step": ("train_commands.py", ["first_step"]),
        "epochs": ("train_commands.py", ["epochs"]),
        "pipelines": ("pipeline/compare.py", []),
        "checkpoints": ("checkpoint.py", []),
        "restart": ("restart.py", []),
        "models": ("networks.py", ["models"]),
    }[name]
    if name in NEED_CHECKOUT:
        own += ["--mindcv-checkout", asked.mindcv_checkout.resolve(), "--photos", asked.few_photos]
    elif name == "restart":
        own += ["--photos", asked.few_photos]
    elif name == "pipelines":
        own += [asked.photos]
    elif name == "models" and asked.resume:
        own += ["--resume"]
    is_done = run(script, [*own, *words, "--rounds", asked.rounds, "--json", path])
    if is_done and name == "optimizers":
        read_optimizers(path, library_versions(asked.mindcv_python))
    return is_done


def run(script: str, words: list) -> bool:
    """Run a script of this folder with this Python; what it prints goes to standard error."""
    command = [sys.executable, str(HERE / script), *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment(is_ours=True), stdout=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

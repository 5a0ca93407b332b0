"""Run the tests under every MindSpore version that setup.py admits and pip can install here.

    python .ci/versions.py /path/to/environments
    python .ci/versions.py /path/to/environments --versions 2.7.0 2.9.0 --suite

Each version gets an environment of its own in the folder, made with the Python that runs this
command, and kept for the next time. The core tests run in it, one version after the other; with
--suite the whole default suite. The results go to the table in docs/versions.md, a row a version:
rows of versions that were not run now stay. Ends with 1 if a test failed.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "versions.md"
VERSIONS = (
    *("2.3.1", "2.4.0", "2.4.1", "2.4.10", "2.5.0", "2.6.0"),
    *("2.7.0", "2.7.1", "2.7.2", "2.8.0", "2.9.0", "2.10.0"),
)
# Models; the step, its operators and augmentation; train.py; resuming; data; weights.
CORE = (
    "models/test_regnet.py",
    "engine/test_compiled_operators.py",
    "data/test_device_augment.py",
    "runs/test_train_command.py::test_every_mode_gives_the_same_metrics_and_no_new_deprecation_warning",
    "runs/test_resume.py",
    "data/test_epoch_batches.py",
    "weights/test_weight_formats.py",
    "weights/test_checkpoint_file.py",
)
HEAD = "| MindSpore | Python | tests | passed | failed | skipped | minutes | date | commit |"


@dataclass(frozen=True)
class Result:
    """What a version's tests came to; `reason` instead where they could not run."""

    version: str
    tests: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    minutes: float = 0.0
    reason: str = ""

    def row(self, commit: str) -> str:
        counts = (self.passed, self.failed, self.skipped, f"{self.minutes:.1f}")
        cells = (self.reason, *"––––") if self.reason else (self.tests, *counts)
        cells = (self.version, platform.python_version(), *cells, date.today(), commit)
        return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the environments are kept")
    parser.add_argument("--versions", nargs="+", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--suite", action="store_true", help="the whole default suite")
    options = parser.parse_args()
    commit, results = _commit(), []
    for version in options.versions:
        results.append(run_version(version, options.folder / version, options.suite))
        print(results[-1].row(commit), flush=True)
        write_rows({version: results[-1].row(commit)})
    return int(any(result.failed for result in results))


def run_version(version: str, folder: Path, whole_suite: bool) -> Result:
    """Make the environment where there is none, and run the tests in it."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        words = [python, "-m", "pip", "install", "--quiet", f"mindspore=={version}"]
        done = subprocess.run(
            [*words, "--editable", f"{ROOT}[demo,test]"], capture_output=True, text=True
        )
        if done.returncode:
            missing = "No matching distribution" in done.stderr
            reason = "no wheel for this Python" if missing else _last_line(done.stderr)
            return Result(version, reason=f"not installed: {reason}")
        (folder / "complete").touch()
    report = folder / "tests.xml"
    report.unlink(missing_ok=True)
    files = [] if whole_suite else [f"tests/{name}" for name in CORE]
    processes = [] if whole_suite else ["-n", "0"]
    subprocess.run(
        [python, "-m", "pytest", *processes, f"--junitxml={report}", *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return _read(report, version, "suite" if whole_suite else "core")


def write_rows(rows: dict[str, str]) -> None:
    """Replace the rows of these versions in the table, and add those that are new."""
    text = TABLE.read_text(encoding="utf-8")
    before, table, after = re.split(rf"({re.escape(HEAD)}\n(?:\|.*\n)*)", text)
    lines = table.splitlines()
    found = {line.split("|")[1].strip(): line for line in lines[2:]} | rows
    ordered = sorted(found, key=lambda version: [int(part) for part in version.split(".")])
    table = "\n".join([*lines[:2], *(found[version] for version in ordered)])
    TABLE.write_text(f"{before}{table}\n{after}", encoding="utf-8")


def _read(report: Path, version: str, tests: str) -> Result:
    if not report.exists():
        return Result(version, reason="pytest did not finish", failed=1)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    minutes = float(suite.get("time")) / 60
    return Result(version, tests, passed, failed, count["skipped"], minutes)


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "mindcv", "tests")
    return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].replace("|", "/")[:100]


if __name__ == "__main__":
    sys.exit(main())

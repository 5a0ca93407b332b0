"""Results: tables of repeated measurements, kept as JSON and shown as Markdown."""

import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Table:
    """Measurements of several sides, round by round.

    Attributes:
        title: what is measured.
        setting: sizes, batches, options.
        unit: of the values. A rate (…/s) is better when it is higher, a time when it is lower.
        rows: what is measured -> side -> a value for each round; the first side is compared
            with the others.
        facts: what is measured -> further columns, name and text.
        notes: what a reader has to know.
    """

    title: str
    setting: str
    unit: str
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ratio(self, row: str, side: str) -> float | None:
        """Return how many times as fast the first side is: the median of the rounds' ratios."""
        values = self.rows[row]
        own, other = values.get(self.sides[0]), values.get(side)
        if not own or not other or not all(own + other):
            return None
        if self.unit.endswith("/s"):
            own, other = other, own
        return statistics.median(b / a for a, b in zip(own, other))

    @property
    def sides(self) -> list[str]:
        return list(dict.fromkeys(side for values in self.rows.values() for side in values))


def markdown(table: Table) -> str:
    """Return the table: median, range, and how many times as fast the first side is."""
    facts = list(dict.fromkeys(name for facts in table.facts.values() for name in facts))
    heads = [f"{table.unit}", *facts, *table.sides]
    lines = [f"**{table.title}**: {table.setting}", "", _line(heads), "|---" * len(heads) + "|"]
    for row, values in table.rows.items():
        cells = [table.facts.get(row, {}).get(name, "") for name in facts]
        cells += [_cell(table, row, side, values.get(side)) for side in table.sides]
        lines.append(_line([row, *cells]))
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes)])


def _cell(table: Table, row: str, side: str, values: list[float] | None) -> str:
    if not values:
        return ""
    middle, low, high = map(_number, (statistics.median(values), min(values), max(values)))
    ratio = None if side == table.sides[0] else table.ratio(row, side)
    return f"{middle} ({low}–{high})" + (f" **{ratio:.2f}×**" if ratio else "")


def _number(value: float) -> str:
    """Return three digits."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}" if value < 0.1 else f"{value:.2f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_results(
    path: Path | None, tables: list[Table], versions: dict[str, str], is_finished: bool
) -> None:
    """Write tables with machine, versions and commit; replace the file in one step."""
    if path is None:
        return
    content = {
        "is_finished": is_finished,
        "machine": machine(),
        "versions": versions,
        "tables": [asdict(table) for table in tables],
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def read_results(path: Path) -> tuple[dict, list[Table]]:
    """Return what `write_results` wrote, and its tables."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content, [Table(**table) for table in content["tables"]]


def machine() -> dict[str, str]:
    """Describe this machine, the time, and the commit of this checkout."""
    facts = _colon_lines("/proc/cpuinfo")
    memory = int(_colon_lines("/proc/meminfo").get("MemTotal", "0 kB").split()[0]) / 2**20
    return {
        "processor": facts.get("model name", platform.processor() or platform.machine()),
        "instructions": "AVX-512" if has_avx512() else "no AVX-512",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "commit": _commit(),
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def has_avx512() -> bool:
    return "avx512f" in _colon_lines("/proc/cpuinfo").get("flags", "").split()


def _colon_lines(path: str) -> dict[str, str]:
    """Return the first value of each name."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}  # not Linux
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    return {name.strip(): value.strip() for name, value in reversed(pairs)}


def _commit() -> str:
    """Return the commit, marked where files of the library or the benchmarks differ from it."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=, with changes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "no git checkout"

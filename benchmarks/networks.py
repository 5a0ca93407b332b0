"""Training and inference of networks: this library, torch, timm, MindCV and onnxruntime.

    python benchmarks/networks.py convolutions --peers-python PYTHON --mindcv-python PYTHON
    python benchmarks/networks.py models --peers-python PYTHON --mindcv-python PYTHON

`convolutions` measures one network closely, with the processor's AVX-512 as it is, and hidden.
`models` measures every network of the registry, with MindCV at the fast level of oneDNN: at its own
it would take hours (see `convolutions`). Random images and labels, float32, SGD with momentum,
cross entropy. The sides compile side by side; then they take turns.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sides import (
    HERE,
    ROOT,
    WITHOUT_AVX512,
    Side,
    SideEnded,
    create_parser,
    python_of,
    say,
    take_turns,
)
from tables import Table, has_avx512, markdown, read_results, write_results

sys.path.insert(0, str(ROOT))
from mindcv.design_space import SETTINGS  # noqa: E402
from mindcv.design_space.complexity import complexity  # noqa: E402

# Which libraries do what. timm's batch normalisation is a class of its own, which torch's `fuse`
# does not know; onnxruntime folds by itself, and only infers.
TASKS = {
    "training": ("ours", "torchvision", "timm", "MindCV"),
    "inference": ("ours", "torchvision", "timm", "MindCV"),
    "folded": ("ours", "torchvision", "onnxruntime"),
}
TASK_TITLES = {"folded": "inference, batch norm folded"}
TURN_SECONDS = {"convolutions": 1.0, "models": 0.3}  # of a side, about
TASK_BUDGETS = {"convolutions": math.inf, "models": 15}  # seconds, see `take_turns`
STEP_GMACS = 8  # of a step of `models`: multiply-accumulates of its batch, forward
LARGE = 300e6  # parameters from which sides run one after the other, to keep below 12 GB


def main() -> None:
    parser = create_parser(__doc__.splitlines()[0])
    parser.add_argument("section", choices=("convolutions", "models"))
    parser.add_argument("--model", default="regnet_x_800mf", help="of convolutions")
    parser.add_argument("--batch", type=int, default=16, help="of convolutions")
    parser.add_argument("--models", nargs="*", choices=list(SETTINGS), help="default: all")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--resume", action="store_true", help="keep the models done in --json")
    asked = parser.parse_args()
    if asked.quick:
        asked.batch, asked.size = 2, 32
        asked.models = asked.models or ["regnet_x_200mf", "regnet_z_500mf"]
    versions = {}
    section = measure_convolutions if asked.section == "convolutions" else measure_models
    tables = []
    for tables in section(asked, versions):
        write_results(asked.json, tables, versions, is_finished=False)
    write_results(asked.json, tables, versions, is_finished=True)
    print("\n\n".join(map(markdown, tables)))


def measure_convolutions(asked, versions: dict[str, str]) -> Iterator[list[Table]]:
    setting = f"{asked.model}, {asked.size} pixels, batch {asked.batch}"
    tables = []
    cases = {"as it is": {}, "hidden": WITHOUT_AVX512} if has_avx512() else {"": {}}
    for case, variables in cases.items():
        title = f"Convolutions, AVX-512 {case}" if case else "Convolutions"
        tables.append(table := Table(title, setting, "images/s"))
        libraries = list(dict.fromkeys(name for names in TASKS.values() for name in names))
        if variables:
            libraries.remove("onnxruntime")  # has no such switch
            table.notes.append(
                "onnxruntime is left out: no variable keeps it from AVX-512. Torch, timm and "
                "MindCV have the same variables set as this library."
            )
        for task, rates in measure(asked, libraries, TASKS, variables, versions, table.notes):
            table.rows[TASK_TITLES.get(task, task)] = rates
            yield tables


def measure_models(asked, versions: dict[str, str]) -> Iterator[list[Table]]:
    setting = f"{asked.size} pixels; MindCV with ONEDNN_MAX_CPU_ISA=AVX2, torch is timm"
    tasks = ("training", "inference")
    tables = [Table(f"All models, {task}", setting, "images/s") for task in tasks]
    if asked.resume and asked.json and asked.json.exists():
        content, tables = read_results(asked.json)
        versions.update(content["versions"])
    notes = tables[1].notes
    for name in asked.models or SETTINGS:
        if name in tables[1].rows:
            continue
        cost = complexity(SETTINGS[name].plan(), asked.size)
        asked.model, asked.batch = name, batch_of(cost.macs)
        facts = {"parameters": f"{cost.params / 1e6:.2f} M", "batch": str(asked.batch)}
        libraries = ["ours", "MindCV", "timm"]
        if not is_mindcvs(name):
            libraries.remove("MindCV")
        groups = [[library] for library in libraries] if cost.params > LARGE else [libraries]
        for table in tables:
            table.rows[name], table.facts[name] = dict.fromkeys(libraries, []), facts
        for group in groups:
            able = dict.fromkeys(tasks, group)
            for task, rates in measure(asked, group, able, {}, versions, notes):
                tables[tasks.index(task)].rows[name].update(rates)
        yield tables


def batch_of(macs: int) -> int:
    """Return images of a step: a power of two up to 32, about STEP_GMACS of work."""
    batch = 32
    while batch > 1 and batch * macs > STEP_GMACS * 1e9:
        batch //= 2
    return batch


def is_mindcvs(name: str) -> bool:
    """Tell whether MindCV 0.3.0 has the network: the paper's 24."""
    return not (name.endswith("_tv") or name.startswith("regnet_z") or name == "regnet_y_128gf")


def measure(
    asked, libraries: list[str], tasks: dict, variables: dict, versions: dict, notes: list[str]
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Yield each task and images/s of each library and round; a side that ends is noted."""
    with start_sides(asked, libraries, variables, versions, notes) as sides:
        for task, able in tasks.items():
            running = {name: side for name, side in sides.items() if name in able}
            steps = prepare(running, task, asked, notes)
            try:
                yield task, time_in_turns(running, task, steps, asked)
            except SideEnded as error:
                note_end("a side", f"{asked.model}, {task}", error, notes)
                return


@contextmanager
def start_sides(asked, libraries, variables, versions, notes) -> Iterator[dict[str, Side]]:
    """Start the sides that have a Python, at the same time; onnxruntime needs our exported file."""
    setting = {"model": asked.model, "size": asked.size, "batch": asked.batch}

    def start(library: str) -> Side | None:
        own = variables
        if library == "MindCV" and asked.section == "models":
            own = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
        words = [str(HERE / "network_side.py"), library, json.dumps(setting)]
        try:
            return Side([python_of(library, asked), *words], HERE, library == "ours", **own)
        except SideEnded as error:
            note_end(library, asked.model, error, notes)

    libraries = [name for name in libraries if python_of(name, asked)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        setting["onnx"] = str(Path(folder) / "network.onnx")
        first = [name for name in libraries if name != "onnxruntime"]
        sides = dict(zip(first, pool.map(start, first)))
        try:
            if "onnxruntime" in libraries and sides["ours"]:
                sides["ours"].ask({"task": "export", "steps": 0})
                sides["onnxruntime"] = start("onnxruntime")
            sides = {name: side for name, side in sides.items() if side}
            versions.update({name: side.ready["version"] for name, side in sides.items()})
            drop_other_networks(sides, asked.model, notes)
            yield sides
        finally:
            for side in filter(None, sides.values()):
                side.close()


def drop_other_networks(sides: dict[str, Side], model: str, notes: list[str]) -> None:
    """Close the sides whose network is another one than ours, by its number of parameters."""
    own = sides["ours"].ready["parameters"] if "ours" in sides else None
    for name, side in list(sides.items()):
        count = side.ready["parameters"]
        if own and count and count != own:
            notes.append(f"{name} is left out: its {model} has {count:,} parameters, ours {own:,}.")
            sides.pop(name).close()


def prepare(sides: dict[str, Side], task: str, asked, notes: list[str]) -> dict[str, int]:
    """Build and compile all sides at once, warm up one by one; return the steps of their turns."""

    def ask(name: str) -> float | None:
        try:
            return sides[name].ask({"task": task, "steps": 1})["seconds"][0]
        except SideEnded as error:
            note_end(name, f"{asked.model}, {task}", error, notes)

    with ThreadPoolExecutor() as pool:
        built = [name for name, seconds in zip(sides, pool.map(ask, sides)) if seconds]
    warm = {name: seconds for name in built if (seconds := ask(name))}
    turn = TURN_SECONDS[asked.section]
    return {name: max(1, min(20, round(turn / own))) for name, own in warm.items()}


def time_in_turns(
    sides: dict[str, Side], task: str, steps: dict[str, int], asked
) -> dict[str, list[float]]:
    def images_per_second(name: str) -> float:
        seconds = sides[name].ask({"task": task, "steps": steps[name]})["seconds"]
        return asked.batch * len(seconds) / sum(seconds)

    rates = take_turns(
        {name: lambda name=name: images_per_second(name) for name in steps},
        asked.rounds,
        TASK_BUDGETS[asked.section],
    )
    found = ", ".join(f"{name} {sorted(own)[len(own) // 2]:.1f}" for name, own in rates.items())
    say(f"{asked.model}, {task}: {found} images/s")
    return rates


def note_end(library: str, where: str, error: SideEnded, notes: list[str]) -> None:
    say(f"{where}: {error}")
    notes.append(f"{library} ended in {where}: {str(error).splitlines()[-1]}")


if __name__ == "__main__":
    main()

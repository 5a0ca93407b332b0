"""Write lr_find.json: fastai's suggestions for loss curves, for tests/tools/test_find_lr.py.

Run once, with torch and fastai installed: `python tests/golden/make_lr_find.py`. The curves begin
flat, fall with noise and rise; fastai smooths them, and suggests in float64. Its functions are
taken out of its source files, since the package itself imports pandas, SciPy and much else.
"""

import ast
import importlib.util
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

CURVES, STEPS = 12, 100


HEAD = """
import torch
from torch import tensor
Metric, to_detach = object, lambda tensor: tensor
"""


def fastai(file: str, *names: str) -> list:
    """Return functions and classes of a file of fastai."""
    source = Path(importlib.util.find_spec("fastai").origin).parent / file
    text = source.read_text()
    nodes = [node for node in ast.parse(text).body if getattr(node, "name", "") in names]
    with tempfile.TemporaryDirectory() as folder:
        parts = [ast.get_source_segment(text, node) for node in nodes]
        Path(folder, "of_fastai.py").write_text("\n".join([HEAD, *parts]))
        sys.path.insert(0, folder)
        sys.modules.pop("of_fastai", None)
        importlib.invalidate_caches()
        module = importlib.import_module("of_fastai")
        sys.path.remove(folder)
    return [getattr(module, name) for name in names]


def main():
    functions = fastai("callback/schedule.py", "valley", "steep", "minimum")
    torch.set_default_dtype(torch.float64)
    rates, cases = (1e-7 * 1e8 ** (np.arange(STEPS) / STEPS)), []
    for number in range(CURVES):
        rng = np.random.default_rng(number)
        place = np.log10(rates) - rng.uniform(-4, -1)
        losses = 2.3 - 1.5 / (1 + np.exp(-2 * place)) + np.exp(2 * (place - rng.uniform(1, 2)))
        losses += rng.normal(0, rng.choice([0.0, 0.05, 0.3]), STEPS)
        smoothed = smooth(losses)
        shown = slice(STEPS // 10, -5)
        curve = torch.tensor(rates[shown]), torch.tensor(smoothed[shown])
        found = {f.__name__: f(*curve, STEPS)[0] for f in functions}
        cases.append({"losses": losses.tolist(), "last": smoothed[-1], **found})
        print({key: value for key, value in cases[-1].items() if key != "losses"})
    source = f"fastai {version('fastai')}; made by tests/golden/make_lr_find.py"
    result = {"_source": source, "rates": rates.tolist(), "curves": cases}
    Path(__file__).with_name("lr_find.json").write_text(
        json.dumps(result).replace("}, {", "},\n{") + "\n"
    )


def smooth(losses: np.ndarray) -> list[float]:
    class Learner:
        pass

    learner, average, found = Learner(), fastai("learner.py", "AvgSmoothLoss")[0](), []
    average.reset()
    for loss in losses:
        learner.loss = torch.tensor(loss)
        average.accumulate(learner)
        found.append(float(average.value))
    return found


if __name__ == "__main__":
    main()

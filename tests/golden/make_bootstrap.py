"""Make bootstrap.json: pycls' empirical bootstrap for tests/tools/test_design_space_statistics.py.

Run as `python make_bootstrap.py PYCLS`, where PYCLS is a checkout of facebookresearch/pycls, whose
`pycls/sweep/analysis.py` needs numpy only.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np


def main(checkout: str):
    spec = importlib.util.spec_from_file_location(
        "analysis", Path(checkout, "pycls/sweep/analysis.py")
    )
    analysis = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(analysis)
    rng, cases = np.random.default_rng(0), []
    for models, digits in ((3, 2), (24, 2), (60, 0), (60, 3), (500, 1)):  # 0 digits: many ties
        depth = rng.integers(1, 25, models)
        width = 8 * rng.integers(1, 60, models)
        slope = rng.uniform(1, 60, models).round(2)
        errors = (40 - depth / 3 + rng.normal(0, 2, models)).round(digits)
        columns = {"depth": depth, "width": width, "slope": slope}
        sweep = [
            {"test_ema_epoch": {"min_top1_err": [error]}, **dict(zip(columns, row))}
            for error, *row in zip(errors.tolist(), *(c.tolist() for c in columns.values()))
        ]
        np.random.seed(1)
        filters = analysis.get_filters(sweep, list(columns), b=10_000)
        cases.append(
            {
                "errors": errors.tolist(),
                "values": [column.tolist() for column in columns.values()],
                "filters": [[float(end) for end in filters[name]] for name in columns],
            }
        )
    Path(__file__).with_name("bootstrap.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

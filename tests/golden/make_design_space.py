"""Make design_space.json: samples, width rules and scaled networks of pycls.

Needs torch, yacs, iopath and the repository facebookresearch/pycls (made with commit 5719de6):
`PYTHONPATH=PYCLS python make_design_space.py`. Its package of PyPI, 0.1.1, has neither sweeps nor
scaling. The packages for its cluster and plots are not needed and replaced by empty ones.
"""

import json
import sys
import types
from pathlib import Path

for name in ("matplotlib", "matplotlib.pyplot"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["submitit"] = types.SimpleNamespace(
    helpers=types.SimpleNamespace(Checkpointable=object)
)

import numpy as np  # noqa: E402
import pycls.models.regnet as regnet  # noqa: E402
import pycls.models.scaler as scaler  # noqa: E402
import pycls.sweep.random as random  # noqa: E402
from pycls.core.config import cfg, reset_cfg  # noqa: E402

DRAWS = 200_000
SAMPLERS = [
    ("uniform", 12, 28, 1),
    ("log_uniform", 1, 16, 1),
    ("log_uniform", 8, 256, 8),
    ("log_uniform", 2.0, 3.0, 0.1),
    ("power2_uniform", 1, 32, 1),
    ("power2_uniform", 0.25, 1.0, 0.25),
    ("power2_or_log_uniform", 8, 128, 8),
    ("power2_or_log_uniform", 1, 64, 8),
]
# w_a, w_0, w_m, depth, group width, bottleneck ratio
MODELS = {
    "regnet_x_400mf": (24.48, 24, 2.54, 22, 16, 1.0),
    "regnet_x_3_2gf": (26.31, 88, 2.25, 25, 48, 1.0),
    "halved": (20.0, 48, 2.2, 18, 8, 0.5),
}
SCALINGS = ("d", "w", "r", "dw", "wg", "dwgr", "d1_w8_g8_r1", "d1_w2_g2_r0")
FACTORS = (0.5, 2.0, 3.7, 8.0)


def samples() -> list:
    """Return (kind, low, high, step, {value: share of the draws})."""
    found = []
    for kind, low, high, step in SAMPLERS:
        np.random.seed(0)
        drawn = [random.rand_types[kind](low, high, step) for _ in range(DRAWS)]
        values, counts = np.unique(np.round(drawn, 9), return_counts=True)
        shares = dict(zip(map(str, values.tolist()), (counts / DRAWS).tolist()))
        found.append((kind, low, high, step, shares))
    return found


def rules() -> list:
    """Return (w_a, w_0, w_m, d, widths, depths, stages, powers of w_m that the line reaches)."""
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        w_a = round(float(rng.uniform(0, 256)), 1)
        w_0, w_m = int(rng.integers(1, 32)) * 8, round(float(rng.uniform(1.5, 3)), 3)
        d = int(rng.integers(1, 64))
        widths, depths, stages, levels = regnet.generate_regnet(w_a, w_0, w_m, d)[:4]
        found.append((w_a, w_0, w_m, d, widths, depths, stages, int(levels)))
    return found


def scaled() -> list:
    """Return (model, its setting, scaling, factor, depths, widths, group widths, image size)."""
    found = []
    for model, setting in MODELS.items():
        for scaling in SCALINGS:
            for factor in FACTORS:
                reset_cfg()
                cfg.MODEL.TYPE = "regnet"
                for key, value in zip("WA W0 WM DEPTH GROUP_W BOT_MUL".split(), setting):
                    cfg.REGNET[key] = value
                cfg.MODEL.SCALING_TYPE, cfg.MODEL.SCALING_FACTOR = scaling, factor
                scaler.scale_model()
                net = cfg.ANYNET
                shape = (net.DEPTHS, net.WIDTHS, net.GROUP_WS, cfg.TRAIN.IM_SIZE)
                found.append((model, setting, scaling, factor, *shape))
    return found


def main():
    golden = {"samples": samples(), "rules": rules(), "scaled": scaled()}
    text = ",\n".join(
        f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "]"
        for key, rows in golden.items()
    )
    path = Path(__file__).with_name("design_space.json")
    path.write_text(f"{{{text}}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

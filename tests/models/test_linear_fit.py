"""The quantized-linear fit: exact for RegNets, and as good as a plain search for other networks."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT

from mindcv.design_space import SETTINGS, fit_widths

# Stage widths and depths of 200 random RegNets, by pycls, before they are adjusted to groups.
VECTORS = json.loads((ROOT / "tests/golden/regnet_vectors.json").read_text(encoding="utf-8"))
WIDTHS, DEPTHS = (VECTORS["columns"].index(name) for name in ("ws", "ds"))
OTHERS = {
    "ResNet-50": ((256, 512, 1024, 2048), (3, 4, 6, 3)),
    "ResNet-152": ((256, 512, 1024, 2048), (3, 8, 36, 3)),
    "MobileNetV2": ((16, 24, 32, 64, 96, 160, 320), (1, 2, 3, 4, 3, 3, 1)),
    "narrowing": ((256, 64, 128, 32), (2, 5, 1, 3)),
    "one width": ((48, 48), (3, 4)),
    "one block": ((72,), (1,)),
}


def e_fit(settings, widths, depths) -> float:
    """Return e_fit of a rule, by plain arithmetic."""
    w_0, w_a, w_m = settings
    blocks = [width for width, depth in zip(widths, depths) for _ in range(depth)]
    total = 0.0
    for j, width in enumerate(blocks):
        power = round(math.log((w_0 + w_a * j) / w_0) / math.log(w_m))
        total += abs(math.log(max(8, round(w_0 * w_m**power / 8) * 8) / width))
    return total / len(blocks)


def test_the_widths_of_random_regnets_of_pycls_are_fitted():
    found = [fit_widths(row[WIDTHS], row[DEPTHS]) for row in VECTORS["vectors"][::5]]
    errors = np.array([fit.e_fit for fit in found])
    assert (errors == 0).mean() >= 0.9 and errors.max() < 0.1
    for row, fit in zip(VECTORS["vectors"][::5], found):
        assert fit.d == sum(row[DEPTHS])
        if fit.e_fit == 0:
            assert fit.block_widths() == np.repeat(row[WIDTHS], row[DEPTHS]).tolist()


@pytest.mark.parametrize("name", [name for name in SETTINGS if not name.endswith("_tv")][::3])
def test_a_published_regnet_is_fitted_by_its_own_parameters(name):
    setting = SETTINGS[name]
    plan = setting.plan(group_w=1)  # no adjustment
    fit = fit_widths(plan.widths, plan.depths)
    assert fit.e_fit == 0 and fit.w_0 == setting.w_0
    assert (fit.w_m, fit.w_a) == (
        pytest.approx(setting.w_m, rel=0.01),
        pytest.approx(setting.w_a, rel=0.15),
    )


@pytest.mark.parametrize("name", OTHERS)
def test_no_rule_of_a_plain_search_fits_other_networks_better(name):
    widths, depths = OTHERS[name]
    fit = fit_widths(widths, depths)
    assert fit.e_fit == pytest.approx(e_fit((fit.w_0, fit.w_a, fit.w_m), widths, depths))
    logs = np.log(np.array(fit.block_widths()) / np.repeat(widths, depths))
    assert fit.e_fit == pytest.approx(np.abs(logs).mean())
    rng = np.random.default_rng(0)
    for _ in range(4000):
        w_0 = 8 * int(rng.integers(1, 1 + 2 * widths[0] // 8))
        settings = w_0, rng.uniform(0, 2 * max(widths) / sum(depths)), rng.uniform(1.1, 4)
        assert fit.e_fit <= e_fit(settings, widths, depths) + 1e-3


def test_what_is_no_network_is_refused():
    for widths, depths in (((8, 16), (1,)), ((), ()), ((8,), (0,))):
        with pytest.raises(ValueError, match="no stages of a network"):
            fit_widths(widths, depths)

"""Gradients are clipped as the formulas say."""

import numpy as np
import pytest
from mindspore import Tensor

from mindcv.config.options import OPTIONS
from mindcv.optim.clip import CLIP_MODES, create_clip

GRADIENTS = [np.float32([[3.0, -4.0], [0.0, 12.0]]), np.float32([0.01, -0.02])]


def clipped_by_numpy(mode, limit):
    gradients = [g.astype(np.float64) for g in GRADIENTS]
    if mode == "value":
        return [np.clip(g, -limit, limit) for g in gradients]
    norms = [np.linalg.norm(g) for g in gradients]
    if mode == "global_norm":
        norms = [np.hypot(*norms)] * 2
    return [g * min(1.0, limit / (norm + 1e-6)) for g, norm in zip(gradients, norms)]


@pytest.mark.parametrize("limit", [0.015, 1.0, 100.0])
@pytest.mark.parametrize("mode", ["global_norm", "norm", "value"])
def test_clipping_is_the_formula(mode, limit):
    clipped = create_clip(mode, limit)(tuple(Tensor(g) for g in GRADIENTS))
    for found, expected in zip(clipped, clipped_by_numpy(mode, limit)):
        np.testing.assert_allclose(found.asnumpy(), expected, 1e-6, 1e-9)


def test_the_config_offers_every_way_of_clipping():
    assert OPTIONS["clip_mode"].metadata["choices"] == CLIP_MODES


def test_a_clip_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="'norms' is unknown; expected global_norm, norm, value"):
        create_clip("norms", 1.0)
    with pytest.raises(ValueError, match="limit 0 must be above 0"):
        create_clip("norm", 0)

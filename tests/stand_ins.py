"""What stands in for published weights and large networks; importing it puts it in their place.

That is, where the environment variable PUBLISHED is the path of a table of published weights, see
mindcv/hub/published.yaml. The models of SE_RATIOS then have one block in each of their four stages.
"""

import functools
import os
from pathlib import Path

from mindcv.hub import table
from mindcv.models import RegNet, registry

SE_RATIOS = {"regnet_x_200mf": 0.0, "regnet_x_800mf": 0.0, "regnet_y_400mf": 0.25}


def shallow(name: str, **options) -> RegNet:
    """Return a network that stands in for a model; the options are those of `RegNet`."""
    setting = {"w_a": 17, "w_0": 24, "w_m": 1.5, "d": 4, "group_w": 8, "se_r": SE_RATIOS[name]}
    return RegNet(**setting | options)


if "PUBLISHED" in os.environ:
    table._TABLE = Path(os.environ["PUBLISHED"])
    registry._BUILDERS |= {name: functools.partial(shallow, name) for name in SE_RATIOS}

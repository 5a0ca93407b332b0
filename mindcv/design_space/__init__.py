"""The paper's design spaces as plain arithmetic, without MindSpore."""

from .complexity import Complexity, complexity
from .linear_fit import LinearFit, fit_widths
from .plan import (
    NetworkPlan,
    adjust_block_compatibility,
    generate_regnet,
    plan_anynet,
    plan_regnet,
)
from .published import GENERAL, SETTINGS, Setting, plan_model

__all__ = [
    "GENERAL",
    "SETTINGS",
    "Complexity",
    "LinearFit",
    "NetworkPlan",
    "Setting",
    "adjust_block_compatibility",
    "complexity",
    "fit_widths",
    "generate_regnet",
    "plan_anynet",
    "plan_model",
    "plan_regnet",
]

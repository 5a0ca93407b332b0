"""The paper's design spaces as plain arithmetic, without MindSpore."""

from .complexity import Complexity, complexity
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
    "NetworkPlan",
    "Setting",
    "adjust_block_compatibility",
    "complexity",
    "generate_regnet",
    "plan_anynet",
    "plan_model",
    "plan_regnet",
]

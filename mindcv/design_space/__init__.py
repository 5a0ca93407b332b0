"""The paper's design spaces as plain arithmetic, without MindSpore."""

from .complexity import Complexity, NetworkPlan, complexity
from .published import SETTINGS, Setting, plan_regnet
from .quantized_linear import adjust_block_compatibility, generate_regnet

__all__ = [
    "SETTINGS",
    "Complexity",
    "NetworkPlan",
    "Setting",
    "adjust_block_compatibility",
    "complexity",
    "generate_regnet",
    "plan_regnet",
]

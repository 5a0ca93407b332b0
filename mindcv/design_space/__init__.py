"""The paper's subject, design spaces, as plain arithmetic: no mindspore is imported here."""

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

"""The paper's subject, design spaces, as plain arithmetic: no mindspore is imported here."""

from .complexity import Complexity, NetworkPlan, complexity
from .quantized_linear import adjust_block_compatibility, generate_regnet

__all__ = [
    "Complexity",
    "NetworkPlan",
    "adjust_block_compatibility",
    "complexity",
    "generate_regnet",
]

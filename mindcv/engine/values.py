"""Change parameters that compiled graphs already work on."""

import numpy as np
from mindspore import Parameter, Tensor, ops


def copy_value(parameter: Parameter) -> np.ndarray:
    """Return a copy; `asnumpy` alone shows memory that the next step changes."""
    return np.array(parameter.asnumpy())


def set_value(parameter: Parameter, values: np.ndarray) -> None:
    """Write new values into a parameter's memory.

    `Parameter.set_data` may give it another memory. In PyNative mode an optimizer that ran before
    then goes on to change the old one, and the weights stand still (seen in 2.10 on CPU).
    """
    ops.assign(parameter, Tensor(np.array(values), parameter.dtype))

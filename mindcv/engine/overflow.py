"""Detect a step that overflowed on any process, in the way that its chip shows it.

Ascend 910B and later, and CPUs, compute infinities and NaN, which the values show. The first Ascend
910 saturates: it computes the largest number instead, and sets a status register. MindSpore's
`amp.all_finite` knows the chip and checks the one or the other.
"""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype


class OverflowCheck(nn.Cell):
    """Map a loss and groups of values to whether all of them are finite, on all processes.

    `all_finite` may answer from the status register, which it then clears. The register belongs to
    the process: between `begin` and the call it collects what this process computed. The processes
    agree by summing flags of 0 and 1, since a process may not see a NaN in its values that another
    one sees.
    """

    def __init__(self, world_size: int = 1, all_finite: Callable = ms.amp.all_finite):
        super().__init__(auto_prefix=False)
        self.all_finite = all_finite
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM) if world_size > 1 else None
        self.anything = Tensor([0.0], mstype.float32)

    def begin(self, x):
        """Clear the register; return x, with which the step must go on."""
        # An evaluation or the last update may have set the register. Asking clears it.
        return ops.depend(x, self.all_finite((self.anything,)))

    def construct(self, loss, *groups):
        good = ops.isfinite(loss)
        for values in groups:
            if len(values) > 0:
                good = ops.logical_and(good, self.all_finite(values))
        if self.all_reduce is not None:
            bad = self.all_reduce(ops.cast(ops.logical_not(good), mstype.float32))
            good = ops.less(bad, 0.5)
        return good

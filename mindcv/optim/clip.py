"""Gradient clipping: by the training step, and by the optimizers that MindCV lets clip."""

from mindspore import dtype as mstype
from mindspore import nn, ops


def create_clip(mode: str, limit: float) -> nn.Cell:
    """Return a cell that maps a tuple of gradients to clipped ones.

    Args:
        mode: global_norm scales all gradients alike so that their joint norm is at most the limit
            (as torch's `clip_grad_norm_` does); norm does the same for each gradient alone; value
            clips each element to [-limit, limit].

    Raises:
        ValueError: the mode is unknown, or the limit is not above 0.
    """
    if mode not in _CLIPS:
        raise ValueError(f"clip mode {mode!r} is unknown; expected {', '.join(CLIP_MODES)}")
    if not limit > 0:
        raise ValueError(f"clip limit {limit} must be above 0")
    return _CLIPS[mode](limit)


class _Clip(nn.Cell):
    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit
        self.map = ops.HyperMap()


class ClipGlobalNorm(_Clip):
    """`g * min(1, limit / (norm of all gradients + 1e-6))`."""

    def construct(self, gradients):
        squares = self.map(_square_sum, gradients)
        norm = ops.sqrt(ops.addn(squares))
        return self.map(ops.partial(_scale, _factor(norm, self.limit)), gradients)


class ClipNorm(_Clip):
    """`g * min(1, limit / (norm of g + 1e-6))` for each gradient."""

    def construct(self, gradients):
        return self.map(ops.partial(_scale_to, self.limit), gradients)


class ClipValue(_Clip):
    """`min(max(g, -limit), limit)`."""

    def construct(self, gradients):
        return self.map(ops.partial(_clamp, self.limit), gradients)


_CLIPS = {"global_norm": ClipGlobalNorm, "norm": ClipNorm, "value": ClipValue}
CLIP_MODES = tuple(_CLIPS)

_square_sum = ops.MultitypeFuncGraph("square_sum")
_scale = ops.MultitypeFuncGraph("scale_gradient")
_scale_to = ops.MultitypeFuncGraph("scale_gradient_to")
_clamp = ops.MultitypeFuncGraph("clamp_gradient")


@_square_sum.register("Tensor")
def _square_sum_of_one(gradient):
    # Flattened: MindSpore's CPU kernel sums one axis five times as fast as four.
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

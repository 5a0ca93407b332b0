"""What the source of MindCV's models imports from `helpers`, for models of one's own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from ..design_space.plan import make_divisible
from ..errors import ConfigError
from ..hub import fetch, weights_at
from ..process.files import cache_folder
from ..weights import read_weights
from ..weights.load import file_of_parameters, load_weights
from ..weights.match import sort_contents
from .features import FeatureExtractWrapper

__all__ = [
    "ConfigDict",
    "auto_map",
    "build_model_with_cfg",
    "get_checkpoint_download_root",
    "load_model_checkpoint",
    "load_pretrained",
    "make_divisible",
    "to_1tuple",
    "to_2tuple",
    "to_3tuple",
    "to_4tuple",
    "to_ntuple",
]


class ConfigDict(dict):
    """A dictionary whose entries are attributes too; a missing one is None."""

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):  # asked by Python itself, as in copying
            raise AttributeError(key)
        return self.get(key)

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        del self[key]


def get_checkpoint_download_root() -> str:
    """Return the folder that keeps downloaded weights: $MINDCV_CACHE, see `cache_folder`.

    `set_default_download_root` does not move it.
    """
    return str(cache_folder())


def load_pretrained(
    model: nn.Cell,
    default_cfg: Mapping[str, Any],
    num_classes: int = 1000,
    in_channels: int = 3,
    filter_fn: Callable[[dict[str, ms.Parameter]], Mapping[str, ms.Parameter]] | None = None,
) -> None:
    """Download, verify and load the weights at `default_cfg["url"]`.

    The first convolution and the classifier are adapted to the model as in `load_weights`;
    `default_cfg` may name them (`first_conv`, `classifier`).

    Args:
        num_classes, in_channels: not needed, since the model has them.
        filter_fn: changes the file's parameters before loading.

    Raises:
        ConfigError: no url.
        WeightsError: the file cannot be fetched or does not fit the model.
    """
    if not default_cfg.get("url"):
        raise ConfigError(
            f"no weights of {type(model).__name__} are published: its default_cfg has no url"
        )
    weights = read_weights(fetch(weights_at(default_cfg["url"])))
    if filter_fn is not None:
        weights = filter_fn(_parameters(weights.tensors))
    names = {key: default_cfg.get(key) or "" for key in ("first_conv", "classifier")}
    load_weights(model, weights, **names)


def build_model_with_cfg(
    model_cls: Callable[..., nn.Cell],
    pretrained: bool,
    default_cfg: Mapping[str, Any],
    features_only: bool = False,
    out_indices: Sequence[int] = (0, 1, 2, 3, 4),
    **kwargs,
) -> nn.Cell:
    """Build `model_cls(**kwargs)`, load its published weights, and wrap it for feature maps.

    Raises:
        FeaturesError: the network offers no feature maps.
        ConfigError, WeightsError: see `load_pretrained`.
    """
    model = model_cls(**kwargs)
    if pretrained:
        load_pretrained(model, default_cfg)
    return FeatureExtractWrapper(model, out_indices) if features_only else model


def load_model_checkpoint(
    model: nn.Cell, checkpoint_path: str = "", ema: bool = False, auto_mapping: bool = False
) -> None:
    """Load a weight file as `load_weights` does; an empty path: nothing.

    Raises:
        WeightsError: the file is missing, damaged or does not fit.
    """
    if checkpoint_path:
        load_weights(model, checkpoint_path, ema=ema)


def auto_map(model: nn.Cell, param_dict: Mapping[str, ms.Parameter]) -> dict[str, ms.Parameter]:
    """Return a checkpoint's weights under the names of `model`'s parameters.

    `ms.load_param_into_net(model, auto_map(model, ms.load_checkpoint(path)))` loads a checkpoint of
    MindCV.

    Raises:
        WeightsError: several sets of weights, or a weight that appears twice.
    """
    contents = sort_contents(file_of_parameters(param_dict), model.parameters_dict())
    return _parameters(contents.weights)


def _parameters(tensors: Mapping[str, np.ndarray]) -> dict[str, ms.Parameter]:
    # MindSpore 2.7 refuses unaligned arrays, and those of a .ckpt may be.
    arrays = {name: np.require(value, requirements="CA") for name, value in tensors.items()}
    return {name: ms.Parameter(ms.Tensor(value), name=name) for name, value in arrays.items()}


def to_ntuple(n: int) -> Callable[[Any], Iterable]:
    """Return a function that repeats a single value `n` times and leaves a sequence as it is."""

    def parse(value: Any) -> Iterable:
        return value if isinstance(value, Iterable) else tuple(repeat(value, n))

    return parse


_ntuple = to_ntuple  # MindCV's models import it by this name
to_1tuple, to_2tuple, to_3tuple, to_4tuple = map(to_ntuple, (1, 2, 3, 4))

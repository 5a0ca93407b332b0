"""Module paths of MindCV whose names live elsewhere here: one row each.

`from mindcv.loss.loss_factory import create_loss` then works without a file for each old path.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType

# old module: {module that holds the names here: the names}
PATHS: dict[str, dict[str, str]] = {
    "data.auto_augment": {
        "data.presets": (
            "augment_and_mix_transform auto_augment_transform rand_augment_transform "
            "trivial_augment_wide_transform"
        )
    },
    "data.constants": {
        "data.preprocessing": "DEFAULT_CROP_PCT IMAGENET_DEFAULT_MEAN IMAGENET_DEFAULT_STD"
    },
    "data.dataset_factory": {"data": "create_dataset", "data.datasets": "get_dataset_size"},
    "data.distributed_sampler": {"data.order": "RepeatAugSampler"},
    "data.mixup": {"data.presets": "Mixup"},
    "data.transforms_factory": {
        "data": "create_transforms",
        "data.preprocessing": "DEFAULT_CROP_PCT IMAGENET_DEFAULT_MEAN IMAGENET_DEFAULT_STD",
        "data.presets": (
            "transforms_cifar transforms_imagenet_eval transforms_imagenet_train transforms_mnist"
        ),
    },
    "loss.asymmetric": {"loss": "AsymmetricLossMultilabel AsymmetricLossSingleLabel"},
    "loss.binary_cross_entropy_smooth": {"loss": "BinaryCrossEntropySmooth"},
    "loss.cross_entropy_smooth": {"loss": "CrossEntropySmooth"},
    "loss.jsd": {"loss": "JSDCrossEntropy"},
    "loss.loss_factory": {"loss": "create_loss"},
    "models.layers.activation": {"models.layers": "Swish"},
    "models.layers.drop_path": {"models.layers": "DropPath"},
    "models.layers.format": {"models.layers.patch_embed": "Format nchw_to nhwc_to"},
    "models.layers.helpers": {
        "models.helpers": "to_1tuple to_2tuple to_3tuple to_4tuple to_ntuple"
    },
    "models.layers.identity": {"models.layers": "Identity"},
    "models.layers.mlp": {"models.layers": "Mlp"},
    "models.layers.pooling": {"models.layers": "GlobalAvgPooling"},
    "models.layers.squeeze_excite": {"models.layers": "SqueezeExcite SqueezeExciteV2"},
    "models.model_factory": {"models": "create_model"},
    "models.utils": {"models.helpers": "ConfigDict load_pretrained make_divisible"},
    "optim.adamw": {"optim.adam": "AdamW"},
    "optim.adan": {"optim.rules": "Adan"},
    "optim.lion": {"optim.rules": "Lion"},
    "optim.nadam": {"optim.adam": "NAdam"},
    "optim.optim_factory": {"optim": "create_optimizer"},
    "scheduler.scheduler_factory": {"scheduler": "create_scheduler"},
    "utils.amp": {"utils.trainer": "AMP_BLACK_LIST AMP_WHITE_LIST auto_mixed_precision"},
    "utils.checkpoint_manager": {"utils.callbacks": "CheckpointManager"},
    "utils.download": {
        "process.archives": (
            "DownLoad DownloadError detect_file_type get_default_download_root "
            "set_default_download_root"
        )
    },
    "utils.logger": {"utils.start": "set_logger"},
    "utils.path": {"process.archives": "detect_file_type"},
    "utils.random": {"utils.start": "set_seed"},
    "utils.reduce_manager": {"utils.start": "AllReduceSum"},
    "utils.train_step": {"utils.trainer": "GradientAccumulation TrainStep"},
    "utils.trainer_factory": {
        "utils.trainer": "create_trainer get_metrics require_customized_train_step"
    },
    "version": {"": "__version__"},
}


class _PathFinder:
    """Serves the rows of `PATHS`; asked only after Python has found no such file."""

    def find_spec(self, fullname: str, path: object = None, target: object = None):
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == __package__ and name in PATHS else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        row = PATHS[module.__name__.partition(".")[2]]
        homes = {name: f".{home}" for home, names in row.items() for name in names.split()}
        module.__getattr__, module.__all__ = at_first_use(module.__name__, homes)
        module.__doc__ = f"MindCV's path of {', '.join(module.__all__)}."


def at_first_use(
    module: str, homes: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], list[str]]:
    """Return `__getattr__` and `__all__` of a module whose names are imported at first use.

    Many of them need MindSpore, which takes seconds to import (PEP 562).

    Args:
        homes: name -> its module, maybe relative to this package; None: what `if TYPE_CHECKING`
            imports for editors in the source of the module (MindSpore needs sources, too).
    """
    homes = _imports_for_editors(module) if homes is None else homes

    def __getattr__(name: str):
        if name not in homes:
            return submodule(module, name)
        return getattr(importlib.import_module(homes[name], __package__), name)

    return __getattr__, list(homes)


def _imports_for_editors(module: str) -> dict[str, str]:
    source = importlib.util.find_spec(module).loader.get_source(module)
    branches = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    return {
        name.name: importlib.util.resolve_name("." * one.level + one.module, module)
        for branch in branches
        if ast.unparse(branch.test) == "TYPE_CHECKING"
        for one in branch.body
        if one.level and one.module  # not of Python, and no whole module
        for name in one.names
    }


def submodule(package: str, name: str) -> ModuleType:
    """Return a module of a package, imported at its first use as an attribute.

    MindCV's packages import all of theirs, so scripts use them without an import of their own.

    Raises:
        AttributeError: there is no such module.
    """
    dotted, is_package = f"{package}.{name}", "__path__" in vars(sys.modules[package])
    if name.startswith("_") or not (is_package and importlib.util.find_spec(dotted)):
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return importlib.import_module(dotted)


def install() -> None:
    """Let `import` find the old paths; a second call changes nothing."""
    if not any(isinstance(finder, _PathFinder) for finder in sys.meta_path):
        sys.meta_path.append(_PathFinder())

"""Make mindcv_models.json and .npz: what MindCV's models give, for conformance/test_models.py.

Run with MindCV and the folder `tests` on the path: `python make_mindcv_models.py`.
"""

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
from golden.mindcv_model_cases import (
    DIVISIBLE,
    FILTERS,
    LAYERS,
    NETWORKS,
    Chain,
    Rewritten,
    layer_shape,
    named_in_a_parent,
    output,
)
from mindspore import nn

from mindcv.models import create_model, features, helpers, registry, regnet

LAYER_MODULES = [
    "activation",
    "compatibility",
    "conv_norm_act",
    "drop_path",
    "identity",
    "mlp",
    "patch_embed",
    "pooling",
    "selective_kernel",
    "squeeze_excite",
]
CLASSES = {
    name: found
    for module in LAYER_MODULES
    for name, found in vars(importlib.import_module(f"mindcv.models.layers.{module}")).items()
    if inspect.isclass(found) and found.__module__ == f"mindcv.models.layers.{module}"
}
FUNCTIONS = {
    "models": [create_model],
    "models.registry": [getattr(registry, name) for name in registry.__all__],
    "models.features": [features.FeatureExtractWrapper],
    "models.helpers": [
        helpers.auto_map,
        helpers.build_model_with_cfg,
        helpers.get_checkpoint_download_root,
        helpers.load_model_checkpoint,
        helpers.load_pretrained,
        helpers.make_divisible,
    ],
    **{
        f"models.layers.{module}": [
            one for one in CLASSES.values() if one.__module__.endswith(f".{module}")
        ]
        for module in LAYER_MODULES
    },
    "models.regnet": [regnet.AnyNet, regnet.RegNet, *(getattr(regnet, n) for n in regnet.__all__)],
}


def signature(function: Callable) -> list:
    """Return (name, default) of each parameter; "required" for those without one."""
    found = []
    for name, entry in inspect.signature(function).parameters.items():
        if entry.kind not in (entry.VAR_KEYWORD, entry.VAR_POSITIONAL):
            default = entry.default
            if default is inspect.Parameter.empty:
                default = "required"
            elif isinstance(default, type) or default is ms.float32:
                default = getattr(default, "__name__", str(default))
            found.append([name, default])
    return found


def refusal(ask: Callable) -> str:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 (its type is what is recorded)
        return type(error).__name__
    raise AssertionError("MindCV refuses this")


def main():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    arrays = {
        name: output(CLASSES[kind](*args, **options), layer_shape(name))
        for name, (kind, args, options) in LAYERS.items()
    } | {
        name: output(getattr(regnet, kind)(*args), (2, 3, 32, 32))
        for name, (kind, args) in NETWORKS.items()
    }
    config = {"url": "", "first_conv": "", "classifier": ""}
    facts = dict(
        signatures={
            module: {function.__name__: signature(function) for function in functions}
            for module, functions in FUNCTIONS.items()
        },
        parameters={
            name: [p.name for p in CLASSES[kind](*args, **options).get_parameters()]
            for name, (kind, args, options) in LAYERS.items()
        },
        wrapped={
            kind.__name__: [
                [p.name for p in features.FeatureExtractWrapper(kind()).get_parameters()],
                named_in_a_parent(features.FeatureExtractWrapper(kind())),
            ]
            for kind in (Chain, Rewritten)
        },
        divisible=[helpers.make_divisible(*case) for case in DIVISIBLE],
        listed=[
            [name for name in registry.list_models(**case) if name.startswith("regnet")]
            for case in FILTERS
        ],
        configs={name: registry.get_pretrained_cfg(name) for name in regnet.__all__},
        refusals={
            "create_model": refusal(lambda: create_model("no_such_model")),
            "model_entrypoint": refusal(lambda: registry.model_entrypoint("no_such_model")),
            "two sources": refusal(
                lambda: create_model("regnet_x_200mf", pretrained=True, checkpoint_path="a.ckpt")
            ),
            "features": refusal(
                lambda: helpers.build_model_with_cfg(
                    nn.Dense, False, config, features_only=True, in_channels=2, out_channels=3
                )
            ),
        },
        unknown=dict(
            is_model=registry.is_model("no_such_model"),
            is_model_pretrained=registry.is_model_pretrained("no_such_model"),
            is_model_in_modules=registry.is_model_in_modules("no_such_model", ["regnet"]),
            get_pretrained_cfg=registry.get_pretrained_cfg("no_such_model"),
            get_pretrained_cfg_value=registry.get_pretrained_cfg_value("no_such_model", "url"),
            has_pretrained_cfg_key=registry.has_pretrained_cfg_key("no_such_model", "url"),
        ),
    )
    folder = Path(__file__).parent
    text = json.dumps(facts, indent=1)
    (folder / "mindcv_models.json").write_text(text + "\n", encoding="utf-8")
    np.savez_compressed(folder / "mindcv_models.npz", **arrays)


if __name__ == "__main__":
    main()

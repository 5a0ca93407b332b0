"""Make mindcv_checkpoints.json and .npz: what MindCV writes into checkpoints, and under what names.

Run with MindCV: `python make_mindcv_checkpoints.py`, once for each version; the results of versions
stand side by side and must agree. mindcv_checkpoints.npz holds the state of each optimizer after
two steps, as `optim_<model>.ckpt` does, and the weights after a third.
"""

import hashlib
import inspect
import json
import os
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindcv.utils.train_step import TrainStep
from mindspore import nn

import mindcv
from mindcv.models import regnet
from mindcv.optim import create_optimizer

FILE = Path(__file__).with_name("mindcv_checkpoints.json")
# Lamb has no kernel on CPU, so it makes no step.
OPTIMIZERS = "sgd momentum adam adamw lion nadam adan rmsprop adagrad lamb".split()
SHAPES = {
    "stem.conv.weight": (2, 3, 3, 3),
    "0.blocks.0.f.a.weight": (4, 2, 1, 1),
    "0.blocks.1.blocks.0.f.a_bn.gamma": (4,),
    "head.fc.bias": (5,),
}


def main():
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    found[mindcv.__version__] = {"builders": dict(builders()), "training": dict(training())}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    assert all(found[version] == found[mindcv.__version__] for version in found), "versions differ"
    np.savez_compressed(FILE.with_suffix(".npz"), **states())
    sys.stdout.flush()
    os._exit(0)  # MindSpore's cells complain at exit


def builders():
    """Yield each builder's name, and the number and SHA-256 of its sorted parameter names."""
    for name, build in vars(regnet).items():
        if name.startswith("regnet_") and inspect.isfunction(build):
            names = sorted(parameter.name for parameter in build().get_parameters())
            yield name, [len(names), hashlib.sha256("\n".join(names).encode()).hexdigest()]


def training():
    """Yield what a training checkpoint holds beside the weights: {prefix: number of tensors}.

    Names that belong to no weight have the prefix "", and are listed.
    """
    for opt in OPTIMIZERS:
        for rates in (0.1, [0.1, 0.2]):
            for wraps in (False, True):
                net = regnet.RegNet(w_a=9.0, w_0=24, w_m=2.0, d=3, group_w=8, se_r=0.25)
                weights = {parameter.name for parameter in net.get_parameters()}
                optimizer = create_optimizer(net.trainable_params(), opt, lr=rates)
                loss = nn.WithLossCell(net, nn.CrossEntropyLoss())
                options = {"ema": True, "clip_grad": True, "gradient_accumulation_steps": 2}
                step = TrainStep(loss, optimizer, nn.FixedLossScaleUpdateCell(2), **options)
                if not wraps:
                    step = nn.TrainOneStepWithLossScaleCell(loss, optimizer, ms.Tensor(2.0))
                prefixes, alone = {}, []
                for parameter in step.get_parameters():
                    weight = next((w for w in weights if parameter.name.endswith(w)), None)
                    if weight is None:
                        alone.append(parameter.name)
                    else:
                        prefix = parameter.name.removesuffix(weight)
                        prefixes[prefix] = prefixes.get(prefix, 0) + 1
                kind = "list" if isinstance(rates, list) else "constant"
                yield f"{opt} {kind} {'TrainStep' if wraps else 'bare'}", [prefixes, sorted(alone)]


def states():
    golden = {}
    for opt in OPTIMIZERS[:-1]:
        weights = [ms.Parameter(np.full(s, 0.5, np.float32), name=n) for n, s in SHAPES.items()]
        optimizer = create_optimizer(weights, opt, lr=0.01, weight_decay=0.1)
        for step in range(3):
            if step == 2:
                for parameter in optimizer.get_parameters():
                    golden[f"{opt}/{parameter.name}"] = np.array(parameter.asnumpy())
            rng = np.random.default_rng(step)
            optimizer(tuple(ms.Tensor(rng.normal(size=w.shape), ms.float32) for w in weights))
        golden |= {f"{opt}/after/{w.name}": w.asnumpy() for w in weights}
    return golden


if __name__ == "__main__":
    main()

"""Make mindcv_training.json: MindCV's rates, losses and optimizer steps, for the conformance test.

Run with MindSpore: `PYTHONPATH=MINDCV python make_mindcv_training.py`, where MINDCV is a checkout
of MindCV's repository (made with its HEAD of July 2025 under MindSpore 2.10.0, CPU).
"""

import inspect
import json
from pathlib import Path

import mindspore as ms
from mindcv_training_cases import (
    CUT,
    LOSSES,
    OPTIMIZERS,
    OTHER_LOSSES,
    OTHER_OPTIMIZERS,
    SCHEDULES,
    TIME,
    loss_of,
    weights_of,
)

from mindcv import loss, optim, scheduler
from mindcv.loss import asymmetric, binary_cross_entropy_smooth, cross_entropy_smooth, jsd
from mindcv.optim import adamw, adan, lion, nadam
from mindcv.scheduler import dynamic_lr


def main():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    found = {
        "schedules": [
            getattr(dynamic_lr, name)(*arguments, **keywords, **TIME)
            for name, arguments, keywords in SCHEDULES
        ],
        "cut": [scheduler.create_scheduler(7, **arguments) for arguments in CUT],
        "losses": [loss_of(*case) for case in LOSSES],
        "other_losses": [loss_or_error(case) for case in OTHER_LOSSES],
        "optimizers": [weights_of(*case) for case in OPTIMIZERS],
        "other_optimizers": [weights_of(*case) for case in OTHER_OPTIMIZERS],
        "signatures": {
            f"{function.__module__}.{function.__name__}": parameters(function)
            for function in functions()
        },
    }
    path = Path(__file__).with_name("mindcv_training.json")
    path.write_text(json.dumps(found) + "\n", encoding="utf-8")


def loss_or_error(case):
    try:
        return loss_of(*case)
    except ValueError as error:
        return str(error).partition(":")[0]


def functions():
    yield from (loss.create_loss, optim.create_optimizer, scheduler.create_scheduler)
    yield from (adamw.AdamW, adan.Adan, lion.Lion, nadam.NAdam)
    yield from (cross_entropy_smooth.CrossEntropySmooth, jsd.JSDCrossEntropy)
    yield binary_cross_entropy_smooth.BinaryCrossEntropySmooth
    yield from (asymmetric.AsymmetricLossMultilabel, asymmetric.AsymmetricLossSingleLabel)
    yield from (f for n, f in vars(dynamic_lr).items() if n.endswith("_lr") and callable(f))


def parameters(function) -> list:
    """Return [name, kind, default] of each parameter; a default of "required" is none.

    MindSpore's decorator of optimizers hides the parameters behind *args.
    """
    hidden = getattr(function.__init__, "__closure__", None) or ()
    real = [cell.cell_contents for cell in hidden if inspect.isfunction(cell.cell_contents)]
    return [
        [one.name, one.kind.name, "required" if one.default is one.empty else one.default]
        for one in inspect.signature(real[0] if real else function).parameters.values()
        if one.name != "self"
    ]


if __name__ == "__main__":
    main()

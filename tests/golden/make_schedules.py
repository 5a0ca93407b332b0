"""Make schedules.json: rates by torch, timm, transformers and MindCV 0.3.0, for test_scheduler.py.

Run with torch, timm and transformers: `python make_schedules.py MINDCV`, where MINDCV is the folder
of an unpacked mindcv-0.3.0 wheel. The rates are those before each optimizer step.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

import torch
from torch.optim import lr_scheduler as schedulers

torchvision = torch.library.Library("torchvision", "DEF")
torchvision.define("nms(Tensor a, Tensor b, float c) -> Tensor")
torchvision.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

from timm.scheduler import CosineLRScheduler  # noqa: E402
from transformers import get_wsd_schedule  # noqa: E402

STEPS = 3  # per epoch
LR = 0.4


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=LR)


def rates_of_torch(make, count, repeat=1):
    """Return `count` rates of a torch scheduler, each `repeat` times (an epoch's steps)."""
    sgd = optimizer()
    scheduler = make(sgd)
    rates = []
    for _ in range(count):
        rates += [sgd.param_groups[0]["lr"]] * repeat
        sgd.step()
        scheduler.step()
    return rates


def warmed(make, warmup, factor):
    """LinearLR over `warmup` calls, then another scheduler from its start."""

    def build(sgd):
        first = schedulers.LinearLR(sgd, factor, 1.0, warmup)
        return schedulers.SequentialLR(sgd, [first, make(sgd)], [warmup])

    return build


def torch_cases():
    """Yield (our arguments, rates); 12 epochs, 2 of them warm-up where there is one.

    Per epoch torch's schedulers are called once an epoch; per step, once a step with all lengths
    times STEPS and factors per epoch turned into factors per step.
    """
    epochs, warmup, factor = 12, 2, 0.1
    for stair in (True, False):
        unit = 1 if stair else STEPS
        main = {
            "constant": (
                {},
                lambda o: schedulers.LambdaLR(o, lambda step: 1.0),
            ),
            "cosine_decay": (
                dict(decay_epochs=10, min_lr=0.01),
                lambda o, unit=unit: schedulers.CosineAnnealingLR(o, 10 * unit, 0.01),
            ),
            "exponential_decay": (
                dict(decay_rate=0.8),
                lambda o, unit=unit: schedulers.ExponentialLR(o, 0.8 ** (1 / unit)),
            ),
            "step_decay": (
                dict(decay_rate=0.3, decay_epochs=4),
                lambda o, unit=unit: schedulers.StepLR(o, 4 * unit, 0.3),
            ),
            "polynomial_decay": (
                dict(decay_rate=1.7),
                lambda o, unit=unit: schedulers.PolynomialLR(o, 10 * unit, 1.7),
            ),
            "multi_step_decay": (
                dict(decay_rate=0.3, milestones=[3, 7]),
                lambda o, unit=unit: schedulers.MultiStepLR(o, [3 * unit, 7 * unit], 0.3),
            ),
        }
        for name, (arguments, make) in main.items():
            arguments = dict(arguments, scheduler=name, lr=LR, lr_epoch_stair=stair)
            arguments |= dict(steps_per_epoch=STEPS)
            warm = dict(num_epochs=epochs, warmup_epochs=warmup, warmup_factor=factor)
            count = epochs * unit
            repeat = STEPS if stair else 1
            yield (
                dict(arguments, **warm),
                rates_of_torch(warmed(make, warmup * unit, factor), count, repeat),
            )
            cold = dict(num_epochs=epochs - warmup, warmup_epochs=0)
            yield dict(arguments, **cold), rates_of_torch(make, 10 * unit, repeat)


def torch_cycle_cases():
    """Yield (our arguments, rates) of the schedules with cycles, which torch has in parts.

    Among them are runs of few steps, and lengths that neither cycles nor three tenths divide.
    """
    none = dict(warmup_epochs=0, lr=LR)
    for epochs, steps in ((10, STEPS), (7, 5), (1, 4), (2, 1), (1, 1)):
        run = dict(none, num_epochs=epochs, steps_per_epoch=steps)
        total = epochs * steps
        for min_lr in (1e-6, 0.01):
            final = LR / 25 / min_lr
            yield (
                dict(run, scheduler="one_cycle", min_lr=min_lr),
                rates_of_torch(
                    lambda o, total=total, final=final: schedulers.OneCycleLR(
                        o, LR, total, final_div_factor=final
                    ),
                    total,
                ),
            )
        for cycles in (1, 2, 4):
            half = int(total / cycles / 2)
            if half:
                yield (
                    dict(run, scheduler="cyclic", min_lr=0.02, num_cycles=cycles),
                    rates_of_torch(
                        lambda o, half=half: schedulers.CyclicLR(
                            o, 0.02, LR, half, cycle_momentum=False
                        ),
                        total,
                    ),
                )
    for stair in (True, False):
        unit, repeat = (1, STEPS) if stair else (STEPS, 1)
        yield (
            dict(none, scheduler="cosine_decay", min_lr=0.01, num_cycles=3, decay_epochs=4)
            | dict(num_epochs=12, steps_per_epoch=STEPS, lr_epoch_stair=stair),
            rates_of_torch(
                lambda o, unit=unit: schedulers.CosineAnnealingWarmRestarts(o, 4 * unit, 1, 0.01),
                12 * unit,
                repeat,
            ),
        )
    # Warm-up by steps: the rest of the run, 26 of 30 steps, is not a whole number of epochs.
    run = dict(lr=LR, min_lr=0.01, num_epochs=10, steps_per_epoch=STEPS)
    run |= dict(warmup_steps=4, warmup_factor=0.1)
    for arguments, make in (
        (
            dict(scheduler="cosine_decay", decay_epochs=None),
            lambda o: schedulers.CosineAnnealingLR(o, 26, 0.01),
        ),
        (
            dict(scheduler="cosine_decay", decay_epochs=None, num_cycles=2),
            lambda o: schedulers.CosineAnnealingWarmRestarts(o, 13, 1, 0.01),
        ),
        (
            dict(scheduler="polynomial_decay", decay_rate=0.9),
            lambda o: schedulers.PolynomialLR(o, 26, 0.9),
        ),
        (
            dict(scheduler="step_decay", decay_rate=0.1, decay_epochs=3),
            lambda o: schedulers.StepLR(o, 9, 0.1),
        ),
        (
            dict(scheduler="multi_step_decay", decay_rate=0.1, milestones=[2, 5]),
            lambda o: schedulers.MultiStepLR(o, [6, 15], 0.1),
        ),
    ):
        yield dict(run, **arguments), rates_of_torch(warmed(make, 4, 0.1), 30)


def transformers_cases():
    """Yield (our arguments, rates) of wsd; transformers starts the warm-up at min_lr."""
    for shape in ("linear", "cosine", "1-sqrt"):
        for stair in (True, False):
            for warmup, decay, epochs in ((2, 3, 10), (0, 1, 4), (0, 4, 4), (1, 9, 10), (0, 1, 1)):
                unit = 1 if stair else STEPS
                rates = rates_of_torch(
                    lambda o, n=(warmup * unit, decay * unit, epochs * unit), shape=shape: (
                        get_wsd_schedule(o, n[0], n[1], n[2], decay_type=shape, min_lr_ratio=0.05)
                    ),
                    epochs * unit,
                    STEPS if stair else 1,
                )
                arguments = dict(scheduler="wsd", lr=LR, min_lr=0.05 * LR, decay_shape=shape)
                arguments |= dict(decay_epochs=decay, num_epochs=epochs, steps_per_epoch=STEPS)
                arguments |= dict(warmup_epochs=warmup, warmup_factor=0.05, lr_epoch_stair=stair)
                yield arguments, rates


def timm_cases():
    """Yield (our arguments, rates) for cosine cycles, warm-up before them and min_lr after them."""
    for cycles, decay, epochs in ((1, 1.0, 8), (2, 0.5, 10), (3, 0.7, 13), (4, 1.0, 12)):
        for warmup in (0, 2):
            for stair in (True, False):
                unit = 1 if stair else STEPS
                length = 12 if cycles > 2 else 8
                if warmup + length > epochs + warmup:
                    continue
                scheduler = CosineLRScheduler(
                    optimizer(),
                    t_initial=length * unit // cycles,
                    lr_min=0.02,
                    cycle_decay=decay,
                    cycle_limit=cycles,
                    warmup_t=warmup * unit,
                    warmup_lr_init=0.05 * LR,
                    warmup_prefix=True,
                )
                total = epochs + warmup
                rates = [scheduler._get_lr(t)[0] for t in range(total * unit)]
                arguments = dict(
                    scheduler="cosine_decay", lr=LR, min_lr=0.02, decay_epochs=length // cycles
                )
                arguments |= dict(num_cycles=cycles, cycle_decay=decay, lr_epoch_stair=stair)
                arguments |= dict(warmup_epochs=warmup, warmup_factor=0.05, num_epochs=total)
                arguments |= dict(steps_per_epoch=STEPS)
                yield arguments, [rate for rate in rates for _ in range(STEPS if stair else 1)]


def mindcv_cases(folder):
    """Yield (MindCV's arguments, rates), with the arguments that mean the same to us unchanged."""
    package = types.ModuleType("mindcv_scheduler")
    package.__path__ = [str(Path(folder) / "mindcv" / "scheduler")]
    sys.modules["mindcv_scheduler"] = package
    name = "mindcv_scheduler.scheduler_factory"
    spec = importlib.util.spec_from_file_location(
        name, Path(package.__path__[0]) / "scheduler_factory.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    common = dict(steps_per_epoch=STEPS, lr=LR, num_epochs=14)
    for stair in (True, False):
        for warmup, factor in ((0, 0.0), (4, 0.0), (4, 0.01)):
            warm = dict(warmup_epochs=warmup, warmup_factor=factor, lr_epoch_stair=stair)
            for case in (
                dict(scheduler="constant"),
                dict(scheduler="cosine_decay", decay_epochs=10, min_lr=0.0),
                dict(scheduler="warmup_cosine_decay", decay_epochs=7, min_lr=1e-3),
                dict(scheduler="cosine_decay", decay_epochs=4, num_cycles=2, cycle_decay=0.5),
                dict(scheduler="exponential_decay", decay_rate=0.9),
                dict(scheduler="polynomial_decay", decay_rate=0.9),
                dict(scheduler="step_decay", decay_rate=0.1, decay_epochs=3),
                dict(scheduler="multi_step_decay", decay_rate=0.1, milestones=[3, 6]),
            ):
                arguments = dict(common, **warm, **case)
                yield arguments, module.create_scheduler(**arguments)
    for steps, epochs in ((STEPS, 14), (7, 9)):
        run = dict(steps_per_epoch=steps, lr=LR, num_epochs=epochs, warmup_epochs=0)
        for case in (
            dict(scheduler="one_cycle", min_lr=1e-4),
            dict(scheduler="cyclic", min_lr=1e-4),
            dict(scheduler="cyclic", min_lr=1e-4, num_cycles=4),
        ):
            arguments = dict(run, **case)
            yield arguments, module.create_scheduler(**arguments)
    recipe = dict(steps_per_epoch=2, scheduler="cosine_decay", lr=0.1, min_lr=0.0, num_epochs=200)
    recipe |= dict(warmup_epochs=5, warmup_factor=0.01, decay_epochs=195, lr_epoch_stair=True)
    yield recipe, module.create_scheduler(**recipe)


def main(mindcv):
    golden = {
        "torch": torch.__version__.split("+")[0],
        "torch_cases": [*torch_cases(), *torch_cycle_cases()],
        "transformers_cases": list(transformers_cases()),
        "timm_cases": list(timm_cases()),
        "mindcv_cases": list(mindcv_cases(mindcv)),
    }
    path = Path(__file__).with_name("schedules.json")
    path.write_text(json.dumps(golden, indent=None).replace("], [{", "],\n[{") + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

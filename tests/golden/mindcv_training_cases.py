"""Calls of schedules, losses and optimizers, for make_mindcv_training.py and its conformance test.

Each case is (name, arguments by position, arguments by keyword). A text that begins with @ names
an array of `inputs`.
"""

import importlib

import numpy as np

TIME = dict(steps_per_epoch=7, epochs=15)
SCHEDULES = [
    ("constant_lr", (0.5, 4), dict(lr=0.05)),
    ("linear_lr", (0.5, 1.0, 4), dict(lr=0.05)),
    ("linear_refined_lr", (0.5, 1.0, 4), dict(lr=0.05)),
    ("polynomial_lr", (4, 1.5), dict(lr=0.05)),
    ("polynomial_refined_lr", (20, 1.5), dict(lr=0.05)),
    ("exponential_lr", (0.9,), dict(lr=0.05)),
    ("exponential_refined_lr", (0.9,), dict(lr=0.05)),
    ("step_lr", (3, 0.5), dict(lr=0.05)),
    ("multi_step_lr", ([6, 3], 0.5), dict(lr=0.05)),
    ("cosine_decay_lr", (5, 0.001), dict(eta_max=2.0, num_cycles=2, cycle_decay=0.5)),
    ("cosine_decay_lr", (25, 0.001), dict(eta_max=2.0)),
    ("cosine_decay_refined_lr", (5, 0.001), dict(eta_max=2.0, num_cycles=2, cycle_decay=0.5)),
    ("cosine_decay_refined_lr", (25, 0.001), dict(eta_max=2.0)),
    ("cosine_annealing_lr", (4, 0.1), dict(eta_max=1.0)),
    ("cosine_annealing_warm_restarts_lr", (2, 2, 0.1), dict(eta_max=1.0)),
    ("one_cycle_lr", (2.5,), {}),
    ("one_cycle_lr", (2.5, 0.25, "linear", 10.0, 100.0, True), {}),
    ("one_cycle_lr", (2.5, 0.25, "cos", 10.0, 100.0, True), {}),
    ("cyclic_lr", (0.1, 2.5), {}),
    ("cyclic_lr", (0.1, 2.5, 5, 9, "triangular2"), {}),
    ("cyclic_lr", (0.1, 2.5, 5, None, "exp_range", 0.99), {}),
]
RECIPE = dict(lr=0.1, min_lr=0.001, warmup_epochs=5, decay_epochs=25, num_epochs=2)
CUT = [  # of create_scheduler; MindCV's list of a warm-up longer than the run is longer too
    dict(RECIPE, scheduler="cosine_decay", warmup_factor=0.01),
    dict(RECIPE, scheduler="cosine_decay", lr_epoch_stair=True),
    dict(RECIPE, scheduler="cosine_decay", num_epochs=9),
    dict(RECIPE, scheduler="warmup_cosine_decay", num_epochs=9, num_cycles=3, lr_epoch_stair=True),
    dict(RECIPE, scheduler="step_decay", num_epochs=9),
    dict(RECIPE, scheduler="multi_step_decay", milestones=[2, 40], num_epochs=9),
    dict(RECIPE, scheduler="polynomial_decay", num_epochs=9),
]

_MODULES = {
    "CrossEntropySmooth": "cross_entropy_smooth",
    "BinaryCrossEntropySmooth": "binary_cross_entropy_smooth",
    "AsymmetricLossMultilabel": "asymmetric",
    "AsymmetricLossSingleLabel": "asymmetric",
    "JSDCrossEntropy": "jsd",
    "create_loss": "loss_factory",
}
# (name, arguments, keywords, logits, labels, whether it trains)
LOSSES = [
    ("CrossEntropySmooth", (), {}, "@logits", "@index", True),
    ("CrossEntropySmooth", (0.1, 0.3, "sum", "@weight"), {}, ["@logits", "@other"], "@index", True),
    ("CrossEntropySmooth", (0.1,), dict(reduction="none"), "@logits", "@soft", True),
    ("CrossEntropySmooth", (), {}, "@logits", "@some ignored", True),
    ("CrossEntropySmooth", (0.1,), dict(weight="@weight"), "@logits", "@some ignored", True),
    ("BinaryCrossEntropySmooth", (), {}, "@logits", "@soft", True),
    ("BinaryCrossEntropySmooth", (0.1, 0.0, "sum", "@weight", "@other weight"), {}, "@logits")
    + ("@soft", True),
    ("BinaryCrossEntropySmooth", (), dict(reduction="none"), "@logits", "@index", True),
    ("AsymmetricLossMultilabel", (), {}, "@logits", "@multi-hot", True),
    ("AsymmetricLossMultilabel", (3, 2, 0.1, 1e-6), {}, "@logits", "@multi-hot", True),
    ("AsymmetricLossMultilabel", (2, 1, 0), {}, "@logits", "@multi-hot", True),
    ("AsymmetricLossSingleLabel", (), {}, "@logits", "@index", True),
    ("AsymmetricLossSingleLabel", (2, 3, 0.5, "none", 0.2), {}, "@logits", "@index", True),
    ("JSDCrossEntropy", (), dict(weight="@weight"), "@logits", "@index", False),
    ("create_loss", (), {}, "@logits", "@index", True),
    ("create_loss", ("bce", "@weight", "sum", 0.1), {}, "@logits", "@soft", True),
    ("create_loss", ("asl_multi_label", None, "mean", 0.1), {}, "@theirs", "@their labels", True),
    ("create_loss", ("ASL_single_label", None, "mean", 0.1), {}, "@logits", "@index", True),
    ("create_loss", ("Jsd",), dict(label_smoothing=0.1), "@logits", "@index", False),
    ("create_loss", ("CE", None, "none", 0.1), {}, "@logits", "@index", True),
    ("create_loss", ("BCE", None, "none"), {}, "@logits", "@soft", True),
]

SHAPES = {
    "stem.conv.weight": (4, 3),
    "stem.bn.gamma": (4,),
    "stem.bn.beta": (4,),
    "head.fc.weight": (2, 4),
    "head.fc.bias": (2,),
}
STEPS = 3
EQUAL = ("sgd", "momentum", "adam", "adamW", "nadam", "lion", "RMSProp", "adagrad")
AUTO = dict(weight_decay=0.1, weight_decay_filter="auto")
# (path, arguments after the parameters, keywords)
OPTIMIZERS = [
    *(("optim_factory.create_optimizer", (opt, 0.01), AUTO) for opt in EQUAL),
    ("optim_factory.create_optimizer", ("momentum", 0.01, 0.1), {}),
    ("optim_factory.create_optimizer", ("momentum", 0.01, 0.1, 0.9, False, "norm_and_bias"), {}),
    ("optim_factory.create_optimizer", ("sgd", 0.01, 0.0, 0.5, True), {}),
    ("optim_factory.create_optimizer", ("adam", 0.01), dict(nesterov=True)),
    ("optim_factory.create_optimizer", ("adam", 0.01), dict(beta1=0.8, beta2=0.95)),
    ("optim_factory.create_optimizer", ("adagrad", 0.01), dict(accum=0.5)),
    ("optim_factory.create_optimizer", ("adamw", 0.01), dict(loss_scale=8.0)),
    ("optim_factory.create_optimizer", ("lion", [0.01, 0.02, 0.03]), {}),
    ("adamw.AdamW", (0.01, 0.8, 0.95, 1e-3, 0.1, 8.0, True), {}),
    ("lion.Lion", (0.01, 0.8, 0.95, 0.1, 8.0, True), {}),
    ("lion.Lion", (), {}),
    ("nadam.NAdam", (0.01, 0.8, 0.95, 1e-3, 0.1), {}),
]
# Where we differ on purpose: MindCV's numbers are recorded, and ours must be others.
OTHER_OPTIMIZERS = [
    ("optim_factory.create_optimizer", ("nesterov", 0.01), {}),
    ("optim_factory.create_optimizer", ("momentum", 0.01), dict(nesterov=True)),
    ("optim_factory.create_optimizer", ("adan", 0.01), {}),
    ("optim_factory.create_optimizer", ("nadam", 0.01), dict(schedule_decay=0.5)),
]
OTHER_LOSSES = [
    ("create_loss", ("bce", None, "mean", 0.0, 0.3), {}, ["@logits", "@other"], "@soft", True),
    ("create_loss", ("asl_single_label", None, "sum"), {}, "@logits", "@index", True),
    ("JSDCrossEntropy", (), {}, "@logits", "@index", True),  # ValueError of MindSpore 2.10
    ("AsymmetricLossMultilabel", (4, 0), {}, "@logits", "@multi-hot", True),
]


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    index = rng.integers(0, 5, 6).astype(np.int32)
    theirs = [0.38317937, 0.82873726, 0.8164871, 0.6443424, 0.77863216, 0.17288171]
    theirs += [0.69345415, 0.26514006, 0.14249292, 0.38524792, 0.97271717, 0.90531427]
    return {
        "logits": rng.normal(0, 2, (6, 5)).astype(np.float32),
        "other": rng.normal(0, 2, (6, 5)).astype(np.float32),
        "index": index,
        "some ignored": np.where(np.arange(6) % 3 == 1, -100, index).astype(np.int32),
        "soft": rng.dirichlet(np.ones(5), 6).astype(np.float32),
        "multi-hot": (rng.random((6, 5)) < 0.4).astype(np.float32),
        "weight": rng.uniform(0.2, 2.0, 5).astype(np.float32),
        "other weight": rng.uniform(0.2, 2.0, 5).astype(np.float32),
        # The input of MindCV's tests/modules/test_loss.py.
        "theirs": np.array(theirs, np.float32).reshape(3, 4),
        "their labels": np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]], np.int32),
    }


def take(value):
    """Return the tensor that a text with @ names, a tuple of a list's, or the value itself."""
    import mindspore as ms

    if isinstance(value, list) and isinstance(value[0], str):
        return tuple(map(take, value))
    is_name = isinstance(value, str) and value.startswith("@")
    return ms.Tensor(inputs()[value[1:]]) if is_name else value


def loss_of(name, arguments, keywords, logits, labels, trains) -> list[float]:
    """Return the loss of a case, flattened."""
    create = getattr(importlib.import_module(f"mindcv.loss.{_MODULES[name]}"), name)
    loss = create(*map(take, arguments), **{key: take(value) for key, value in keywords.items()})
    return loss.set_train(trains)(take(logits), take(labels)).asnumpy().ravel().tolist()


def weights_of(path, arguments, keywords) -> list[float]:
    """Return all weights after STEPS steps of a case."""
    import mindspore as ms

    rng = np.random.default_rng(0)
    params = [
        ms.Parameter(ms.Tensor(rng.normal(0, 0.4, shape).astype(np.float32)), name=name)
        for name, shape in SHAPES.items()
    ]
    module, _, name = path.rpartition(".")
    create = getattr(importlib.import_module(f"mindcv.optim.{module}"), name)
    optimizer = create(params, *arguments, **keywords)
    for step in range(STEPS):
        rng = np.random.default_rng(10 + step)
        optimizer(tuple(ms.Tensor(rng.normal(0, 1, p.shape).astype(np.float32)) for p in params))
    return np.concatenate([p.asnumpy().ravel() for p in params]).tolist()

"""Contradictions between options, found before anything is built.

Each rule names the key to blame first, so that the message can say where it was written.
"""

from collections.abc import Callable, Iterator, Mapping

from .augment_policy import parse_policy
from .options import Config

LAUNCH_LINE = "msrun --bind_core=True --worker_num 8 python train.py --config … --distribute True"


def is_launched(environ: Mapping[str, str]) -> bool:
    """Tell whether msrun, mpirun or a rank table started this process as one of several."""
    return any(key in environ for key in ("MS_ROLE", "OMPI_COMM_WORLD_RANK", "RANK_TABLE_FILE"))


def training_contradictions(
    config: Config, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for every contradiction in a training config."""
    yield from _schedule(config)
    yield from _augmentation(config)
    yield from _training(config, environ)


def evaluation_contradictions(
    config: Config, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for every contradiction in the config of validate.py.

    The weight file may tell the model.
    """
    yield from _devices(config, environ)
    yield from _normalisation(config)
    if not config.ckpt_path:
        yield "ckpt_path", "no weights given; add --ckpt_path FILE"


def _schedule(config: Config) -> Iterator[tuple[str, str]]:
    c = config
    if c.warmup_epochs >= c.epoch_size and c.warmup_epochs > 0:
        yield (
            "warmup_epochs",
            f"{c.warmup_epochs} epochs of warm-up leave nothing of epoch_size {c.epoch_size}; "
            "shorten the warm-up or train longer",
        )
    elif c.scheduler.endswith("cosine_decay"):
        rest = c.epoch_size - c.warmup_epochs
        if c.num_cycles > rest:
            yield "num_cycles", f"{c.num_cycles} cycles do not fit into {rest} epochs"
        elif c.decay_epochs is not None and c.decay_epochs * c.num_cycles > rest:
            cycles = "" if c.num_cycles == 1 else f"{c.num_cycles} cycles of "
            yield (
                "decay_epochs",
                f"warmup_epochs {c.warmup_epochs} + {cycles}decay_epochs {c.decay_epochs} exceed "
                f"epoch_size {c.epoch_size}, the decay would never end; use decay_epochs "
                f"{rest // c.num_cycles} or leave it out",
            )
    if c.scheduler.endswith("cosine_decay") and c.min_lr > c.lr:
        yield "min_lr", f"min_lr {c.min_lr} is above lr {c.lr}; the rate would grow"
    if c.scheduler == "step_decay" and c.decay_epochs is None:
        yield "scheduler", "step_decay needs decay_epochs, the epochs between two drops"
    elif c.scheduler == "step_decay" and c.warmup_epochs + c.decay_epochs >= c.epoch_size:
        yield (
            "decay_epochs",
            f"the first drop, {c.decay_epochs} epochs after the warm-up, is never reached within "
            f"epoch_size {c.epoch_size}",
        )
    if c.scheduler == "multi_step_decay":
        milestones = c.multi_step_decay_milestones
        if sorted(set(milestones)) != list(milestones):
            yield "multi_step_decay_milestones", f"{list(milestones)} must increase"
        elif milestones[-1] >= c.epoch_size - c.warmup_epochs:
            yield (
                "multi_step_decay_milestones",
                f"milestone {milestones[-1]}, counted from the end of the warm-up, is never "
                f"reached within epoch_size {c.epoch_size}",
            )


def _augmentation(config: Config) -> Iterator[tuple[str, str]]:
    for key in ("scale", "ratio", "re_scale", "re_ratio"):
        low, high = getattr(config, key)
        if low > high:
            yield key, f"the range {low} to {high} is empty; write the smaller number first"
    yield from _normalisation(config)
    jitter = config.color_jitter
    if isinstance(jitter, tuple) and len(jitter) == 4 and jitter[3] > 0.5:
        yield "color_jitter", f"hue strength {jitter[3]} is above 0.5, half the colour circle"
    if config.auto_augment is not None:
        try:
            parse_policy(config.auto_augment)
        except ValueError as error:
            yield "auto_augment", str(error)
    if config.aug_repeats == 1:
        yield "aug_repeats", "1 repeat is no repetition; use 0, or 2 and more"
    if config.aug_repeats and not config.shuffle:
        yield "aug_repeats", "repeated augmentation shuffles; it contradicts shuffle False"
    if config.aug_repeats and config.num_samples:
        yield "aug_repeats", "repeated augmentation and num_samples do not go together"
    samples = config.num_samples
    if samples is not None and samples < config.batch_size and config.drop_remainder:
        yield (
            "num_samples",
            f"{samples} images do not fill one batch of batch_size {config.batch_size}, and "
            "drop_remainder drops the rest: nothing is left to train on",
        )


def _normalisation(config: Config) -> Iterator[tuple[str, str]]:
    for key in ("mean", "std"):
        values = getattr(config, key)
        if values is not None and len(values) != config.in_channels:
            yield key, f"{len(values)} values for in_channels {config.in_channels}"
    if config.std is not None and max(config.std) < 1:
        yield (
            "std",
            f"{list(config.std)} looks like the scale 0-1; pixels are 0-255 here: multiply "
            "mean and std by 255",
        )


def _devices(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if config.distribute and not is_launched(environ) and not config.dry_run:
        yield (
            "distribute",
            "True needs a launcher, and this process was started alone; run it as\n"
            f"    {LAUNCH_LINE}\nor add --distribute False for one device",
        )
    workers = environ.get("MS_WORKER_NUM", "1")
    if not config.distribute and workers != "1":
        yield (
            "distribute",
            f"False, but msrun started {workers} processes, which would all do the same work and "
            "overwrite each other's files; add --distribute True",
        )
    if config.device_target == "CPU" and config.jit_level == "O2":
        yield "jit_level", "O2 is Ascend's graph engine; on CPU use O0 or O1, or leave it out"


def _training(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if not config.model:
        yield "model", "no model given; add --model NAME, e.g. regnet_x_800mf"
    yield from _devices(config, environ)
    if config.ckpt_save_policy == "top_k" and not config.val_while_train:
        yield "ckpt_save_policy", "top_k ranks by accuracy and needs val_while_train True"
    if config.val_while_train and config.val_interval > config.epoch_size:
        yield (
            "val_interval",
            f"an evaluation every {config.val_interval} epochs never happens in epoch_size "
            f"{config.epoch_size}",
        )
    if config.ckpt_save_policy == "top_k" and config.ckpt_save_interval % config.val_interval:
        yield (
            "ckpt_save_interval",
            "top_k needs an accuracy for each checkpoint: ckpt_save_interval must be a multiple "
            f"of val_interval {config.val_interval}",
        )
    if config.use_nesterov and config.opt not in ("sgd", "momentum", "nesterov"):
        yield "use_nesterov", f"Nesterov's momentum does not exist for opt {config.opt}"
    elif (config.use_nesterov or config.opt == "nesterov") and config.momentum == 0:
        yield "momentum", "0 leaves Nesterov's momentum nothing to work with"
    yield from _loss(config)
    if config.drop_overflow_update and config.loss_scale_type != "fixed":
        yield "drop_overflow_update", "a dynamic loss scale drops overflowing updates by itself"


def _loss(config: Config) -> Iterator[tuple[str, str]]:
    if config.bce_target_thresh is not None and config.loss != "BCE":
        yield (
            "bce_target_thresh",
            f"thresholds the targets of loss BCE; loss {config.loss} has none",
        )
    mixed = [key for key in ("mixup", "cutmix") if getattr(config, key)]
    if mixed and config.loss == "jsd":
        yield "loss", f"jsd compares copies of an image, which {mixed[0]} would mix with others"
    elif mixed and config.loss == "asl_single_label":
        yield "loss", f"asl_single_label is not defined for the mixed labels of {mixed[0]}; use CE"
    if config.loss == "jsd" and config.aug_splits < 2:
        yield "loss", f"jsd compares copies of an image; aug_splits {config.aug_splits} makes none"


Rules = Callable[[Config, Mapping[str, str]], Iterator[tuple[str, str]]]

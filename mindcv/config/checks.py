"""What a config may not hold: each rule yields the option to blame and a message."""

import os
from collections.abc import Callable, Iterator

from ..data.augment.policies import parse_policy
from ..data.datasets import dataset_row, dataset_task, has_split
from ..data.preprocessing import INTERPOLATIONS, RANDOM, channel_statistics, scale_problem
from ..errors import ConfigError
from ..loss import LOSSES
from ..names import plural
from ..optim import OPTIMIZERS
from ..task import MULTI_LABEL
from .options import Config
from .schedule import schedule_contradictions
from .settings import read_factors, settings_problems

LAUNCH_LINE = "msrun --bind_core=True --worker_num 8 python train.py --config … --distribute True"

Problems = Iterator[tuple[str, str]]  # (option, message)
Rules = Callable[[Config], Problems]


def is_launched() -> bool:
    """Return whether msrun, mpirun or a rank table started this process."""
    return any(key in os.environ for key in ("MS_ROLE", "OMPI_COMM_WORLD_RANK", "RANK_TABLE_FILE"))


def training_contradictions(config: Config) -> Problems:
    """Yield (key, message) for every contradiction in a training config."""
    yield from schedule_contradictions(config)
    yield from _augmentation(config)
    yield from _training(config)


def evaluation_contradictions(config: Config) -> Problems:
    """Yield (key, message) for every contradiction in the config of validate.py."""
    yield from _splits(config)
    yield from _devices(config)
    yield from settings_problems(config)
    yield from _augmentation(config) if config.precise_bn_samples else _preprocessing(config)
    # Without published weights, the weight file may name the model.
    if config.pretrained and not config.model:
        yield "pretrained", "published weights of which model? add --model NAME"
    if not (config.ckpt_path or config.pretrained):
        yield "ckpt_path", "no weights given; add --ckpt_path FILE, or --model NAME --pretrained"


def is_fine_tune(config: Config) -> bool:
    """Return whether a run starts from weights; those of `resume_opt` are its own."""
    return bool(config.pretrained or (config.ckpt_path and not config.resume_opt))


def training_remarks(config: Config) -> Problems:
    """Yield (key, message) for what a training leaves without effect, as MindCV does."""
    mixing = "mixup" if config.mixup else "cutmix"
    if getattr(config, mixing) and not config.cutmix_prob:
        yield "cutmix_prob", f"0 mixes no batch, although {mixing} is {getattr(config, mixing)}"
    if config.mixup_off_epoch >= config.epoch_size:
        why = f"{config.mixup_off_epoch} is never reached in epoch_size {config.epoch_size}"
        yield "mixup_off_epoch", why
    place = config.dataset, config.data_dir, config.val_split
    is_unevaluated = is_fine_tune(config) and not config.val_while_train
    if is_unevaluated and dataset_row(config.dataset) and not has_split(*place):
        why = "nothing is evaluated, so no checkpoint is the best"
        missing = f"{config.data_dir} has no split {config.val_split}"
        remedy = "name it by --val_split, or add --val_fraction 0.2"
        yield "val_while_train", f"{why}: {missing}; {remedy}"


def _splits(config: Config) -> Problems:
    if config.val_fraction and config.val_split != Config.val_split:
        why = "is not read: val_fraction holds its images out of train_split"
        yield "val_split", f"{why}; add --val_fraction 0"


def model_contradictions(config: Config) -> Problems:
    """Yield (key, message) for a model or published weights that do not exist."""
    from ..design_space.published import family_name, unknown_model  # imports NumPy: 0.1 s

    name = family_name(config.model)
    if name is None:
        # What `import_module` registers is known only after its import.
        if config.model and not config.import_module:
            yield "model", unknown_model(config.model)
    elif config.pretrained:
        from ..hub import choose_weights

        try:
            choose_weights(config.model, name, config.pretrained)
        except ConfigError as error:
            yield "pretrained", str(error)


def _augmentation(config: Config) -> Problems:
    for key in ("scale", "ratio", "re_scale", "re_ratio"):
        low, high = getattr(config, key)
        if low > high:
            yield key, f"the range {low} to {high} is empty; write the smaller number first"
    yield from _preprocessing(config)
    if _hue(config) > 0.5:
        yield "color_jitter", f"hue strength {_hue(config)} is above 0.5, half the colour circle"
    if config.auto_augment is not None:
        try:
            parse_policy(config.auto_augment)
        except ValueError as error:
            yield "auto_augment", str(error)
    yield from _mixing(config)
    yield from _on_device(config)
    if isinstance(config.re_value, str) and config.re_value != RANDOM:
        yield "re_value", f"{config.re_value!r} is unknown; use random, a number or one a channel"
    if config.aug_repeats > 1 and not config.shuffle:
        yield "aug_repeats", "repeated augmentation shuffles; it contradicts shuffle False"
    if config.aug_repeats > 1 and config.num_samples:
        yield "aug_repeats", "repeated augmentation and num_samples do not go together"
    if config.sampler and (config.aug_repeats > 1 or not config.shuffle):
        key = "aug_repeats" if config.aug_repeats > 1 else "shuffle"
        why = f"a balanced epoch is shuffled and repeats images in its own way; leave out {key}"
        yield "sampler", f"{why} {getattr(config, key)}"
    samples = config.num_samples
    if samples is not None and samples < config.batch_size and config.drop_remainder:
        why = f"{plural(samples, 'image')} do not fill one batch of batch_size {config.batch_size}"
        rest = "and drop_remainder drops the rest: nothing is left to train on"
        yield "num_samples", f"{why}, {rest}"


def _hue(config: Config) -> float:
    jitter = config.color_jitter
    return jitter[3] if isinstance(jitter, tuple) and len(jitter) == 4 else 0.0


def _mixing(config: Config) -> Problems:
    mixes = config.mixup > 0 or config.cutmix > 0
    if config.mixup_off_epoch and not mixes:
        yield "mixup_off_epoch", "nothing is mixed: neither mixup nor cutmix is on"
    if config.aug_splits == 1:
        yield "aug_splits", "1 copy is no split; use 0, or 2 and more"
    if config.aug_splits and not config.auto_augment:
        yield "aug_splits", "the splits differ by auto_augment, e.g. augmix-m5-w4-d2; none is given"
    if config.aug_splits and mixes:
        yield "aug_splits", "mixup and cutmix would mix the splits; use one or the other"


def _on_device(config: Config) -> Problems:
    if not config.augment_on_device:
        return
    on_host = {
        "lighting": config.lighting,
        "mixup": config.mixup,
        "cutmix": config.cutmix,
        "aug_splits": config.aug_splits,
        "color_jitter": _hue(config),
        "re_value": config.re_prob and config.re_value == "random",
        "image_resize": isinstance(config.image_resize, tuple),
    }
    for key, is_used in on_host.items():
        if is_used:
            value = getattr(config, key)
            yield "augment_on_device", f"{key} {value} is done on the host; use False"


def _preprocessing(config: Config) -> Problems:
    for key in ("mean", "std"):
        values = getattr(config, key)
        if values is None:
            continue
        if len(values) != config.in_channels:
            remedy = "; add in_channels 1 for grey images" if len(values) == 1 else ""
            yield key, f"{len(values)} values for in_channels {config.in_channels}{remedy}"
        if problem := scale_problem(key, values):
            yield key, problem
    own = channel_statistics(config.dataset, channels=config.in_channels)
    missing = [
        key
        for key, values in zip(("mean", "std"), own)
        if getattr(config, key) is None and len(values) != config.in_channels
    ]
    if missing:
        each = "one value each (0 to 255)" if len(missing) == 2 else "one value (0 to 255)"
        yield "in_channels", f"1 makes the images grey: give {' and '.join(missing)}, {each}"
    row = INTERPOLATIONS.get(config.interpolation)
    if config.antialias and row and not row.antialiased:
        yield "antialias", f"True goes with bilinear and bicubic; {row.name} {row.remark}"


def _devices(config: Config) -> Problems:
    workers = os.environ.get("MS_WORKER_NUM", "1")
    if not config.distribute and workers != "1":
        why = f"False, but msrun started {workers} processes, which would all do the same work"
        yield "distribute", f"{why} and overwrite each other's files; add --distribute True"
    if config.device_target == "CPU" and config.jit_level == "O2":
        yield "jit_level", "O2 is Ascend's graph engine; on CPU use O0 or O1, or leave it out"


def sink_contradictions(config: Config) -> Problems:
    """Yield (key, message) for what the data sink does not support."""
    if not config.drop_remainder:
        why = "False leaves a smaller last batch, and the data sink takes batches of one shape"
        yield "drop_remainder", f"{why}; use True, or dataset_sink_mode False"
    if config.ckpt_save_steps:
        why = f"{config.ckpt_save_steps}: within an epoch of the data sink nothing can be saved"
        yield "ckpt_save_steps", f"{why}; use ckpt_save_interval, or dataset_sink_mode False"
    if config.profile:
        why = f"{config.profile}: the data sink runs a whole epoch in one call"
        yield "profile", f"{why}; add dataset_sink_mode False for the steps to profile"


def _training(config: Config) -> Problems:
    if not config.model:
        yield "model", "no model given; add --model NAME, e.g. regnet_x_800mf"
    yield from settings_problems(config, needed=True)
    if not config.ckpt_save_dir:
        yield "ckpt_save_dir", "names no folder; leave it out for ./ckpt"
    if config.distribute and not is_launched() and not config.dry_run:
        yield (
            "distribute",
            "True needs a launcher, and this process was started alone; run it as\n"
            f"    {LAUNCH_LINE}\n  or add --distribute False for one device",
        )
    yield from _devices(config)
    yield from _splits(config)
    # If device_target is null, engine/build checks this: the device is known only once MindSpore
    # has started.
    if config.device_target == "Ascend" and config.mode == 0 and config.dataset_sink_mode:
        yield from sink_contradictions(config)
    if config.ckpt_save_policy == "top_k" and not config.val_while_train:
        yield "ckpt_save_policy", "top_k ranks by accuracy and needs val_while_train True"
    if config.unfreeze_epoch and config.freeze_stages is None:
        yield "unfreeze_epoch", "nothing is frozen; add freeze_stages N"
    if config.unfreeze_epoch >= config.epoch_size:
        why = f"{config.unfreeze_epoch} leaves no epoch of epoch_size {config.epoch_size} after it"
        yield "unfreeze_epoch", f"{why}; use 0 to keep the layers frozen"
    try:
        read_factors(config.layer_lr)
    except ValueError as error:
        yield "layer_lr", str(error)
    if config.early_stop_patience and not config.val_while_train:
        yield (
            "early_stop_patience",
            "counts evaluations, and there are none; add val_while_train True",
        )
    if config.early_stop_min_delta and not config.early_stop_patience:
        yield "early_stop_min_delta", "nothing stops early; add early_stop_patience N"
    if config.val_weights and not (config.ema and config.val_while_train):
        yield "val_weights", "chooses what is evaluated; it needs ema True and val_while_train True"
    if config.ckpt_save_policy == "top_k" and config.ckpt_save_interval % config.val_interval:
        why = "top_k needs an accuracy for each checkpoint"
        yield "ckpt_save_interval", f"{why}: use a multiple of val_interval {config.val_interval}"
    if config.use_nesterov and "nesterov" not in OPTIMIZERS[config.opt].takes:
        yield "use_nesterov", f"Nesterov's momentum does not exist for opt {config.opt}"
    elif config.momentum == 0 and _uses_nesterov(config):
        yield "momentum", "0 leaves Nesterov's momentum nothing to work with"
    if config.amp_cast_list and config.amp_level not in ("O1", "O2"):
        yield "amp_cast_list", f"a list goes with amp_level O1 or O2, not {config.amp_level}"
    if config.keep_bn_fp32 is False and config.amp_level not in ("O2", "O3"):
        yield "keep_bn_fp32", f"False goes with amp_level O2 or O3, not {config.amp_level}"
    if config.pretrained and config.ckpt_path:
        yield "pretrained", "pretrained and ckpt_path both name weights; give one of them"
    if config.resume_opt and not config.ckpt_path:
        yield "resume_opt", "needs ckpt_path, the checkpoint to continue from; or use resume"
    elif config.resume_opt and config.resume:
        why = "continues from ckpt_path, but resume names another checkpoint"
        yield "resume_opt", f"{why}; give one of them"
    yield from _loss(config)
    skips = config.drop_overflow_update or config.loss_scale_type != "fixed"
    if config.max_skipped_steps != Config.max_skipped_steps and not skips:
        yield "max_skipped_steps", "no step is skipped; add drop_overflow_update True"


def _uses_nesterov(config: Config) -> bool:
    """Whether `momentum` is Nesterov's; adam's own is beta1."""
    has_it = "momentum" in OPTIMIZERS[config.opt].takes
    return config.opt == "nesterov" or (config.use_nesterov and has_it)


def _loss(config: Config) -> Problems:
    loss, row = config.loss, LOSSES[config.loss]
    if config.bce_target_thresh is not None and "bce_target_thresh" not in row.takes:
        yield "bce_target_thresh", f"thresholds the targets of loss BCE; loss {loss} has none"
    if config.class_weights and "weight" not in row.takes:
        able = " or ".join(name for name, other in LOSSES.items() if "weight" in other.takes)
        yield "class_weights", f"loss {loss} has none; use {able}, or leave class_weights out"
    if config.class_weights == "balanced" and config.sampler:
        why = "would favour rare classes twice"
        yield "class_weights", f"balanced, with sampler {config.sampler}, {why}; use one of them"
    if dataset_task(config.dataset) is MULTI_LABEL:
        if not row.multi_label:
            several = " or ".join(name for name, other in LOSSES.items() if other.multi_label)
            yield "loss", f"{loss} expects one class per image; dataset multi_label takes {several}"
        if config.label_smoothing:
            why = "must be 0 with multi_label: an image has no single label to smooth"
            yield "label_smoothing", why
        if config.class_weights == "balanced":
            yield "class_weights", "balanced is for one class an image; give a number for each"
    mixed = [key for key in ("mixup", "cutmix") if getattr(config, key)]
    if mixed and row.splits:
        yield "loss", f"{loss} compares copies of an image, which {mixed[0]} would mix with others"
    elif mixed and not row.mixes:
        yield "loss", f"{loss} is not defined for the mixed labels of {mixed[0]}; use CE"
    if row.splits and config.aug_splits < 2:
        remedy = "add aug_splits 3 and auto_augment augmix"
        yield "loss", f"{loss} compares augmentation splits; {remedy}"

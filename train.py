"""Train an image classifier: config -> data -> network -> optimisation -> fit."""

import logging
import os
from pathlib import Path

import mindcv
from mindcv.config import Config, dump_config, is_launched
from mindcv.errors import ConfigError, DataError
from mindcv.program import import_user_module, run
from mindcv.weights import Metadata, Preprocessing

logger = logging.getLogger("mindcv.train")


def main(config: Config) -> None:
    # The first use of a part of mindcv imports mindspore, which takes seconds. A wrong config has
    # been answered by now.
    runtime = mindcv.engine.start_runtime(
        config.mode,
        config.device_target,
        config.jit_level,
        config.distribute and is_launched(os.environ),
        config.seed,
    )
    folder = None
    if runtime.is_main and not config.dry_run:
        folder = open_run_folder(config)
    mindcv.engine.start_logging(runtime.is_main, folder and folder / "train.log")
    logger.info(runtime.describe())
    if config.import_module:
        import_user_module(config.import_module)

    train_set = open_train_set(config, runtime)
    num_classes = count_classes(config, train_set)
    train_loader = build_train_loader(config, runtime, train_set, num_classes)
    steps_per_epoch = count_steps(config, train_set, train_loader)

    network = mindcv.create_model(
        config.model,
        num_classes=num_classes,
        in_channels=config.in_channels,
        drop_rate=config.drop_rate,
        drop_path_rate=config.drop_path_rate,
    )
    if config.ckpt_path:
        mindcv.models.load_weights(network, config.ckpt_path)
    normalize = mindcv.data.create_normalize(config.dataset, config.mean, config.std)
    mixed_network = mindcv.engine.auto_mixed_precision(network, config.amp_level)

    rates = build_schedule(config, steps_per_epoch)
    step = mindcv.engine.TrainStep(
        mixed_network,
        build_loss(config),
        build_optimizer(config, network, rates),
        normalize,
        loss_scale=config.loss_scale,
        dynamic=has_dynamic_scale(config),
        skip_overflow=config.drop_overflow_update,
        world_size=runtime.world_size,
    )
    evaluate = None
    if config.val_while_train:
        evaluate = build_evaluation(config, runtime, mixed_network, normalize, num_classes)

    for line in mindcv.engine.describe_model(config.model, network, config.image_resize):
        logger.info(line)
    for line in mindcv.engine.describe_schedule(rates, steps_per_epoch):
        logger.info(line)
    if config.dry_run:
        logger.info("resolved config:\n%s", dump_config(config))
        logger.info("dry run: everything is built, no step was taken")
        return

    progress = mindcv.engine.Progress(
        rates, config.batch_size * runtime.world_size, config.log_interval, runtime.is_main
    )
    epoch_end = mindcv.engine.EpochEnd(
        network,
        progress,
        rates,
        evaluate,
        config.val_interval,
        folder
        and mindcv.engine.CheckpointKeeper(
            folder,
            describe_weights(config, train_set, num_classes),
            config.ckpt_save_policy,
            config.keep_checkpoint_max,
        ),
        config.ckpt_save_interval,
        folder and folder / "metrics.csv",
        runtime,
    )
    mindcv.engine.fit(
        step, train_loader, config.epoch_size, [progress, epoch_end], config.dataset_sink_mode
    )


def open_run_folder(config: Config) -> Path:
    """Create the run folder and leave the resolved config in it."""
    folder = Path(config.ckpt_save_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"ckpt_save_dir {folder} cannot be written: {error.strerror}") from None
    return folder


def open_train_set(config: Config, runtime):
    return mindcv.create_dataset(
        config.dataset,
        config.data_dir,
        config.train_split,
        config.shuffle,
        num_samples=config.num_samples,
        num_shards=runtime.world_size if runtime.world_size > 1 else None,
        shard_id=runtime.rank if runtime.world_size > 1 else None,
        num_parallel_workers=config.num_parallel_workers,
        num_aug_repeats=config.aug_repeats,
    )


def count_classes(config: Config, train_set) -> int:
    found = train_set.num_classes()
    if config.num_classes is not None and config.num_classes < found:
        raise DataError(
            f"num_classes {config.num_classes} is too small: {config.data_dir} holds {found} "
            "classes; leave num_classes out to take them from the data"
        )
    return config.num_classes or found


def build_train_loader(config: Config, runtime, train_set, num_classes: int):
    transform = mindcv.create_transforms(
        config.dataset,
        config.image_resize,
        is_training=True,
        auto_augment=config.auto_augment,
        normalize_on_device=True,
        scale=config.scale,
        ratio=config.ratio,
        hflip=config.hflip,
        vflip=config.vflip,
        color_jitter=config.color_jitter,
        interpolation=config.interpolation,
        mean=config.mean,
        std=config.std,
        re_prob=config.re_prob,
        re_scale=config.re_scale,
        re_ratio=config.re_ratio,
        re_value=config.re_value,
        re_max_attempts=config.re_max_attempts,
    )
    loader = mindcv.create_loader(
        train_set,
        config.batch_size,
        config.drop_remainder,
        is_training=True,
        mixup=config.mixup,
        cutmix=config.cutmix,
        cutmix_prob=config.cutmix_prob,
        num_classes=num_classes,
        transform=transform,
        num_parallel_workers=config.num_parallel_workers,
        shard_id=runtime.rank,
    )
    return loader


def count_steps(config: Config, train_set, train_loader) -> int:
    steps = train_loader.get_dataset_size()
    if steps:
        return steps
    problem = (
        f"{train_set.get_dataset_size()} training images of a process do not fill one batch of "
        f"{config.batch_size}; lower batch_size or set drop_remainder False"
    )
    if not config.dry_run:
        raise DataError(problem)
    logger.warning("this run could take no step: %s; the dry run goes on with 1", problem)
    return 1


def build_schedule(config: Config, steps_per_epoch: int) -> list[float]:
    rest = config.epoch_size - config.warmup_epochs
    return mindcv.create_scheduler(
        steps_per_epoch,
        config.scheduler,
        lr=config.lr,
        min_lr=config.min_lr,
        warmup_epochs=config.warmup_epochs,
        warmup_factor=config.warmup_factor,
        decay_epochs=config.decay_epochs or rest // config.num_cycles,
        decay_rate=config.decay_rate,
        milestones=config.multi_step_decay_milestones,
        num_epochs=config.epoch_size,
        num_cycles=config.num_cycles,
        cycle_decay=config.cycle_decay,
        lr_epoch_stair=config.lr_epoch_stair,
    )


def build_loss(config: Config):
    return mindcv.create_loss(
        config.loss,
        reduction=config.reduction,
        label_smoothing=config.label_smoothing,
        aux_factor=config.aux_factor,
        bce_target_thresh=config.bce_target_thresh,
        num_splits=config.aug_splits,
    )


def build_optimizer(config: Config, network, rates: list[float]):
    return mindcv.create_optimizer(
        network,
        config.opt,
        lr=rates,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        nesterov=config.use_nesterov,
        weight_decay_filter=config.weight_decay_filter,
        layer_decay=config.layer_decay,
        eps=config.eps,
    )


def has_dynamic_scale(config: Config) -> bool:
    """`auto` scales dynamically where float16 is used; float32 needs no scale."""
    if config.loss_scale_type == "auto":
        return config.amp_level != "O0"
    return config.loss_scale_type == "dynamic"


def build_evaluation(config: Config, runtime, network, normalize, num_classes: int):
    """Return a function that evaluates the network as it is at the time of the call."""
    loader, _ = mindcv.data.create_evaluation_loader(
        config.dataset,
        config.data_dir,
        config.val_split,
        config.batch_size,
        config.image_resize,
        config.interpolation,
        config.crop_pct,
        config.num_parallel_workers,
        runtime.world_size,
        runtime.rank,
        mindcv.data.training_classes(config.dataset, config.data_dir, config.train_split),
    )
    step = mindcv.engine.EvaluationStep(network, num_classes, normalize)
    return lambda: mindcv.engine.evaluate(step, loader, config.batch_size, runtime)


def describe_weights(config: Config, train_set, num_classes: int) -> Metadata:
    """Return what travels with the checkpoints, so that validate.py and predict need only them."""
    mean, std = mindcv.data.channel_statistics(config.dataset)
    names = train_set.class_names()
    return Metadata(
        config.model,
        num_classes,
        config.in_channels,
        names and (*names, *map(str, range(len(names), num_classes))),
        Preprocessing(
            config.image_resize,
            config.crop_pct,
            config.interpolation,
            config.mean or mean,
            config.std or std,
        ),
    )


if __name__ == "__main__":
    run(main, "train.py", __doc__)

"""Translate a `Config` into the plain arguments of the factories, and build a run.

train.py, validate.py and the report build here, so all three evaluate alike.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import data, engine, models
from ..checkpoint import CheckpointWriter, Manifest
from ..config import (
    Config,
    build_schedule,
    is_launched,
    settings_of,
    shaping,
    sink_contradictions,
    updates_of_epoch,
)
from ..data.datasets import dataset_task
from ..data.preprocessing import Preprocessing
from ..data.samples import Samples
from ..errors import ConfigError, DataError
from ..names import plural
from ..process.clock import Clock
from ..process.signals import StopSignal
from ..weights import Metadata
from .build_step import (
    build_network,
    build_normalize,
    build_optimizer,
    build_step,
    build_transforms,
    freeze,
    options,
    rates_after,
    warn_of_random_weights,
)
from .classes import count_classes, name_all, weigh_classes

_logger = logging.getLogger("mindcv.train")


def start_runtime(config: Config) -> engine.Runtime:
    runtime = engine.start_runtime(
        distribute=config.distribute and is_launched(),
        **options(config, "mode device_target jit_level seed"),
    )
    engine.open_compile_cache(config.compile_cache, runtime, config.import_module)
    return runtime


def build_run(
    config: Config,
    runtime: engine.Runtime,
    train_set,
    *,
    checkpoint: Manifest | None = None,
    folder: Path | None = None,
    record: Mapping[str, Any] | None = None,
    trackers: Sequence[engine.Track] = (),
    clock: Clock | None = None,
    rates: Sequence[float] | None = None,
) -> engine.Run:
    """Build a new training run on `train_set`.

    Args:
        checkpoint: the caller will restore it, so the weights that the config names are not loaded.
        folder: run folder; None if this process writes no files there.
        record: what each checkpoint records about the run.
        trackers, clock: see `engine.Figures` and `engine.Progress`.
        rates: of the updates, in place of the schedule; the last one also fills its epoch.
    """
    num_classes = count_classes(config, train_set)
    class_weights = weigh_classes(config, train_set)
    sampling = options(config, "sampler num_samples")
    for line in engine.describe_data(train_set.samples, **sampling, class_weights=class_weights):
        _logger.info(line)
    batches = build_train_batches(config, runtime, train_set, num_classes)
    updates = count_updates(config, runtime, train_set)
    batches.limit(updates * config.gradient_accumulation_steps)
    division = engine.Division.of_batches(batches, updates, runtime.world_size)

    names = train_set.class_names()
    network = build_network(
        config, runtime, num_classes, is_fresh=checkpoint is None, class_names=names
    )
    if checkpoint is None:
        warn_of_random_weights(config, len(train_set.samples))
    lines = engine.describe_model(config.model, network, config.image_resize)  # nothing is frozen
    last = batches.steps - 1
    if config.unfreeze_epoch:  # all layers take part later
        check_batch_statistics(config, runtime, network, batches, last=last)
    frozen = freeze(config, network, checkpoint.position.epoch if checkpoint else 0)
    check_batch_statistics(config, runtime, network, batches, last=last)
    dropout_count = engine.count_dropout(network, config.seed, runtime.world_size, runtime.rank)
    mixed_network = engine.mixed_precision(
        network, config.amp_level, config.amp_cast_list or (), config.keep_bn_fp32
    )
    if rates is None:
        rates = build_schedule(config, updates, runtime.world_size)
    rates = [*rates, *rates[-1:] * (-len(rates) % updates)]
    average = engine.WeightAverage(network, config.ema_decay) if config.ema else None

    def build_phase(rows: Sequence):
        """Return the step, and what measures statistics, of the layers that are not frozen.

        `rows` of the table are of the epochs in which some were; none: they are now.
        """
        step = build_step(
            config,
            runtime,
            mixed_network,
            build_optimizer(config, network, rates_after(rows, rates, updates)),
            class_weights=class_weights,
            average=average,
            dropout_count=dropout_count,
        )
        return step, build_precise_batch_norm(
            config, runtime, mixed_network, batches, normalize=step.normalize
        )

    def unfreeze(rows: Sequence):
        frozen.unfreeze()
        later, measures = build_phase(rows)
        later.scaler = step.scaler  # a dynamic loss scale goes on
        return later, measures

    is_later = config.unfreeze_epoch > 0 and frozen is None
    rows = checkpoint.record["rows"][: config.unfreeze_epoch] if is_later else ()
    step, precise_batch_norm = build_phase(rows)

    stop = StopSignal()
    evaluate = None
    if config.val_while_train:
        every = "epoch" if config.val_interval == 1 else f"{config.val_interval} epochs"
        how = "every %s evaluates %s and keeps the best weights; off: --val_while_train False"
        _logger.info(how, every, config.evaluated)
        evaluate = build_evaluation(
            config, runtime, mixed_network, train_set, num_classes=num_classes, stop=stop
        )

    for line in (*lines, *engine.describe_schedule(rates, updates)):
        _logger.info(line)

    watch = engine.FiniteWatch(
        [rate for rate in rates for _ in range(config.gradient_accumulation_steps)],
        batches.steps,
        accumulation=config.gradient_accumulation_steps,
        max_skipped=config.max_skipped_steps if step.skips else None,
        images=batches.image_names,
    )
    bar = runtime.is_main and not config.dry_run
    images_of_step = config.batch_size * runtime.world_size
    progress = engine.Progress(watch, images_of_step, config.log_interval, bar=bar, clock=clock)
    sample_log = checkpoints = profile = None
    if config.log_samples and not config.dry_run:
        samples = train_set.samples
        sample_log = engine.SampleLog(config.log_samples, batches, samples, runtime.rank)
    metadata = describe_weights(config, train_set, num_classes)
    task = dataset_task(config.dataset)
    if folder:
        policy, keep = config.ckpt_save_policy, config.keep_checkpoint_max
        about = dict(record={**(record or {}), "update": vars(division)}, measure=task.score_title)
        checkpoints = CheckpointWriter(folder, metadata.model, policy, keep, **about)
        if config.profile:
            profile = engine.Profile(folder / "profile", config.profile, runtime.device_target)
    return engine.Run(
        runtime=runtime,
        network=network,
        step=step,
        batches=batches,
        progress=progress,
        table=engine.MetricsTable(folder and folder / "metrics.csv", config.ema, task),
        division=division,
        epochs=config.epoch_size,
        evaluate=evaluate,
        val_interval=config.val_interval,
        val_weights=config.val_weights or "averaged",
        early_stop=engine.EarlyStop(
            config.early_stop_patience, config.early_stop_min_delta, after=config.unfreeze_epoch
        ),
        unfreeze_epoch=config.unfreeze_epoch if frozen is not None else 0,
        unfreeze=unfreeze,
        precise_batch_norm=precise_batch_norm,
        checkpoints=checkpoints,
        metadata=metadata,
        save_points=engine.SavePoints(
            config.ckpt_save_interval, config.ckpt_save_steps, config.ckpt_save_minutes
        ),
        stop=stop,
        sample_log=sample_log,
        profile=profile,
        figures=engine.Figures(trackers, progress) if trackers else None,
        drive=engine.drive_by_sink if engine.uses_sink(config.dataset_sink_mode, runtime) else None,
    )


def check_model(config: Config) -> None:
    """Check that the model and its published weights exist, before the dataset is listed."""
    models.canonical_name(config.model)
    if config.pretrained:
        models.find_published(config.model, config.pretrained)


def open_train_set(config: Config, runtime, bad_images_file: Path | None = None):
    return data.create_dataset(
        config.dataset,
        config.data_dir,
        config.train_split,
        config.shuffle,
        num_shards=runtime.world_size if runtime.world_size > 1 else None,
        shard_id=runtime.rank if runtime.world_size > 1 else None,
        num_parallel_workers=runtime.workers(config.num_parallel_workers),
        num_aug_repeats=config.aug_repeats,
        even_shards=True,  # a process with fewer steps would leave the others waiting
        batch_size=config.batch_size,
        bad_images_file=bad_images_file,
        download=config.dataset_download,
        **options(config, "num_samples max_bad_fraction val_fraction sampler"),
    )


def open_val_samples(config: Config, numbers: dict[str, int] | None):
    """Return the images to evaluate on: `val_split`, or those that `val_fraction` holds out."""
    return data.open_samples(
        config.dataset,
        config.data_dir,
        config.train_split if config.val_fraction else config.val_split,
        numbers,
        download=config.dataset_download,
        val_fraction=config.val_fraction,
        held_out=True,
    )


def count_updates(config: Config, runtime, train_set) -> int:
    """Return the updates per epoch: batches, or groups of `gradient_accumulation_steps` batches."""
    if updates := updates_of_epoch(config, len(train_set.samples), runtime.world_size):
        return updates
    together = config.gradient_accumulation_steps
    images = train_set.get_dataset_size()
    several = "one batch" if together == 1 else f"{together} batches"
    remedy = "lower batch_size" + (" or gradient_accumulation_steps" if together > 1 else "")
    if config.drop_remainder and -(-images // config.batch_size) >= together:
        remedy += ", or set drop_remainder False"
    raise DataError(
        f"{images} training images of a process do not fill {several} of {config.batch_size}; "
        f"{remedy}"
    )


def build_train_batches(config: Config, runtime, train_set, num_classes: int):
    mixing = "drop_remainder mixup cutmix cutmix_prob switch_prob mixup_off_epoch aug_splits"

    def loader_of_epoch(rows):
        return data.create_loader(
            rows,
            config.batch_size,
            is_training=True,
            num_classes=num_classes,
            transform=build_transforms(config),
            num_parallel_workers=runtime.workers(config.num_parallel_workers),
            separate=config.aug_splits > 1,
            num_shards=runtime.world_size,
            shard_id=runtime.rank,
            **options(config, mixing),
        )

    return data.EpochBatches(train_set, loader_of_epoch, config.batch_size, runtime.rank)


def check_sink(config: Config, runtime) -> None:
    """Raise a ConfigError if the device pulls the batches and an option contradicts that."""
    if engine.uses_sink(config.dataset_sink_mode, runtime):
        for key, message in sink_contradictions(config):
            raise ConfigError(f"{key}: {message}")


def check_batch_statistics(config: Config, runtime, network, batches, *, last: int) -> None:
    """Run `engine.check_batch_statistics` on batch number `last`, the smallest one used."""
    images = batches.images_of(last) * max(1, config.aug_splits)
    if config.sync_bn:
        images *= runtime.world_size
    shape = (config.in_channels, *Preprocessing.from_options(config).sides)
    engine.check_batch_statistics(network, shape, images, config.batch_size)


def build_precise_batch_norm(config: Config, runtime, network, batches, *, normalize=None):
    """Build the measurement of running statistics over `precise_bn_samples` images, if any.

    They are those of the training. `network` has mixed precision applied; `normalize` is the
    training step's (None: like it).
    """
    if not config.precise_bn_samples:
        return None
    if not batches.steps:
        raise DataError(
            f"the training images in {config.data_dir} do not fill one batch of {config.batch_size}"
            " to measure batch normalisation on; lower batch_size or set drop_remainder False"
        )
    needed = -(-config.precise_bn_samples // (config.batch_size * runtime.world_size))
    last = min(needed, batches.steps) - 1
    check_batch_statistics(config, runtime, network, batches, last=last)
    if normalize is None:
        normalize = build_normalize(config, build_transforms(config))
    return engine.PreciseBatchNorm(network, normalize, lambda: batches.epoch(0), needed)


def build_statistics(config: Config, runtime, network, num_classes: int):
    """Build the measurement of running statistics for a network that is not trained here.

    The images are read as in a training with the same options; nothing is dropped.
    """
    train_set = open_train_set(config, runtime)
    num_classes = max(num_classes, train_set.num_classes())  # labels matter only to mixing
    batches = build_train_batches(config, runtime, train_set, num_classes)
    return build_precise_batch_norm(config, runtime, network, batches)


def build_evaluation(
    config: Config, runtime, network, train_set, *, num_classes: int, stop: StopSignal | None = None
) -> Callable[[], engine.evaluation.Measured]:
    """Return a function that evaluates the network in its state at the time of the call.

    Raises:
        DataError: `val_split` cannot be used, or has more classes than the network.
    """
    numbers = train_set.get_class_indexing() or None
    # Augmentation at test time is of validate.py. Held out is what is not trained on, even if a
    # dataset draws its images at random.
    samples = train_set.samples.others() if config.val_fraction else None
    own = replace(config, tta=None)
    loader, found = build_evaluation_batches(own, runtime, numbers, samples)
    if found > num_classes:
        raise DataError(
            f"the split {config.evaluated!r} of {config.dataset or config.data_dir} has labels of "
            f"{found} classes, the training has {num_classes}: take the images of other classes "
            f"out of it, or train with num_classes {found}"
        )
    step = engine.EvaluationStep(network, num_classes, build_normalize(config))
    evaluate = engine.evaluator_of(config.dataset).evaluate
    return lambda: evaluate(step, loader, config.batch_size, runtime, stop=stop)


def build_evaluation_batches(
    config: Config, runtime, numbers: dict[str, int] | None, samples: Samples | None = None
):
    """Return this process's batches of `val_split`, and the number of classes.

    `samples` are those of `open_val_samples`, if the caller has opened them.
    """
    if samples is None:
        samples = open_val_samples(config, numbers)
    images = plural(len(samples), "image")
    _logger.info("evaluating on %s, %s in %s", images, config.evaluated, config.data_dir)
    loader = data.create_evaluation_loader(
        samples,
        Preprocessing.from_options(config),
        config.batch_size,
        num_parallel_workers=runtime.workers(config.num_parallel_workers),
        num_shards=runtime.world_size,
        shard_id=runtime.rank,
        allow_bad_images=config.allow_bad_images,
        five_crops=config.tta in ("5crop", "10crop"),
    )
    return loader, max(len(numbers or ()), samples.num_classes)


def build_evaluation_step(config: Config, network, num_classes: int):
    """Build the step of validate.py, with its test-time augmentation."""
    step = engine.EvaluationStep(network, num_classes, build_normalize(config))
    if not config.tta:
        return step
    task = dataset_task(config.dataset)
    return engine.AugmentedStep(step, flip=config.tta != "5crop", task=task)


def describe_weights(config: Config, train_set, num_classes: int) -> Metadata:
    """Return the metadata in checkpoints, so that validate.py and predict need nothing else."""
    return Metadata(
        models.canonical_name(config.model),
        num_classes,
        config.in_channels,
        class_names=name_all(train_set.class_names(), num_classes),
        preprocessing=Preprocessing.from_options(config),
        options=shaping(settings_of(config)),
        task=dataset_task(config.dataset).name,
    )

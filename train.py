"""Train an image classifier: config -> data -> network -> optimisation -> fit."""

import contextlib
import logging
import os
from pathlib import Path

import mindcv
from mindcv.command import run
from mindcv.config import (
    Config,
    build_schedule,
    check_unchanged,
    describe_config,
    dump_config,
    is_launched,
)
from mindcv.errors import DataError
from mindcv.process.entry_point import import_user_module

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
    folder, event_writer = None, None
    with mindcv.ranks.failing_together(runtime):
        if runtime.is_main and not config.dry_run:
            summary_dir = config.summary_dir
            event_writer = summary_dir and mindcv.engine.open_event_writer(summary_dir)
            folder = mindcv.checkpoint.open_run_folder(config.ckpt_save_dir)
        mindcv.engine.start_logging(runtime.is_main, folder and folder / "train.log")
    mindcv.ranks.watch_ranks(None if config.dry_run else config.ckpt_save_dir, runtime)
    logger.info(runtime.describe())

    sinks = mindcv.engine.build.uses_sink(config, runtime)

    # Resuming, in this order: the newest checkpoint that verifies is chosen; options, classes and
    # images are compared with those it was made with; all is built as for a new run, then its
    # tensors, counters and rows are put in place; the batches go on behind the last step it holds.
    checkpoint = None if config.dry_run else find_checkpoint(config, runtime)
    if folder:
        mindcv.engine.write_text(folder / "config.yaml", dump_config(config))
    if config.import_module:
        import_user_module(config.import_module)
    mindcv.engine.build.check_model(config)

    bad_images_file = None if config.dry_run else Path(config.ckpt_save_dir, "bad_images.csv")
    train_set = mindcv.engine.build.open_train_set(config, runtime, bad_images_file)
    described = mindcv.engine.describe_run(runtime, train_set, config.num_parallel_workers)
    options = describe_config(config)
    mindcv.engine.check_equal_ranks(runtime, options, described, config.import_module)
    if checkpoint:
        mindcv.engine.check_same_run(checkpoint, described)
    num_classes = mindcv.engine.build.count_classes(config, train_set)
    if folder:
        with mindcv.engine.writing(folder / "classes.json"):
            mindcv.data.write_class_map(folder / "classes.json", train_set.samples)
    batches = mindcv.engine.build.build_train_batches(config, runtime, train_set, num_classes)
    updates_per_epoch = count_updates(config, train_set, batches.steps)
    batches.limit(updates_per_epoch * config.gradient_accumulation_steps)
    if not config.dry_run:
        batches.trace_decoding(Path(config.ckpt_save_dir, f".decoding-{runtime.rank}"))
    if config.show_batch and runtime.is_main:
        show_batch(config, train_set, batches)

    network = mindcv.engine.build.build_network(
        config, runtime, num_classes, not checkpoint, train_set.class_names()
    )
    mindcv.engine.build.check_batch_statistics(config, runtime, network, batches, batches.steps - 1)
    dropout_count = mindcv.engine.count_dropout(network, config.seed, runtime.rank)
    mixed_network = mindcv.engine.mixed_precision(
        network, config.amp_level, config.amp_cast_list or (), config.keep_bn_fp32
    )

    rates = build_schedule(config, updates_per_epoch, runtime.world_size)
    average = mindcv.engine.WeightAverage(network, config.ema_decay) if config.ema else None
    step = mindcv.engine.build.build_step(
        config, runtime, network, mixed_network, rates, average, dropout_count
    )
    stop = mindcv.engine.StopSignal()
    evaluate = precise_batch_norm = None
    if config.val_while_train:
        evaluate = mindcv.engine.build.build_evaluation(
            config, runtime, mixed_network, train_set, num_classes, stop
        )
    if config.precise_bn_samples:
        precise_batch_norm = mindcv.engine.build.build_precise_batch_norm(
            config, runtime, mixed_network, step.normalize, batches
        )

    for line in mindcv.engine.describe_model(config.model, network, config.image_resize):
        logger.info(line)
    for line in mindcv.engine.describe_schedule(rates, updates_per_epoch):
        logger.info(line)
    if config.dry_run:
        logger.info("resolved config:\n%s", dump_config(config))
        logger.info("dry run: everything is built, no step was taken")
        return

    rates = [rate for rate in rates for _ in range(config.gradient_accumulation_steps)]
    progress = mindcv.engine.Progress(
        rates,
        config.batch_size * runtime.world_size,
        config.log_interval,
        runtime.is_main,
        config.gradient_accumulation_steps,
        config.max_skipped_steps if step.skips else None,
        batches.image_names,
    )
    table = mindcv.engine.MetricsTable(
        folder and folder / "metrics.csv",
        mindcv.engine.columns_of(has_average=config.ema),
        checkpoint and checkpoint.record["rows"],
    )
    state = mindcv.engine.RunState(network, step, progress, table, runtime)
    keeper = folder and mindcv.engine.CheckpointKeeper(
        folder,
        mindcv.engine.build.describe_weights(config, train_set, num_classes),
        config.ckpt_save_policy,
        config.keep_checkpoint_max,
        {"config": options, **described},
    )
    epochs_done, steps_done = resume(checkpoint, state, keeper, batches) if checkpoint else (0, 0)
    saves = mindcv.engine.SavePoints(
        state,
        keeper,
        runtime,
        config.ckpt_save_interval,
        config.ckpt_save_steps,
        config.ckpt_save_minutes,
        stop,
    )
    epoch_end = mindcv.engine.EpochEnd(
        network,
        progress,
        rates,
        evaluate,
        config.val_interval,
        saves,
        table,
        runtime,
        average,
        precise_batch_norm,
        config.val_weights or "averaged",
    )
    callbacks = [progress, saves, epoch_end]
    if config.log_samples:
        # First: a checkpoint holds no step that the table lacks.
        samples = train_set.samples
        log = mindcv.engine.SampleLog(config.log_samples, batches, samples, runtime.rank)
        callbacks.insert(0, log)
    if event_writer:
        callbacks.append(mindcv.engine.EventFiles(event_writer, progress, epoch_end))
    if sinks:
        hand_out = mindcv.engine.HandOut(config.epoch_size, batches.steps, config.log_interval)
        batches.listeners.append(hand_out)
    with contextlib.closing(batches), stop.listening():
        mindcv.engine.fit(
            step,
            batches.as_dataset(),
            config.epoch_size,
            callbacks,
            sinks,
            epochs_done,
            steps_done,
            batches.rest(epochs_done, steps_done) if 0 < steps_done < batches.steps else None,
        )
    if folder:
        logger.info(mindcv.engine.describe_end(table, progress, folder))


def find_checkpoint(config: Config, runtime):
    """Return the checkpoint to go on from, of a run with the same options; None: a new run."""
    asked = config.ckpt_path if config.resume_opt else config.resume
    checkpoint = mindcv.engine.find_checkpoint(Path(config.ckpt_save_dir), asked, runtime)
    if checkpoint:
        check_unchanged(checkpoint.record["config"], config, checkpoint.record["epoch"])
    return checkpoint


def resume(checkpoint, state, keeper, batches) -> tuple[int, int]:
    """Put a checkpoint in place; return the whole epochs done and the steps done of the next."""
    state.restore(checkpoint)
    if keeper:
        keeper.resume(checkpoint)
    epoch, steps = checkpoint.record["epoch"], checkpoint.record["steps"]
    logger.info("resumed from %s: epoch %d, step %d", checkpoint.path, epoch, steps)
    batches.start(epoch)  # an epoch that was begun is not the loader's, see `fit`
    is_done = steps == batches.steps and checkpoint.record["is_evaluated"]
    return (epoch, 0) if is_done else (epoch - 1, steps)


def show_batch(config: Config, train_set, batches) -> None:
    """Write a contact sheet of the first training batch."""
    images, labels = mindcv.data.first_batch(
        batches.epoch(0), mindcv.engine.build.build_transforms(config)
    )
    names = train_set.class_names()
    count = mindcv.data.write_contact_sheet(
        config.show_batch, images, labels, names, config.aug_splits
    )
    logger.info("the first %d training images are in %s", count, config.show_batch)


def count_updates(config: Config, train_set, batches: int) -> int:
    """Return the updates of an epoch: its batches, or groups of batches that add up."""
    together = config.gradient_accumulation_steps
    updates = batches // together
    if updates:
        return updates
    images = train_set.get_dataset_size()
    several = "one batch" if together == 1 else f"{together} batches"
    remedy = (
        "lower batch_size" if together == 1 else "lower batch_size or gradient_accumulation_steps"
    )
    if config.drop_remainder and -(-images // config.batch_size) >= together:
        remedy += ", or set drop_remainder False"
    raise DataError(
        f"{images} training images of a process do not fill {several} of {config.batch_size}; "
        f"{remedy}"
    )


if __name__ == "__main__":
    run(main, "train.py", __doc__)

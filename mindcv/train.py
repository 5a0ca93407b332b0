"""Train an image classifier: config -> data -> network -> optimisation -> loop."""

import logging
from collections.abc import Sequence
from pathlib import Path

import mindcv

from . import command
from .checkpoint import Position
from .config import Config, continue_config, describe_config, dump_config, training_remarks
from .process.clock import RESTORE, Clock
from .process.entry_point import import_user_module

logger = logging.getLogger("mindcv.train")


def start(program: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command, named `program` in its help, and end the process as `command.run` says."""
    command.run(main, program, __doc__, arguments=arguments)


def main(config: Config) -> None:
    clock = Clock()
    # The first use of a part of mindcv imports mindspore, which takes seconds; a wrong config has
    # been reported by now.
    engine, build = mindcv.engine, mindcv.engine.build
    runtime = build.start_runtime(config)
    folder, trackers = open_files(config, runtime)
    mindcv.ranks.watch_ranks(None if config.dry_run else config.ckpt_save_dir, runtime)
    logger.info(runtime.describe())
    for key, remark in training_remarks(config):
        logger.warning("%s: %s", key, remark)
    build.check_sink(config, runtime)  # before the data are listed

    # The order of resuming: choose the newest checkpoint that verifies; compare options, classes
    # and images with those of its run; build everything as for a new run; restore tensors,
    # counters and rows; continue with the batch after its last step.
    checkpoint = None if config.dry_run else find_checkpoint(config, runtime)
    options, text = describe_config(config), dump_config(config)
    if checkpoint:  # an update keeps its images, on any number of ranks
        config = continue_config(checkpoint.path, checkpoint.record, config, runtime.world_size)
    if folder:
        engine.write_text(folder / "config.yaml", text)
    import_user_module(config.import_module)
    build.check_model(config)
    bad_images_file = None if config.dry_run else Path(config.ckpt_save_dir, "bad_images.csv")
    train_set = build.open_train_set(config, runtime, bad_images_file)
    described = engine.describe_run(runtime, train_set, config.num_parallel_workers)
    described["data"]["class_weights"] = engine.classes.weigh_classes(config, train_set)
    engine.check_equal_ranks(runtime, options, described, config.import_module)
    if checkpoint:
        engine.check_same_run(checkpoint, described)
    if folder:
        trackers += engine.begin_trackers(options)
    run = build.build_run(
        config,
        runtime,
        train_set,
        checkpoint=checkpoint,
        folder=folder,
        record={"config": options, **described},
        trackers=trackers,
        clock=clock,
    )
    if not config.dry_run:
        run.batches.trace_decoding(Path(config.ckpt_save_dir, f".decoding-{runtime.rank}"))
    if config.show_batch and runtime.is_main:
        show_batch(config, train_set, run.batches)
    if config.dry_run:
        logger.info("resolved config:\n%s", dump_config(config))
        logger.info("dry run: everything is built, no step was taken")
        return

    if folder:
        with engine.writing(folder / "classes.json"):
            mindcv.data.write_class_map(folder / "classes.json", train_set.samples)
        if config.val_fraction:
            with engine.writing(folder / "split.csv"):
                mindcv.data.write_split(folder / "split.csv", train_set.samples)
    mindcv.ranks.is_over("start")
    at = Position()
    if checkpoint:
        with clock.during(RESTORE):
            at = engine.resume_run(run, checkpoint)
    engine.train(run, at)
    if folder:
        for line in engine.describe_end(run.table, run.progress, folder, run.ending):
            logger.info(line)


def open_files(config: Config, runtime):
    """Return the run folder, None if this process writes none, and the trackers of an option."""
    folder, trackers = None, []
    with mindcv.ranks.failing_together(runtime):
        if runtime.is_main and not config.dry_run:
            if config.summary_dir:
                trackers.append(mindcv.engine.event_files(config.summary_dir))
            folder = mindcv.checkpoint.open_run_folder(config.ckpt_save_dir)
        mindcv.engine.start_logging(runtime.is_main, folder and folder / "train.log")
    return folder, trackers


def find_checkpoint(config: Config, runtime):
    """Return the checkpoint to resume from; None for a new run."""
    source = config.ckpt_path if config.resume_opt else config.resume
    return mindcv.engine.find_checkpoint(Path(config.ckpt_save_dir), source, runtime)


def show_batch(config: Config, train_set, batches) -> None:
    """Write a contact sheet of the first training batch."""
    images, labels = mindcv.data.first_batch(
        batches.epoch(0), mindcv.engine.build.build_transforms(config)
    )
    names = train_set.class_names()
    count = mindcv.data.write_contact_sheet(
        config.show_batch, images, labels, class_names=names, splits=config.aug_splits
    )
    logger.info("the first %d training images are in %s", count, config.show_batch)

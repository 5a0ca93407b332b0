"""Measure the accuracy of a checkpoint: every image of the split counts exactly once."""

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import mindcv

from . import command
from .config import Config, evaluation_contradictions, settings_of, shaping
from .errors import ConfigError
from .process.entry_point import import_user_module

logger = logging.getLogger("mindcv.validate")

# Weight files by path, read for their options; so each is read and verified only once.
files_read = {}


def start(program: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command, named `program` in its help, and end the process as `command.run` says."""
    asked = []

    def ask_the_weights(config: Config, given: Collection[str]) -> tuple[dict, str]:
        asked[:] = config, given
        return told_by_the_weights(config)

    command.run(
        lambda config: main(config, *asked),
        program,
        __doc__,
        arguments=arguments,
        rules=evaluation_contradictions,
        defaults=ask_the_weights,
        has_run_folder=False,
    )


def main(config: Config, asked: Config | None = None, given: Collection[str] = ()) -> None:
    """Evaluate the weights of the config and those of its option `compare`.

    Args:
        asked: the config before the weights told theirs; None: the same.
        given: names of the options that the user gave.
    """
    runtime = mindcv.engine.build.start_runtime(config)
    mindcv.engine.start_logging(runtime.is_main)
    import_user_module(config.import_module)
    others = (of_other_weights(asked or config, given, entry) for entry in config.compare or ())
    configs = [config, *others]
    found = [evaluate(one, runtime, is_first=one is config) for one in configs]
    if config.dry_run:
        logger.info("dry run: everything is built, no image was evaluated")
    if config.dry_run or not runtime.is_main:
        return
    if config.results_dir:
        about = {"data_dir": config.data_dir, "split": config.evaluated, "tta": config.tta}
        mindcv.engine.write_evaluations(Path(config.results_dir), found, **about)
        logger.info("wrote the figures of each class into %s", config.results_dir)
    if len(found) > 1:
        print(*mindcv.engine.compare(found), sep="\n")
    print(found[0].accuracy.as_dict(), flush=True)


def evaluate(config: Config, runtime, *, is_first: bool):
    """Return the `Evaluation` of the weights that the config names; None for a dry run."""
    build, classes, path = mindcv.engine.build, mindcv.engine.classes, config.ckpt_path
    file = files_read.pop(path, None) or mindcv.weights.read_weights(path)
    kind, line = mindcv.weights.describe_choice(file, config.ema)
    logger.info(line)
    if is_first:
        logger.info(runtime.describe())
    classes.check_task(config, file.metadata, path)
    numbers = classes.number_classes(config, file.metadata)
    loader, found_classes = build.build_evaluation_batches(config, runtime, numbers)
    told = mindcv.weights.count_classes(file)
    network, metadata = mindcv.models.create_model_from_file(
        file,
        config.model,
        config.num_classes or told or found_classes,
        config.ema,
        in_channels=config.in_channels,
        options=shaping(settings_of(config)),
    )
    for line in mindcv.engine.describe_model(metadata.model, network, config.image_resize):
        logger.info(line)
    known = metadata.num_classes
    remedy = f"; if the folders are the first classes in order, set num_classes {known}"
    classes.check_classes(config, found_classes, known, config.ckpt_path, remedy=remedy)
    params = sum(parameter.size for parameter in network.trainable_params())
    if not config.precise_bn_samples:
        network = mindcv.models.fold_on_cpu(network, runtime.device_target)
    elif config.freeze_stages is not None and not config.unfreeze_epoch:
        mindcv.models.freeze(network, config.freeze_stages)  # frozen layers keep their statistics
    network = mindcv.engine.mixed_precision(network, config.val_amp_level)
    precise_batch_norm = None
    if config.precise_bn_samples:
        precise_batch_norm = build.build_statistics(config, runtime, network, known)
    if config.dry_run:
        return None
    if precise_batch_norm:
        images = precise_batch_norm() * runtime.world_size
        mindcv.engine.average_batch_statistics(network, runtime)
        logger.info("batch normalisation measured anew over %d training images", images)
    evaluator = mindcv.engine.evaluator_of(config.dataset)
    step, outcomes = build.build_evaluation_step(config, network, known), evaluator.outcomes(known)
    accuracy = evaluator.evaluate(step, loader, config.batch_size, runtime, watch=outcomes)
    logger.info(accuracy)
    names = classes.name_classes(numbers, metadata)
    figures = evaluator.figures(names, *outcomes.of_all_ranks(runtime))
    for line in figures.describe():
        logger.info(line)
    return mindcv.engine.Evaluation(
        path, metadata.model, kind, params=params, accuracy=accuracy, figures=figures
    )


def of_other_weights(asked: Config, given: Collection[str], entry: str) -> Config:
    """Return the config of an entry of `compare`: a weight file, or published weights.

    The latter are named by a model, or by the address of a repository. As for the first weights,
    options that the user gave hold, and the weights tell the others.

    Args:
        asked, given: see `main`.
    """
    entry = os.path.expanduser(entry)
    named = {"model": entry, "pretrained": True, "ckpt_path": ""}
    if mindcv.hub.is_repository(entry):
        named |= {"model": mindcv.models.find_published(entry).model, "pretrained": entry}
    elif os.path.exists(entry) or not mindcv.models.is_model(entry):
        named = {"model": "", "pretrained": False, "ckpt_path": entry}
    own = replace(asked, **named)
    theirs, _ = told_by_the_weights(own)
    if not own.model and "model" not in theirs:
        own = replace(own, model=asked.model)
    return replace(own, **{k: v for k, v in theirs.items() if k not in given or k in named})


def told_by_the_weights(config: Config) -> tuple[dict, str]:
    """Return options that the weights imply, as defaults, and the name of the weights."""
    if config.pretrained and config.ckpt_path:
        raise ConfigError("pretrained and ckpt_path name two sets of weights; give one of them")
    path, place = config.ckpt_path, f"weight file {config.ckpt_path}"
    if config.pretrained:
        import_user_module(config.import_module)  # it may register and describe the model
        weights = mindcv.models.find_published(config.model, config.pretrained)
        mindcv.hub.require_classifier(weights)
        path, place = str(mindcv.hub.fetch(weights)), f"published weights {weights.source}"
        if weights.num_classes is not None:
            known = {"ckpt_path": path, "num_classes": weights.num_classes}
            return known | weights.preprocessing.to_options(), place
    file = files_read[path] = mindcv.weights.read_weights(path)
    known = {"ckpt_path": path, "ema": mindcv.weights.has_averages(file)}
    if file.metadata:
        known |= {"model": file.metadata.model, "in_channels": file.metadata.in_channels}
        known |= file.metadata.preprocessing.to_options()
    else:
        known["antialias"] = mindcv.weights.preprocessing_of(file).antialias
        if channels := mindcv.weights.count_channels(file):
            known["in_channels"] = channels
    return known, place

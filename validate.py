"""Measure the accuracy of a checkpoint: every image of the split counts exactly once."""

import logging
import os

import mindcv
from mindcv.config import Config, evaluation_contradictions, is_launched
from mindcv.errors import ConfigError, DataError
from mindcv.program import import_user_module, run
from mindcv.ranks import telling_the_others

logger = logging.getLogger("mindcv.validate")


def main(config: Config) -> None:
    runtime = mindcv.engine.start_runtime(
        config.mode,
        config.device_target,
        config.jit_level,
        config.distribute and is_launched(os.environ),
        config.seed,
    )
    mindcv.engine.start_logging(runtime.is_main)
    logger.info(runtime.describe())
    if config.import_module:
        import_user_module(config.import_module)

    file = mindcv.weights.read_weights(config.ckpt_path)
    loader, found_classes = mindcv.recipe.build_evaluation_batches(
        config, runtime, mindcv.recipe.number_classes(config, file.metadata)
    )
    told = mindcv.weights.told_classes(file)
    network, metadata = mindcv.models.create_model_from_file(
        file, config.model, config.num_classes or told or found_classes, config.ema
    )
    for line in mindcv.engine.describe_model(metadata.model, network, config.image_resize):
        logger.info(line)
    others = found_classes != metadata.num_classes and config.num_classes is None
    if others or found_classes > metadata.num_classes:
        raise DataError(
            f"{config.data_dir} holds {found_classes} classes and {config.ckpt_path} knows "
            f"{metadata.num_classes}, without their names: which is which cannot be told; if the "
            f"folders are the first classes in order, add --num_classes {metadata.num_classes}"
        )
    network = mindcv.models.fold_on_cpu(network, runtime.device_target)
    network = mindcv.engine.mixed_precision(network, config.val_amp_level)
    if config.dry_run:
        logger.info("dry run: everything is built, no image was evaluated")
        return
    step = mindcv.engine.EvaluationStep(
        network, metadata.num_classes, mindcv.recipe.build_normalize(config)
    )
    accuracy = mindcv.engine.evaluate(step, loader, config.batch_size, runtime)
    logger.info("%d images", accuracy.images)
    if runtime.is_main:
        print(accuracy.as_dict(), flush=True)


def told_by_the_weights(config: Config) -> tuple[dict, str]:
    """Return the options that the weights know; they hold where the user leaves them out."""
    if config.pretrained and config.ckpt_path:
        raise ConfigError("pretrained and ckpt_path name two sets of weights; give one of them")
    if config.pretrained:
        weights = mindcv.models.find_published(config.model, config.pretrained)
        path = str(mindcv.hub.fetch(weights))
        known = {"ckpt_path": path, "num_classes": weights.num_classes}
        return known | options_of(weights.preprocessing), f"published weights {weights.source}"
    file = mindcv.weights.read_weights(config.ckpt_path)
    metadata = file.metadata
    if metadata is None:
        antialias = mindcv.weights.told_preprocessing(file).antialias
        return {"antialias": antialias}, f"the library whose names {config.ckpt_path} has"
    known = {"model": metadata.model} | options_of(metadata.preprocessing)
    return known, f"weight file {config.ckpt_path}"


def options_of(preprocessing) -> dict:
    return {
        "image_resize": preprocessing.image_size,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": preprocessing.crop_mode,
        "antialias": preprocessing.antialias,
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
    }


if __name__ == "__main__":
    command = telling_the_others(main, has_run_folder=False)
    run(command, "validate.py", __doc__, evaluation_contradictions, told_by_the_weights)

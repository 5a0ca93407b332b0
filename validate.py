"""Measure the accuracy of a checkpoint: every image of the split counts exactly once."""

import logging
import os

import mindcv
from mindcv.config import Config, evaluation_contradictions, is_launched
from mindcv.program import import_user_module, run

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

    loader, found_classes = mindcv.data.create_evaluation_loader(
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
    num_classes = config.num_classes or found_classes
    network = mindcv.create_model(
        config.model, num_classes=num_classes, in_channels=config.in_channels
    )
    mindcv.models.load_weights(network, config.ckpt_path, new_head=False)
    for line in mindcv.engine.describe_model(config.model, network, config.image_resize):
        logger.info(line)
    network = mindcv.engine.auto_mixed_precision(network, config.val_amp_level)
    normalize = mindcv.data.create_normalize(config.dataset, config.mean, config.std)
    if config.dry_run:
        logger.info("dry run: everything is built, no image was evaluated")
        return
    step = mindcv.engine.EvaluationStep(network, num_classes, normalize)
    accuracy = mindcv.engine.evaluate(step, loader, config.batch_size, runtime)
    logger.info("%d images", accuracy.images)
    if runtime.is_main:
        print(accuracy.as_dict(), flush=True)


if __name__ == "__main__":
    run(main, "validate.py", __doc__, evaluation_contradictions)

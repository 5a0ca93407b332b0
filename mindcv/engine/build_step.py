"""Translate the options of network, loss, optimizer and step for their factories."""

import logging
from collections.abc import Sequence
from typing import Any

from .. import engine, models
from ..config import Config, settings_of
from ..loss import create_loss
from ..optim import create_optimizer
from .classes import name_all

_logger = logging.getLogger("mindcv.train")


def build_network(
    config: Config, runtime, num_classes: int, *, is_fresh: bool = True, class_names=None
):
    """Build the network of a run.

    Args:
        is_fresh: load the weights that the config names; False if a checkpoint will be restored.
        class_names: of the training images; None if unknown.
    """
    if config.pretrained and is_fresh:
        weights = models.find_published(config.model, config.pretrained)
        _logger.info("starting from %s", weights.describe())
    network = models.create_model(
        config.model,
        num_classes=num_classes,
        pretrained=config.pretrained if is_fresh else False,
        **options(config, "in_channels drop_rate drop_path_rate"),
        **settings_of(config),
    )
    if config.ckpt_path and is_fresh:
        names = name_all(class_names, num_classes)
        models.load_weights(network, config.ckpt_path, class_names=names)
    if config.sync_bn and runtime.world_size > 1:
        engine.synchronize_batch_norm(network, runtime.world_size)
    if config.freeze_stages is not None:
        frozen = models.freeze(network, config.freeze_stages)
        _logger.info(
            "%d parameters are frozen: stem and %d stages", len(frozen), config.freeze_stages
        )
    return network


def build_loss(config: Config, class_weights: Sequence[float] | None = None):
    names = "reduction label_smoothing aux_factor bce_target_thresh"
    others = options(config, names)
    return create_loss(config.loss, class_weights, num_splits=config.aug_splits, **others)


def build_optimizer(config: Config, network, rates: list[float]):
    names = "weight_decay momentum weight_decay_filter layer_decay eps"
    others = options(config, names)
    return create_optimizer(network, config.opt, lr=rates, nesterov=config.use_nesterov, **others)


def build_step(
    config: Config,
    runtime,
    mixed_network,
    optimizer,
    *,
    normalize=None,
    class_weights=None,
    average=None,
    dropout_count=None,
) -> engine.TrainStep:
    """Build the training step of a network that has mixed precision applied."""
    return engine.TrainStep(
        mixed_network,
        build_loss(config, class_weights),
        optimizer,
        normalize,
        loss_scale=config.loss_scale,
        dynamic=config.has_dynamic_scale,
        skip_overflow=config.drop_overflow_update,
        world_size=runtime.world_size,
        accumulation=config.gradient_accumulation_steps,
        clip_mode=config.clip_mode if config.clip_grad else None,
        clip_value=config.clip_value,
        average=average,
        dropout_count=dropout_count,
    )


def options(config: Config, names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names.split()}

"""Translate the options of a training step for its factories: network, images, loss, optimizer."""

import logging
from collections.abc import Sequence
from typing import Any

from .. import data, engine, models
from ..config import Config, read_factors, settings_of
from ..data.datasets import IMAGENET_MEAN, dataset_row
from ..data.preprocessing import warn_of_imagenets
from ..loss import create_loss
from ..names import plural
from ..optim import create_optimizer
from .classes import name_all

_FEW_IMAGES = 100_000

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
    return network


def build_transforms(config: Config):
    return data.create_transforms(
        config.dataset,
        config.image_resize,
        is_training=True,
        separate=config.aug_splits > 1,
        normalize_on_device=True,
        **options(config, "scale ratio interpolation hflip vflip color_jitter lighting"),
        **options(config, "auto_augment augment_on_device mean std decoder"),
        **options(config, "re_prob re_scale re_ratio re_value re_max_attempts"),
    )


def build_normalize(config: Config, transform: Sequence | None = None):
    """Build the cell in front of the network, with all that `transform` leaves to the device."""
    if transform is None:  # for evaluation
        warn_of_imagenets(config.dataset, config.mean, config.std)
    return data.create_normalize(
        config.dataset, config.mean, config.std, transform, channels=config.in_channels
    )


def warn_of_random_weights(config: Config, images: int) -> None:
    """Warn of training from scratch on few images of one's own, if weights are published."""
    row = dataset_row(config.dataset)
    is_benchmark = row is not None and row.mean != IMAGENET_MEAN  # digits, CIFAR
    if config.pretrained or config.ckpt_path or is_benchmark or images >= _FEW_IMAGES:
        return
    if models.is_model_pretrained(config.model):
        _logger.warning(
            "TRAINING STARTS FROM RANDOM WEIGHTS, and %s images are few for that: published "
            "weights usually give a better classifier in fewer epochs; add --pretrained, or "
            "--ckpt_path FILE",
            f"{images:,}",
        )


def freeze(config: Config, network, epoch: int) -> models.Frozen | None:
    """Freeze what the config names, if it is frozen in this epoch."""
    until = config.unfreeze_epoch
    if config.freeze_stages is None or 0 < until < epoch:
        return None
    frozen, end = models.freeze(network, config.freeze_stages), until and f" until epoch {until}"
    stages = plural(config.freeze_stages, "stage")
    _logger.info("%d parameters are frozen%s: stem and %s", len(frozen), end or "", stages)
    for part in [] if until else read_factors(config.layer_lr):
        own = [p for p in network.get_parameters() if f"{p.name}.".startswith(f"{part}.")]
        if own and not any(p.requires_grad for p in own):
            _logger.warning("layer_lr: the factor of %s changes nothing, since it is frozen", part)
    return frozen


def rates_after(rows: Sequence, rates: list[float], updates: int) -> list[float]:
    """Return the rates that epochs with these rows left; skipped updates use up none."""
    return rates[len(rows) * updates - int(rows[-1][-1]) :] if rows else rates


def build_loss(config: Config, class_weights: Sequence[float] | None = None):
    names = "reduction label_smoothing aux_factor bce_target_thresh"
    others = options(config, names)
    return create_loss(config.loss, class_weights, num_splits=config.aug_splits, **others)


def build_optimizer(config: Config, network, rates: list[float]):
    return create_optimizer(
        network,
        config.opt,
        lr=rates,
        nesterov=config.use_nesterov,
        layer_lr=read_factors(config.layer_lr),
        **options(config, "weight_decay momentum weight_decay_filter layer_decay eps"),
    )


def build_step(
    config: Config,
    runtime,
    mixed_network,
    optimizer,
    *,
    class_weights=None,
    average=None,
    dropout_count=None,
) -> engine.TrainStep:
    """Build the training step of a network that has mixed precision applied."""
    return engine.TrainStep(
        mixed_network,
        build_loss(config, class_weights),
        optimizer,
        build_normalize(config, build_transforms(config)),
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

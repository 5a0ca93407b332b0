"""`python -m mindcv plan`: step time, memory, decoding and hours of a training before it runs."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...config import Config, load_config
from ...design_space.published import family_name
from ...errors import ConfigError
from ...optim import OPTIMIZERS
from ...process.files import writing
from ..arguments import (
    add_files,
    add_settings,
    at_least,
    file_path,
    planned_network,
    positive,
    refuse_idle,
)
from .estimate import (
    DECODE_RATE,
    KEPT_BYTES,
    PUBLISHED,
    PUBLISHED_MODEL,
    RECIPE,
    SCALES,
    TRAIN_IMAGES,
    Plan,
)
from .text import assumed, known, text

_OVERRIDES = ("model", "regnet", "anynet", "batch_size", "opt", "amp_level", "epoch_size", "lr")
_COLUMNS = ("name", "value", "source")  # of what is known and assumed
_BATCHES = (16, 32, 64, 128, 256, 512)


def add_arguments(parser: ArgumentParser) -> None:
    whole, number = {"type": at_least(1), "metavar": "N"}, {"type": positive, "metavar": "X"}
    group = parser.add_argument_group("the training; what is left out comes from the recipe")
    group.add_argument("--model", metavar="NAME", help="a name that `list` shows, or an alias")
    add_settings(group)
    group.add_argument(
        "--config",
        type=file_path,
        metavar="FILE",
        help=f"a recipe of train.py (default: the values of {PUBLISHED_MODEL}'s published recipe)",
    )
    group.add_argument("--devices", **whole, default=8, help="cards in all (default: 8)")
    group.add_argument("--batch_size", **whole, help="images per card and step")
    group.add_argument("--image_size", type=at_least(8), metavar="N", help="side, pixels")
    group.add_argument("--opt", choices=tuple(OPTIMIZERS), help="optimizer")
    group.add_argument("--amp_level", choices=tuple(KEPT_BYTES), help="mixed precision")
    group.add_argument("--epoch_size", **whole, help="epochs")
    group.add_argument("--lr", **number, help="peak rate for the recipe's own images per step")
    group = parser.add_argument_group("assumptions, to replace by your own figures")
    group.add_argument("--card", choices=tuple(PUBLISHED), help="published speed (default: 910)")
    text = "what the step of another model grows with (default: activations)"
    group.add_argument("--scale_by", choices=("activations", "macs"), help=text)
    text = "measured step of one card alone, instead of --card and --scale_by"
    group.add_argument("--step_ms", **number, help=text)
    for name, kind, default, text in (
        ("devices_per_host", whole, 8, "cards (default: 8)"),
        ("card_memory", number, 32.0, "GB (default: 32)"),
        ("decode_rate", number, None, f"images/s that a core decodes (default: {DECODE_RATE:g})"),
        ("link_gbit", number, 100.0, "Gbit/s of a card's link (default: 100)"),
        ("link_latency", number, 5.0, "microseconds of a hop (default: 5)"),
        ("images", whole, TRAIN_IMAGES, "to train on (default: ImageNet's)"),
        ("image_kb", number, None, "mean size of an image file, KB (default: ImageNet's)"),
    ):
        group.add_argument(f"--{name}", **kind, default=default, help=text)
    add_files(parser, json="write all figures for scripts")


def run(arguments: Namespace) -> None:
    if arguments.step_ms:
        reason = "estimates the step of a card, and --step_ms says it; give one of them"
        refuse_idle(arguments, ("card", "scale_by"), reason)
    recipe = load_recipe(arguments, {})
    given = {key: getattr(arguments, key) for key in _OVERRIDES}
    given["image_resize"] = arguments.image_size
    given = {key: value for key, value in given.items() if value is not None}
    config = load_recipe(arguments, given)
    plan = Plan(arguments, recipe, config, planned_network(config))
    figures = compute(plan, family_name(config.model))
    print("\n".join(text(plan, figures)))
    if arguments.json:
        with writing(f"--json {arguments.json}", ConfigError):  # in place: it may be a device
            Path(arguments.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


def load_recipe(arguments: Namespace, overrides: dict) -> Config:
    """Return the recipe's config, read without looking for contradictions between options."""
    published = {} if arguments.config else {**RECIPE, "distribute": True}
    return load_config(arguments.config, published | overrides, rules=lambda config: ())


def compute(plan: Plan, name: str) -> dict:
    """Return all figures: what is known and what is assumed apart, and what follows from both."""
    config, given = plan.config, plan.given
    batches = sorted({*_BATCHES, config.batch_size})
    scales = sorted({given.devices, *(one for one in SCALES if plan.steps_per_epoch(one))})
    return {
        "model": name,
        "devices": given.devices,
        "batch_size": config.batch_size,
        "image_size": plan.size,
        "opt": config.opt,
        "amp_level": config.amp_level,
        "epochs": config.epoch_size,
        "known": [dict(zip(_COLUMNS, row)) for row in known(plan)],
        "assumed": [dict(zip(_COLUMNS, row)) for row in assumed(plan)],
        "largest_batch": plan.largest_batch(),
        "memory_bytes": [{"batch_size": batch} | plan.memory(batch) for batch in batches],
        "scales": [plan.scale(devices) for devices in scales],
        "left_out": [devices for devices in SCALES if devices not in scales],
    }

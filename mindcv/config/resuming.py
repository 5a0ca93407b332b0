"""Which options may change when a run is resumed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..errors import ConfigError
from .options import OPTIONS, Config

# They say where things lie, what is shown and what is kept, and change no number of the run.
# Device, mode and jit level are compared as they came out, not as they were asked for.
HARMLESS = frozenset(
    (
        "ckpt_save_dir",
        "ckpt_save_interval",
        "ckpt_save_minutes",
        "ckpt_save_policy",
        "ckpt_save_steps",
        "data_dir",
        "dataset_download",
        "dataset_sink_mode",
        "debug",
        "device_target",
        "distribute",
        "drop_overflow_update",
        "dry_run",
        "eval_shuffle",
        "import_module",
        "jit_level",
        "keep_checkpoint_max",
        "log_interval",
        "log_samples",
        "max_bad_fraction",
        "max_skipped_steps",
        "mode",
        "resume",
        "resume_opt",
        "show_batch",
        "summary_dir",
        "val_amp_level",
        "val_interval",
        "val_weights",
        "val_while_train",
    )
)
_REASONS = {
    "epoch_size": "the learning rates follow from it",
    "num_parallel_workers": "the draws of MindSpore's random operations depend on it",
}


def describe_config(config: Config) -> dict[str, Any]:
    """Return the options as JSON values."""
    return json.loads(json.dumps(asdict(config)))


def check_unchanged(before: Mapping[str, Any], config: Config) -> None:
    """Refuse a config that would take the run another way than it was going.

    Args:
        before: what `describe_config` gave when the run was saved; an option that did not exist
            then has its default.

    Raises:
        ConfigError: it lists each changed option with both values.
    """
    lines = list(_changes(before, config))
    if lines:
        raise ConfigError(
            "resume: these options change the run, so that it would not go on as it began:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nleave them as they were; to start a new run from the weights, name another "
            "ckpt_save_dir and the file with --ckpt_path"
        )


def _changes(before: Mapping[str, Any], config: Config) -> Iterator[str]:
    now = describe_config(config)
    allowed = HARMLESS
    if config.precise_bn_samples:  # measured at these points, and trained on with
        allowed = allowed - {"ckpt_save_interval", "val_interval", "val_while_train"}
    if config.resume_opt:
        allowed = allowed | {"ckpt_path", "pretrained"}
    for key in now:
        default = json.loads(json.dumps(OPTIONS[key].default))
        old = before.get(key, default)
        if key not in allowed and old != now[key]:
            reason = f" ({_REASONS[key]})" if key in _REASONS else ""
            yield f"{key}: {_shown(old)} -> {_shown(now[key])}{reason}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

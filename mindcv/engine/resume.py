"""Find the checkpoint that a run resumes from, compare the run with it, and restore it."""

import logging
import platform
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from .. import __version__
from ..checkpoint import (
    CheckpointStore,
    Manifest,
    Position,
    check_record,
    choose_checkpoint,
    position_of,
)
from ..data.rows import ImageDataset
from ..data.samples.protocol import count_images, describe_files
from ..errors import ConfigError, DataError, WeightsError
from ..names import plural
from .device import Runtime
from .elastic import Division, position_on
from .loop import Run, save

_logger = logging.getLogger("mindcv.train")


def find_checkpoint(folder: Path, source: str | None, runtime: Runtime) -> Manifest | None:
    """Return, on all ranks, the checkpoint that the first rank chooses.

    Raises:
        ConfigError, WeightsError: see `choose_checkpoint`; or this rank cannot read the checkpoint.
    """
    manifest = choose_checkpoint(folder, source) if runtime.is_main else None
    if manifest:
        check_record(manifest)
    if runtime.world_size == 1:
        return manifest
    own = astuple(manifest.position) if manifest else (0, 0, 0)
    epoch, step, is_evaluated = runtime.sum_over_ranks(np.array(own, np.float32))
    chosen = Position(int(epoch), int(step), bool(is_evaluated))
    if runtime.is_main or not chosen.epoch:
        return manifest
    path = folder if source == "auto" else Path(source)
    store = CheckpointStore(path if path.is_dir() else path.parent)
    names = [name for name in store.names() if position_of(name) == chosen]
    if not names:
        raise WeightsError(
            f"resume: rank {runtime.rank} finds no checkpoint of epoch {chosen.epoch}, step "
            f"{chosen.step} in {store.folder}, from which rank 0 resumes; each host needs it"
        )
    return store.verify(names[0])


def resume_run(run: Run, checkpoint: Manifest) -> Position:
    """Restore a run from a checkpoint; return where it continues.

    Raises:
        WeightsError: the checkpoint does not fit the run.
        ConfigError: another number of ranks cannot continue it, see `Division.check_follows`; or an
            earlier version counted other steps in an epoch.
    """
    at, now = checkpoint.position, run.division
    before = Division.of(checkpoint) or now
    ranks, ranks_before = run.runtime.world_size, checkpoint.record["runtime"]["world_size"]
    if ranks != ranks_before:
        now.check_follows(before)
    if "update" not in checkpoint.record:
        _check_steps(checkpoint, run.batches.steps)
    run.state.restore(checkpoint)
    _logger.info("resumed from %s: epoch %d, step %d", checkpoint.path, at.epoch, at.step)
    at = position_on(at, before.batches, now.batches)
    if ranks != ranks_before:
        _logger.info(
            "continuing a run of %s on %d: each update takes the same %d images, in "
            "%d x batch_size %d on each rank instead of %d; this is step %d of epoch %d now",
            *(plural(ranks_before, "rank"), ranks, now.images, now.batches, run.batches.batch_size),
            *(before.batches, at.step, at.epoch),
        )
        if run.sample_log:
            steps = before.images_of_epoch // before.images * before.batches
            own = range(run.runtime.rank, ranks_before, ranks)
            run.sample_log.start_anew(checkpoint.position.count(steps), own)
    is_done = at.step == run.batches.steps and at.is_evaluated
    counts_anew = at != checkpoint.position and not is_done
    if run.checkpoints:
        run.checkpoints.resume(checkpoint, counts_anew)
    if counts_anew:
        save(run, at)
    return Position(at.epoch + 1) if is_done else at


def _check_steps(checkpoint: Manifest, steps: int) -> None:
    """Refuse a checkpoint of an earlier version, which gave short shards one image more."""
    at, is_whole = checkpoint.position, not checkpoint.record["is_midway"]
    if at.step > steps or (is_whole and at.step != steps):
        raise ConfigError(
            f"resume: {checkpoint.path} is of step {at.step} of an epoch of {steps} now: an "
            "earlier version filled the last one with images that it took twice; finish the run "
            "with that version, or start anew from its weights with --ckpt_path"
        )


def describe_run(runtime: Runtime, train_set: ImageDataset, workers: int) -> dict[str, Any]:
    """Return what a checkpoint records about its run beside the options, as JSON values.

    `workers` is the option num_parallel_workers.
    """
    samples = train_set.samples
    return {
        "runtime": {
            key: getattr(runtime, key)
            for key in ("world_size", "device_target", "mode", "jit_level")
        },
        "versions": {
            "mindcv": __version__,
            "mindspore": ms.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "workers": runtime.workers(workers),
        "data": {
            "class_names": list(samples.class_names or ()),
            "images_of_classes": count_images(samples.labels, samples.num_classes).tolist(),
            "fingerprint": samples.fingerprint(),
            "files": describe_files(samples),
        },
    }


def check_same_run(manifest: Manifest, now: Mapping[str, Any]) -> None:
    """Check that `now`, from `describe_run`, matches the run that wrote a checkpoint.

    Other versions and another number of threads, as on a smaller machine, only cause a warning, or
    no run could survive an update; the run goes on, but not to the same bits. Images written since
    then with the same sizes also cause only a warning, since a copied dataset looks the same.
    Another number of ranks is the affair of `continue_config`.

    Raises:
        ConfigError: the device, the mode or the jit level differs.
        DataError: the classes, the images or the sizes of image files differ.
    """
    before = manifest.record
    for name, value in before["runtime"].items():
        if name != "world_size" and now["runtime"].get(name) != value:
            raise ConfigError(
                f"resume: {manifest.path} is of a run with {name} {value}, this one has "
                f"{now['runtime'].get(name)}; resume with the same {name}"
            )
    _check_data(manifest, before["data"], now["data"])
    if before["runtime"]["world_size"] > 1 and "update" not in before:
        _logger.warning(
            "resume: %s was saved by an earlier version, which dealt the images of a step to the "
            "ranks one by one, now in whole batches; the run goes on with the same images in each "
            "step, but not to the same bits",
            manifest.path,
        )
    others = {**now["versions"], "threads": now["workers"]}
    for name, value in {**before["versions"], "threads": before["workers"]}.items():
        if others.get(name) != value:
            change = f"{name} was {value} and is {others.get(name)}"
            _logger.warning("resume: %s; the run goes on, but not to the same bits", change)


def _check_data(manifest: Manifest, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a DataError that names the first difference between the datasets."""
    files = {what: _first_class(before, now, what) for what in ("names", "sizes", "times")}
    names = _first_difference(before["class_names"], now["class_names"])
    counts = _first_difference(before["images_of_classes"], now["images_of_classes"])
    both = (data.get("class_weights") or [] for data in (before, now))
    weights = _first_difference(*both)
    if names is not None:
        label, (old, new) = names
        what = f"class {label} was {old or 'not there'} and is {new or 'not there'}"
    elif counts is not None:
        label, (old, new) = counts
        what = f"class {_class_name(now, label)} had {old} training images and has {new}"
    elif weights is not None:
        label, (old, new) = weights
        what = f"class {_class_name(now, label)} had the weight {old} in the loss and has {new}"
    elif before["fingerprint"] != now["fingerprint"]:
        where = f"class {files['names']} has " if files["names"] else ""
        what = f"{where}as many training images as before, but under other names"
        if manifest.record.get("config", {}).get("val_fraction"):
            what += ", or other images are held out"
    elif files["sizes"]:
        what = f"files of class {files['sizes']} have other sizes than before, under the same names"
    else:
        if files["times"]:
            _logger.warning(
                "resume: training images were written since %s was saved, the first of class %s; "
                "they have the sizes they had: if they are others, the run goes on, but not to the "
                "same bits",
                manifest.path,
                files["times"],
            )
        return
    raise DataError(
        f"resume: the dataset is not the one of {manifest.path}: {what}; put it back as it was, or "
        "start a new run from the weights with --ckpt_path and another ckpt_save_dir"
    )


def _class_name(data: Mapping[str, Any], label: int) -> str:
    return data["class_names"][label] if data["class_names"] else f"number {label}"


def _first_class(before: Mapping[str, Any], now: Mapping[str, Any], what: str) -> str | None:
    hashes = [data.get("files", {}).get(what, []) for data in (before, now)]
    found = _first_difference(*hashes) if all(hashes) else None
    return found and _class_name(now, found[0])


def _first_difference(before: list, now: list) -> tuple[int, tuple] | None:
    length = max(len(before), len(now))
    pairs = zip(before + [None] * (length - len(before)), now + [None] * (length - len(now)))
    return next(((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1]), None)

"""The report of `plan` in text: known and assumed figures apart, then what follows from both."""

from ...data.samples.packed_set import default_shards
from ...process.tables import aligned
from .estimate import (
    DECODE_RATE,
    LARGEST_TESTED_BATCH,
    PUBLISHED_BATCH,
    PUBLISHED_MODEL,
    USABLE,
    Plan,
    kept_bytes,
)

Rows = list[tuple[str, str, str]]


def known(plan: Plan) -> Rows:
    """Return (name, value, source) of what was counted, published or measured."""
    given, costs, run = plan.given, plan.costs, plan.published
    rows = [
        ("parameters", f"{costs.params:,}", "counted from the architecture (`info`)"),
        ("MACs an image", f"{costs.macs:,}", f"counted, {plan.size} pixels"),
        ("activations an image", f"{costs.activations:,}", "counted: outputs of convolutions"),
    ]
    if given.step_ms:
        rows.append(("batch on one card", f"{given.step_ms:g} ms", "yours: --step_ms"))
    else:
        setting = f"{PUBLISHED_MODEL}, 8 x {PUBLISHED_BATCH}, O3, {run.card}"
        rows += [
            ("published step", f"{run.step_ms} ms", f"{setting}, MindSpore {run.mindspore}"),
            ("published speed", f"{run.images_per_second:,.2f} images/s", run.source),
        ]
    if given.decode_rate:
        rows.append(("decoding", f"{given.decode_rate:g} images/s a core", "yours: --decode_rate"))
    else:
        where = "measured: 1,055 on 2 cores, AMD EPYC; benchmarks/results"
        rows.append(("decoding", f"{DECODE_RATE:g} images/s a core", where))
    if given.image_kb:
        rows.append(("image file", f"{given.image_kb:g} KB", "yours: --image_kb"))
    else:
        what = "published: ILSVRC2012_img_train.tar, 147,897,477,120 bytes"
        rows.append(("image file", f"{plan.image_kb:.1f} KB", what))
    return rows


def assumed(plan: Plan) -> Rows:
    """Return (name, value, reason or option) of what nobody measured."""
    given, config = plan.given, plan.config
    link = f"{given.link_gbit:g} Gbit/s, {given.link_latency:g} us"
    rows = [
        ("link of a card", link, "--link_gbit, --link_latency; ring, nothing overlaps the step"),
        ("card memory", f"{given.card_memory:g} GB", f"--card_memory; {USABLE:.0%} is usable"),
        (
            "kept for the backward pass",
            f"{kept_bytes(plan.network, config.amp_level)} bytes",
            f"for each activation, at amp level {config.amp_level}; docs/scaling.md",
        ),
        ("workspace", "1 map", "the largest output of a convolution once more"),
        ("lr", "linear", f"lr {config.lr:g} for {plan.lr_batch} images; Goyal et al., 2017"),
    ]
    if not given.step_ms:
        ratios = [f"x{plan.ratio(by):.3f}" for by in ("activations", "macs")]
        other = f"by activations {ratios[0]}, by macs {ratios[1]} of {PUBLISHED_MODEL}"
        rows += [
            ("time of an image", ratios[plan.scale_by == "macs"], f"--scale_by; {other}"),
            ("", "constant", "over batch size, amp level and optimizer; --step_ms gives yours"),
        ]
    if not given.decode_rate:
        rows.append(("cores of the hosts", "as measured", "--decode_rate, measured on your host"))
    return rows


def text(plan: Plan, figures: dict) -> list[str]:
    """Return the lines of the report."""
    config, given, scales = plan.config, plan.given, figures["scales"]
    missing = ", ".join(map(str, figures["left_out"]))
    left_out = [f"left out, {given.images:,} images fill no step: {missing} devices"]
    left_out = left_out if missing else []
    source = given.config or f"that of {PUBLISHED_MODEL}; --config FILE names another"
    return [
        f"{figures['model']}: {given.devices} devices x {config.batch_size} images of "
        f"{plan.size} pixels, {config.opt}, amp level {config.amp_level}",
        f"recipe: {source}",
        "",
        "KNOWN: counted, published or measured",
        *aligned(known(plan), left=(0, 2)),
        "",
        "ASSUMED: nobody measured this for your machine",
        *aligned(assumed(plan), left=(0, 2)),
        "",
        "COMPUTED from both",
        *_headline(plan),
        "",
        "Memory of a card, GB",
        *_memory(plan, figures),
        "",
        "Training",
        *_training(scales),
        *left_out,
        "",
        "Reading and decoding (during training; folder: image files, pack: `pack`'s files)",
        *_reading(plan, scales),
    ]


def _headline(plan: Plan) -> list[str]:
    given, epochs = plan.given, plan.config.epoch_size
    ways = [plan.scale_by] if given.step_ms else ["activations", "macs"]
    lines = []
    for by in sorted(ways, key=plan.scale_by.__ne__):  # the one that the tables follow first
        row = plan.scale(given.devices, by)
        lines.append(
            f"step {row['step_ms']:.2f} ms, {row['images_per_second']:,.0f} images/s, "
            f"{row['hours']:.2f} hours for {epochs} epochs of {row['steps_per_epoch']:,} steps"
            + ("" if given.step_ms else f", by {by}")
        )
    return [*lines, "(without evaluation, saving and compiling)"]


def _memory(plan: Plan, figures: dict) -> list[str]:
    rows = figures["memory_bytes"]
    names = [name for name in rows[0] if name != "batch_size"]
    usable = plan.given.card_memory * USABLE
    table = [("batch", *names, "fits")]
    for row in rows:
        fits = "yes" if row["sum"] / 1e9 <= usable else "no"
        cells = (f"{row[name] / 1e9:.2f}" for name in names)
        table.append((str(row["batch_size"]), *cells, fits))
    largest = f"largest batch that fits into {usable:.1f} GB: {figures['largest_batch']} images"
    return [*aligned(table), largest]


# Heads of the columns -> their cells.
_TRAINING = {
    "devices": "{devices}",
    "hosts": "{hosts}",
    "batch": "{global_batch:,}",
    "lr": "{lr:.4g}{doubt}",
    "steps/epoch": "{steps_per_epoch:,}",
    "exchange ms": "{all_reduce_ms:.2f}",
    "step ms": "{step_ms:.2f}",
    "images/s": "{images_per_second:,.0f}",
    "hours": "{hours:.2f}",
}
_READING = {
    "devices": "{devices}",
    "images/s": "{images_per_second:,.0f}",
    "images/s a host": "{images_per_second_per_host:,.0f}",
    "cores a host": "{cores_per_host}",
    "MB/s a host": "{mb_per_second_per_host:,.0f}",
    "form": "{form}",
    "files": "{files:,}",
}


def _table(columns: dict[str, str], rows: list[dict], left: tuple[int, ...] = (0,)) -> list[str]:
    cells = ([cell.format(**row) for cell in columns.values()] for row in rows)
    return aligned([[*columns], *cells], left)


def _training(scales: list[dict]) -> list[str]:
    rows = [
        row | {"doubt": "?" if row["global_batch"] > LARGEST_TESTED_BATCH else ""} for row in scales
    ]
    note = f"?: more than {LARGEST_TESTED_BATCH:,} images a step, where Goyal et al. lost accuracy"
    return _table(_TRAINING, rows) + ([note] if any(row["doubt"] for row in rows) else [])


def _reading(plan: Plan, scales: list[dict]) -> list[str]:
    files = {"folder": plan.given.images, "pack": shards(plan)}
    return _table(_READING, [row | {"files": files[row["form"]]} for row in scales], left=(5,))


def shards(plan: Plan) -> int:
    """Return the number of files that `pack` writes for the training images by default."""
    return default_shards(plan.given.images * plan.image_kb * 1000)

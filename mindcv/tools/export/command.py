"""`python -m mindcv export`: write a checkpoint for deployment, checked against the original."""

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from pathlib import Path

from ... import __version__
from ...errors import ConfigError
from ...process.files import replacing_together, writing
from ...task import TASKS
from ..arguments import (
    add_network_arguments,
    at_least,
    build_network,
    check_network_arguments,
    check_output,
    file_path,
)

FORMATS = ("mindir", "onnx", "air")


def add_arguments(parser: ArgumentParser) -> None:
    add_network_arguments(parser)
    parser.add_argument(
        "--output",
        type=file_path,
        metavar="FILE",
        required=True,
        help="its suffix is the format; FILE.json describes classes, preprocessing and checks; a "
        "MINDIR or ONNX file holds the same, without the checks",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: the suffix of --output")
    parser.add_argument(
        "--batch_size",
        type=_batch_size,
        default=1,
        help="images of a batch, or dynamic: any number (default: 1)",
    )
    parser.add_argument(
        "--no_fold_bn",
        dest="fold_bn",
        action="store_false",
        help="leave batch normalisation beside the convolutions",
    )
    parser.add_argument(
        "--normalize",
        action="store_true",
        help="the graph takes uint8 RGB, (N, H, W, 3), and normalises it",
    )
    parser.add_argument(
        "--softmax",
        action="store_true",
        help="the graph gives probabilities, not logits; of several labels each its sigmoid",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")


def _batch_size(text: str) -> int | None:
    if text == "dynamic":
        return None
    try:
        return at_least(1)(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{error}, and not the word dynamic") from None


def run(arguments: Namespace) -> None:
    check_network_arguments(arguments)
    output = arguments.output
    file_format = arguments.format or Path(output).suffix[1:]
    if file_format not in FORMATS:
        raise ConfigError(f"output {output!r}: expected a suffix among .{', .'.join(FORMATS)}")
    for path, suffix in ((output, f".{file_format}"), (f"{output}.json", ".json")):
        check_output("output", path, (suffix,), arguments.force)

    from mindspore import __version__ as mindspore_version

    from ...data import create_normalize
    from ...engine import start_runtime
    from .deployment import export_checked
    from .model_file import to_entries

    runtime = start_runtime(mode=1)
    _check_format(file_format, arguments.batch_size, runtime.device_target)
    network, metadata, source = build_network(arguments)
    used = metadata.preprocessing
    channels = metadata.in_channels
    colours = "grey" if channels == 1 else "RGB"
    normalize, shape, input_type = None, (channels, *used.sides), "float32"
    values = f"{colours}, (x - mean) / std with x of 0-255"
    if arguments.normalize:
        normalize = create_normalize(mean=used.mean, std=used.std)
        shape, input_type, values = (*used.sides, channels), "uint8", f"{colours}, 0-255"
    stand_ins = replacing_together(output, f"{output}.json")
    with writing(output, ConfigError), stand_ins as (stand_in, description):
        graph = stand_in.parent / "graph" / f"network.{file_format}"  # renamed when it is complete
        graph.parent.mkdir()
        batch = arguments.batch_size or "any"
        about = {
            "format": file_format,
            "model": metadata.model,
            "weights": source,
            "input": {
                "shape": [batch, *shape],
                "type": input_type,
                "values": values,
            },
            "output": {
                "shape": [batch, metadata.num_classes],
                "values": "probabilities" if arguments.softmax else "logits",
            },
            "task": metadata.task,
            "class_names": metadata.class_names,
            "preprocessing": used.to_dict(),
            "written_by": f"mindcv {__version__}, MindSpore {mindspore_version}",
        }
        checks = export_checked(
            network,
            normalize,
            graph,
            image_shape=shape,
            batch_size=arguments.batch_size,
            fold_bn=arguments.fold_bn,
            task=TASKS[metadata.task] if arguments.softmax else None,
            entries=to_entries(about),
        )
        graph.rename(stand_in)
        text = json.dumps({**about, "checks": asdict(checks)}, ensure_ascii=False, indent=1)
        # Bytes of a class folder that are not UTF-8 become JSON escapes.
        description.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
    print(f"wrote {output} and {output}.json")
    if checks.folding is not None:
        print(
            f"  {checks.folded_layers} batch normalisations folded in; outputs differ by "
            f"{checks.folding:.1e} of the largest"
        )
    if checks.file is not None:
        reader = "MindSpore" if file_format == "mindir" else "onnxruntime"
        print(f"  checked with {reader}: outputs differ by {checks.file:.1e} of the largest")
    elif file_format == "onnx":
        print("  the file was not checked: onnxruntime is not installed")
    else:
        print("  the file was not checked: MindSpore does not load AIR files")


def _check_format(file_format: str, batch_size: int | None, device_target: str) -> None:
    """Refuse a format that this MindSpore cannot write, before any work."""
    from .deployment import can_write_dynamic_onnx

    if file_format == "air" and device_target != "Ascend":
        raise ConfigError(
            f"format air can be written only on Ascend, and this is {device_target}; export mindir "
            "here, or run the same command there"
        )
    if file_format == "air" and batch_size is None:
        raise ConfigError("format air has no dynamic batch; give --batch_size N, or export mindir")
    if file_format == "onnx" and batch_size is None and not can_write_dynamic_onnx():
        raise ConfigError(
            "this MindSpore writes ONNX files for a fixed batch only (mindspore.onnx is missing); "
            "give --batch_size N, or export mindir"
        )

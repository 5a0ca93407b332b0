"""`python -m mindcv export`: write a checkpoint for deployment, checked against the original."""

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from ... import __version__
from ...errors import ConfigError, WeightsError
from ...process.files import replacing_together, writing
from ...weights import Metadata
from ..arguments import at_least, check_output, file_path
from ..network_source import add_network_arguments, build_network, check_network_arguments

FORMATS = ("mindir", "onnx", "air")


def add_arguments(parser: ArgumentParser) -> None:
    add_network_arguments(parser)
    parser.add_argument(
        "--output",
        type=file_path,
        metavar="FILE",
        required=True,
        help="its suffix is the format; FILE.json tells classes, preprocessing and checks",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: the suffix of --output")
    parser.add_argument(
        "--batch_size",
        type=_batch_size,
        default=1,
        help="images of a batch, or dynamic: any number (default: 1)",
    )
    parser.add_argument("--image_size", type=at_least(8), help="default: the weights' own")
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
        "--softmax", action="store_true", help="the graph gives probabilities, not logits"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")


def _batch_size(text: str) -> int | None:
    if text == "dynamic":
        return None
    try:
        return at_least(1)(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{error}, and not the word dynamic") from None


@dataclass(frozen=True)
class _Checks:
    """Relative differences of the outputs on random images; None: not checked."""

    folded_layers: int
    folding: float | None
    file: float | None


def run(arguments: Namespace) -> None:
    check_network_arguments(arguments)
    output = arguments.output
    file_format = arguments.format or Path(output).suffix[1:]
    if file_format not in FORMATS:
        raise ConfigError(f"output {output!r}: expected a suffix among .{', .'.join(FORMATS)}")
    for path, suffix in ((output, f".{file_format}"), (f"{output}.json", ".json")):
        check_output("output", path, (suffix,), arguments.force)

    from ...data import create_normalize
    from ...engine import start_runtime
    from . import Deployment

    runtime = start_runtime(mode=1)
    _check_format(file_format, arguments.batch_size, runtime.device_target)
    network, metadata = build_network(arguments)
    used = metadata.preprocessing
    size = arguments.image_size or used.image_size
    normalize = create_normalize(mean=used.mean, std=used.std) if arguments.normalize else None
    original = Deployment(network, normalize).set_train(False)
    stand_ins = replacing_together(output, f"{output}.json")
    with writing(output, ConfigError), stand_ins as (stand_in, description):
        stand_in.parent.joinpath("graph").mkdir()
        graph = stand_in.parent / "graph" / f"network.{file_format}"  # takes its name at the end
        channels = metadata.in_channels
        shape = (size, size, channels) if arguments.normalize else (channels, size, size)
        checks = _export(original, graph, file_format, shape, arguments)
        graph.rename(stand_in)
        about = _describe(file_format, metadata, original, shape, arguments, checks)
        description.write_text(
            json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
    print("\n".join(_summary(output, file_format, arguments, checks)))


def _check_format(file_format: str, batch_size: int | None, device_target: str) -> None:
    """Refuse what this MindSpore cannot write, before any work."""
    from . import can_write_dynamic_onnx

    if file_format == "air" and device_target != "Ascend":
        raise ConfigError(
            f"format air is written where Ascend is only, and this is {device_target}; export "
            "mindir here, or run the same command there"
        )
    if file_format == "air" and batch_size is None:
        raise ConfigError("format air has no dynamic batch; give --batch_size N, or export mindir")
    if file_format == "onnx" and batch_size is None and not can_write_dynamic_onnx():
        raise ConfigError(
            "this MindSpore writes ONNX files for a fixed batch only (mindspore.onnx is missing); "
            "give --batch_size N, or export mindir"
        )


def _export(original, graph: Path, file_format: str, shape, arguments: Namespace) -> _Checks:
    """Fold, check, write and check again; everything into the folder of `graph`."""
    import numpy as np
    from mindspore import Tensor

    from ...engine.evaluation import softmax
    from ...models import fold_batch_norm
    from . import TOLERANCE, Deployment, check_mindir, check_onnx, export_network, random_images

    # A file for any batch is tried with two sizes that its example did not have.
    counts = (1, 3) if arguments.batch_size is None else (arguments.batch_size,)
    images = [random_images(count, shape, original.input_type) for count in counts]
    expected = [original(Tensor(batch)).asnumpy() for batch in images]
    if not all(np.isfinite(logits).all() for logits in expected):
        raise WeightsError("the network's outputs are not finite numbers; nothing was written")
    written, layers, folding = original, 0, None
    if arguments.fold_bn:
        folded, layers = fold_batch_norm(original.network)
        written = Deployment(folded, original.normalize).set_train(False)
        folding = _check_folding(written, images, expected)
    tolerance = TOLERANCE
    if arguments.softmax:
        # A probability's relative error is up to twice the absolute error of the logits.
        tolerance *= max(1.0, 2.0 * max(np.abs(logits).max() for logits in expected))
        expected = [softmax(logits) for logits in expected]
        written = Deployment(written.network, original.normalize, softmax=True).set_train(False)
    export_network(written, graph, file_format, shape, arguments.batch_size)
    check = {"mindir": check_mindir, "onnx": check_onnx}.get(file_format)
    difference = check(graph, images, expected, tolerance) if check else None
    return _Checks(layers, folding, difference)


def _check_folding(folded, images, expected) -> float:
    from mindspore import Tensor

    from . import TOLERANCE, relative_difference

    found = [folded(Tensor(batch)).asnumpy() for batch in images]
    difference = max(relative_difference(e, f) for e, f in zip(expected, found))
    if not difference <= TOLERANCE:
        raise WeightsError(
            "with batch normalisation folded in, the network's outputs change by "
            f"{difference:.1e} of the largest, allowed {TOLERANCE:.0e}; nothing was written; add "
            "--no_fold_bn to export it as it is"
        )
    return difference


def _describe(file_format, metadata: Metadata, original, shape, arguments, checks: _Checks) -> dict:
    """Return what a program needs to know to use the file, and how it was checked."""
    from mindspore import __version__ as mindspore_version

    raw = arguments.normalize
    return {
        "format": file_format,
        "model": metadata.model,
        "input": {
            "shape": [arguments.batch_size or "any", *shape],
            "type": original.input_type.__name__,
            "values": "RGB, 0-255" if raw else "RGB, (x - mean) / std with x of 0-255",
        },
        "output": {
            "shape": [arguments.batch_size or "any", metadata.num_classes],
            "values": "probabilities" if arguments.softmax else "logits",
        },
        "class_names": metadata.class_names,
        "preprocessing": {**metadata.preprocessing.to_dict(), "image_size": shape[1]},
        "checks": asdict(checks),
        "written_by": f"mindcv {__version__}, MindSpore {mindspore_version}",
    }


def _summary(output: str, file_format: str, arguments: Namespace, checks: _Checks) -> list[str]:
    lines = [f"wrote {output} and {output}.json"]
    if checks.folding is not None:
        lines.append(
            f"  {checks.folded_layers} batch normalisations folded in; outputs differ by "
            f"{checks.folding:.1e} of the largest"
        )
    if checks.file is not None:
        reader = "MindSpore" if file_format == "mindir" else "onnxruntime"
        lines.append(f"  checked with {reader}: outputs differ by {checks.file:.1e} of the largest")
    elif file_format == "onnx":
        lines.append("  the file was not checked: onnxruntime is not installed")
    else:
        lines.append("  the file was not checked: MindSpore does not load AIR files")
    return lines

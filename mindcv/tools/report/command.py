"""`python -m mindcv report`: a run folder as an HTML page, and its curves as PNG."""

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from ...errors import ConfigError, DataError, MindCVError, WeightsError
from ...process.entry_point import import_user_module
from ...process.files import write_text
from ..arguments import add_ema_argument, add_files, at_least, file_path
from ..charts import plot_charts
from .page import render_page
from .run_folder import RunFolder, read_run_folder


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run_dir", type=file_path, metavar="RUN_DIR", help="ckpt_save_dir of a training run"
    )
    add_files(
        parser,
        output="default: RUN_DIR/report.html",
        png="draw the curves too (extra plots)",
        ckpt_path="default: the best one",
    )
    parser.add_argument("--no_eval", action="store_true", help="curves and config only")
    add_ema_argument(parser)
    parser.add_argument(
        "--data_dir", type=file_path, metavar="FOLDER", help="default: as in the run"
    )
    parser.add_argument(
        "--import_module", type=file_path, metavar="NAME", help="default: as in the run"
    )
    parser.add_argument(
        "--worst", type=at_least(0), default=24, metavar="N", help="mistakes to show (default: 24)"
    )


def run(arguments: Namespace) -> None:
    """Write the page; if the run cannot be evaluated, the page says why.

    If the command line names what to evaluate, a failure is an error instead.
    """
    names_something = (
        any((arguments.ckpt_path, arguments.data_dir, arguments.import_module))
        or arguments.ema is not None
    )
    if arguments.no_eval and names_something:
        raise ConfigError(
            "command line: --no_eval contradicts --ckpt_path, --ema, --data_dir and --import_module"
        )
    folder = read_run_folder(arguments.run_dir)
    if arguments.png and not folder.charts:
        raise DataError(f"{folder.path}: metrics.csv holds nothing to draw yet")
    found, thumbnails, notes = None, {}, []
    if not arguments.no_eval:
        try:
            found, thumbnails = evaluate(folder, arguments)
        except MindCVError as error:
            if names_something:
                raise
            notes.append(f"Not evaluated: {error}")
    if arguments.png:
        plot_charts(arguments.png, folder.charts, folder.name)
        print(f"wrote {arguments.png}")
    for note in (*folder.notes, *notes):
        print(f"note: {note}", file=sys.stderr)
    output = Path(arguments.output or folder.path / "report.html")
    page = render_page(folder, found, thumbnails, notes)
    write_text(output, page, ConfigError)
    print(f"wrote {output}")


def evaluate(folder: RunFolder, arguments: Namespace):
    """Return the checkpoint's predictions and thumbnails of the worst mistakes.

    Raises:
        MindCVError: there is no checkpoint or no data, or they do not fit together.
    """
    config = folder.config
    if config is None:
        raise ConfigError("config.yaml, which names the data, cannot be read; see --no_eval")
    named = arguments.ckpt_path and Path(arguments.ckpt_path)
    checkpoint = named or folder.best_checkpoint()
    if checkpoint is None:
        raise DataError(
            f"{folder.path} holds no <model>_best.ckpt: a run writes it when it evaluates "
            "(val_while_train); name another checkpoint by --ckpt_path"
        )
    if not checkpoint.is_file():
        raise WeightsError(f"no checkpoint {checkpoint}; name a file by --ckpt_path")
    config = replace(config, data_dir=arguments.data_dir or config.data_dir)
    # This imports mindspore, which takes seconds.
    from ...weights import describe_choice, read_weights
    from .predictions import make_thumbnails, predict_split

    module = arguments.import_module or config.import_module
    if module:
        import_user_module(module)
    file = read_weights(checkpoint)
    print(describe_choice(file, arguments.ema)[1])
    print(f"evaluating them on {config.evaluated} of {config.data_dir}", flush=True)
    found = predict_split(config, file, arguments.ema)
    print(found.accuracy)
    return found, make_thumbnails(found, found.worst(arguments.worst))

"""`python -m mindcv design-space analyze`: what the errors of trained populations say."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...config import Config, dump_config
from ...errors import ConfigError
from ...process.files import make_folder, printable, write_text, writing
from ...process.tables import write_csv
from ..arguments import add_files, add_force, check_written, file_path
from ..charts import plot_charts
from .populations import Population, Rows, label, make_tables, read_populations
from .report import make_sections, render_page
from .study import training_config


def add_arguments(parser: ArgumentParser) -> None:
    text = "folders of `run`; several of other flop regimes give trends"
    parser.add_argument("studies", nargs="+", type=file_path, metavar="STUDY", help=text)
    text = "for report.html and the csv files (default: STUDY/analysis)"
    parser.add_argument("--output", type=file_path, metavar="DIR", help=text)
    add_files(parser, write="write the model of lowest error as a yaml for train.py")
    parser.add_argument("--png", action="store_true", help="draw the charts too (extra plots)")
    add_force(parser, "replace the file of --write")


def run(arguments: Namespace) -> None:
    check_written(arguments, "write", (".yaml", ".yml"))
    populations, notes = read_populations(arguments.studies)
    tables = make_tables(populations)
    sections = list(make_sections(populations, tables))
    page = render_page(", ".join(dict.fromkeys(one.study for one in populations)), sections, notes)
    folder = Path(arguments.output or Path(arguments.studies[0], "analysis"))
    with writing(f"--output {folder}", ConfigError):
        make_folder(folder)
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", _lines(rows))
    write_text(folder / "report.html", page, ConfigError)
    for section in sections if arguments.png else ():
        if charts := section.charts:
            plot_charts(folder / f"{section.name}.png", charts, columns=min(3, len(charts)))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for one in populations:
        print(f"{one.caption()}; {one.failed} failed, {one.waiting} not trained yet")
    for row in tables["comparisons"]:
        print(row["sentence"])
    print(f"wrote {folder / 'report.html'}")
    if arguments.write:
        write_winner(Path(arguments.write), populations)


def _lines(rows: Rows) -> Iterator[list[Any]]:
    """Yield the lines of a csv, the names first; a row may lack columns of others."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    yield columns
    for row in rows:
        cells = (row.get(column) for column in columns)
        yield [float(f"{cell:.8g}") if isinstance(cell, float) else cell for cell in cells]


def write_winner(path: Path, populations: Sequence[Population]) -> None:
    """Write the model of lowest error, with the recipe of its study, as a yaml for train.py."""
    best = min(populations, key=lambda population: population.errors.min())
    model = best.models[0]
    config = training_config(best.folder, model)
    remark = (
        f"# {label(best.name)}, model {model['index']} of {printable(best.study)}: error "
        f"{model['error']:.2f} % after {model['epochs']} epochs; {model['params']:,} parameters, "
        f"{model['macs']:,} MACs at {config.image_resize} pixels\n"
    )
    recipe = dump_config(replace(config, ckpt_save_dir=Config.ckpt_save_dir))
    write_text(path, remark + recipe, ConfigError)
    print(f"wrote {path}")

"""Names that somebody else chose do nothing to terminals and spreadsheets."""

import csv
import logging

import pytest

from mindcv.classifier import Guess, Prediction
from mindcv.data.bad_images import BadImages
from mindcv.engine import start_logging
from mindcv.process.files import printable, printable_lines, table_cell
from mindcv.tools.predict import prediction_lines, write_predictions


def test_control_characters_are_escaped_and_letters_are_not():
    assert printable("\x1b]0;title\x07 a\nb\t\u202e") == r"\x1b]0;title\x07 a\nb\t\u202e"
    assert printable("ñandú 象 \udcff") == r"ñandú 象 \udcff"
    assert printable_lines("one\x1b\n  two") == "one\\x1b\n  two"


@pytest.mark.parametrize("start", "=+-@\t")
def test_no_cell_is_a_formula(tmp_path, start):
    name = f"{start}HYPERLINK(1)"
    assert table_cell("a\r=1") == r"a\r=1"
    assert table_cell(name) == f"'{name}" and table_cell(f"a{name}") == f"a{name}"
    found = [(Prediction(name, (Guess(1, 0, name, 1.0),)), name)]
    write_predictions(tmp_path / "p.csv", "m", found, {})
    (row,) = csv.DictReader((tmp_path / "p.csv").open(encoding="utf-8", newline=""))
    assert (
        row["path"] == row["class_name"] == row["true_class"] == f"'{name}"
        and row["probability"] == "1.0"
    )


@pytest.fixture
def own_logging():
    """Leave the library's logger as it was."""
    logger = logging.getLogger("mindcv")
    before, level, propagates = list(logger.handlers), logger.level, logger.propagate
    yield
    for handler in set(logger.handlers) - set(before):
        handler.close()
    logger.handlers, logger.propagate = before, propagates
    logger.setLevel(level)


def test_names_reach_terminal_log_and_table_escaped(tmp_path, capsys, own_logging):
    name, table = "=1\x1b[2J.jpg", tmp_path / "bad_images.csv"
    start_logging(True, tmp_path / "train.log")
    bad = BadImages(100, 0.5, table)
    bad.add(3, name, "damaged")
    logging.getLogger("mindcv").warning("the class %s", name)
    shown = capsys.readouterr().out + (tmp_path / "train.log").read_text(encoding="utf-8")
    assert "\x1b" not in shown and shown.count(r"=1\x1b[2J.jpg") == 4
    assert "\x1b" not in "".join(prediction_lines(Prediction(name, (Guess(1, 0, name, 1.0),))))
    BadImages(100, 0.5, table).add(3, name, "damaged")  # a resumed run: listed already
    assert len(table.read_text(encoding="utf-8").splitlines()) == 2

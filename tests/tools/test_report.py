"""`python -m mindcv report`: what the page and the PNG tell of a run."""

import base64
import io
import re
import shutil
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from commands import registered, tiny_regnet
from html_page import Page
from PIL import Image
from run_folders import HEADER, make_run

from mindcv.__main__ import main
from mindcv.config import Config, dump_config
from mindcv.data import create_evaluation_loader, create_normalize, open_samples
from mindcv.engine import EvaluationStep, Runtime, evaluate
from mindcv.tools.report.predictions import Predictions, make_thumbnails
from mindcv.tools.report.run_folder import read_run_folder
from mindcv.weights import Metadata, Preprocessing, read_weights, write_weights

# Names that are markup, that sort otherwise in another alphabet, and that are long.
CLASSES = ("A<b>&amp;\"'", "Zebra", "a snake, of the longer kind", "ä", "ñandú", "</style>")


@pytest.fixture(scope="module", autouse=True)
def models():
    with registered(tiny_regnet):
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """23 validation images of 6 oddly named classes; no file looks like another."""
    root = tmp_path_factory.mktemp("pictures & more")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 23)):
        for index in range(count):
            label = index % 6
            folder = root / split / CLASSES[label].replace("/", "∕")
            folder.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 255, (9, 12, 3)).astype(np.uint8)
            name = f"{(index * 7) % 23} <i>.{'JPG' if index % 2 else 'png'}"
            image = Image.fromarray(noise).resize((120, 90), Image.BICUBIC)
            image.save(folder / name, "JPEG" if index % 2 else "PNG")
    return root


@pytest.fixture(scope="module")
def finished_run(pictures, tmp_path_factory):
    """A run folder, and the accuracy that the library's own evaluation finds for its best."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    folder = tmp_path_factory.mktemp("runs") / "run <1>"
    folder.mkdir()
    config = Config(
        model="tiny_regnet",
        data_dir=str(pictures),
        mode=1,
        image_resize=32,
        crop_pct=0.8,
        batch_size=8,
        num_parallel_workers=1,
        epoch_size=3,
        warmup_epochs=1,
        val_while_train=True,
    )
    ms.set_seed(3)
    network = tiny_regnet(6)
    names = tuple(sorted(path.name for path in (pictures / "val").iterdir()))
    metadata = Metadata("tiny_regnet", 6, 3, names, Preprocessing(32, 0.8))
    weights = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
    write_weights(folder / "tiny_regnet_best.ckpt", weights, metadata)
    samples = open_samples("", str(pictures), "val")
    loader = create_evaluation_loader(samples, metadata.preprocessing, 8)
    step = EvaluationStep(network.set_train(False), 6, create_normalize("imagenet"))
    accuracy = evaluate(step, loader, 8, Runtime("CPU", 1, "O1", 0, 1))
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    best = f"2,4,1.7,0.0005,{accuracy.loss:.6f},{accuracy.top1:.4f},{accuracy.top5:.4f}\r\n"
    (folder / "metrics.csv").write_text(
        f"{HEADER}1,2,1.9,0.001,2.1,0.0000,50.0\r\n{best}3,6,1.6,0.0001,2.0,0.0000,60.0\r\n",
        encoding="utf-8",
        newline="",
    )
    yield folder, accuracy
    ms.set_context(mode=before)


@pytest.fixture(scope="module")
def whole_page(finished_run, tmp_path_factory) -> str:
    output = tmp_path_factory.mktemp("out") / "page.html"
    main(["report", str(finished_run[0]), "--output", str(output), "--worst", "100"])
    return output.read_text(encoding="utf-8")


def report(capsys, folder: Path, *words) -> tuple[str, str]:
    """Return the page and what was printed as notes."""
    main(["report", str(folder), *map(str, words)])
    return (folder / "report.html").read_text(encoding="utf-8"), capsys.readouterr().err


def refused(capsys, *words) -> tuple[int, str]:
    with pytest.raises(SystemExit) as error:
        main(["report", *map(str, words)])
    return error.value.code, capsys.readouterr().err


def heat_table(page: str) -> np.ndarray:
    table = re.search(r'<table class="heat">.*?</table>', page, re.S)[0]
    rows = re.findall(r'<tr><th class="name".*?</tr>', table, re.S)
    cells = [re.findall(r"<td[^>]*>(\d*)</td>", row) for row in rows]
    return np.array([[int(cell or 0) for cell in row[:6]] for row in cells])


def test_the_page_needs_nothing_outside_itself(whole_page):
    tags = Page(whole_page).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    links = [attrs[key] for _, attrs in tags for key in ("src", "href") if key in attrs]
    assert links and all(link.startswith("data:image/") for link in links)
    assert "url(" not in whole_page and "@import" not in whole_page and "http" not in whole_page
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags


def test_names_of_classes_and_files_are_text_and_never_markup(whole_page, pictures):
    page = Page(whole_page)
    assert "i" not in {tag for tag, _ in page.tags}
    for folder in (pictures / "val").iterdir():
        assert folder.name in page.text
    assert "</style>" not in whole_page.split("</head>")[1]
    assert "run <1>" in page.text and "pictures & more" in page.text


def test_every_image_counts_once_and_the_totals_are_those_of_the_evaluation(
    whole_page, finished_run
):
    accuracy = finished_run[1]
    assert accuracy.images == 23 and 0 < accuracy.top1 < 100
    counts = heat_table(whole_page)
    # The class with 3 images sorts first: its name begins with "<".
    assert counts.sum() == 23 and counts.sum(1).tolist() == [3, 4, 4, 4, 4, 4]
    assert 100 * np.trace(counts) / 23 == pytest.approx(accuracy.top1)
    assert f"top-1 {accuracy.top1:.3f} %" in whole_page
    assert f"loss {accuracy.loss:.4f}" in whole_page
    assert "Equal to metrics.csv, epoch 2." in whole_page and "Not equal" not in whole_page


def test_mistakes_come_worst_first_with_their_own_picture(whole_page, pictures):
    tiles = re.findall(
        r'<img src="data:image/jpeg;base64,([^"]+)".*?<b>([\d.]+) %</b>.*?([\d.]+) %'
        r"<figcaption>(.*?)</figcaption>",
        whole_page,
    )
    wrong = heat_table(whole_page).sum() - np.trace(heat_table(whole_page))
    assert len(tiles) == wrong
    true_shares = [float(tile[2]) for tile in tiles]
    assert true_shares == sorted(true_shares)
    assert all(float(tile[1]) >= float(tile[2]) for tile in tiles)
    for data, _, _, caption in tiles:
        shown = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        with Image.open(pictures / "val" / Page(caption).text) as file:
            difference = np.asarray(file.convert("RGB"), float) - np.asarray(shown, float)
        assert np.abs(difference).mean() < 8  # two of these noises differ by about 70


def test_a_page_says_when_the_figures_are_not_those_of_the_run(finished_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished_run[0], folder)
    table = (folder / "metrics.csv").read_text(encoding="utf-8")
    (folder / "metrics.csv").write_text(table.replace("0.0005,1.", "0.0005,4."), newline="")
    page, _ = report(capsys, folder, "--worst", 0)
    assert "Not equal to metrics.csv, epoch 2" in page and "Worst mistakes" not in page
    other = tmp_path / "other.ckpt"
    shutil.copy(folder / "tiny_regnet_best.ckpt", other)
    page, _ = report(capsys, folder, "--worst", 0, "--ckpt_path", other)
    assert "metrics.csv holds no accuracy of this checkpoint" in page


def test_bad_images_count_for_nothing_and_a_diverged_network_has_no_accuracy(
    finished_run, pictures, tmp_path, capsys
):
    folder, root = tmp_path / "run", tmp_path / "pictures"
    shutil.copytree(finished_run[0], folder)
    shutil.copytree(pictures, root)
    bad = next((root / "val" / "Zebra").iterdir())
    bad.write_bytes(bad.read_bytes()[:300])
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    text = text.replace("allow_bad_images: false", "allow_bad_images: true")
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    page, _ = report(capsys, folder, "--worst", 0, "--data_dir", root)
    assert "on 22 images" in page and heat_table(page).sum() == 22
    file = read_weights(folder / "tiny_regnet_best.ckpt")
    weights = {name: np.array(value) for name, value in file.tensors.items()}
    weights["head.fc.bias"][0] = np.inf
    write_weights(folder / "tiny_regnet_best.ckpt", weights, file.metadata)
    page, printed = report(capsys, folder)
    assert "NaN or infinite for 23 of 23 validation images" in printed and "Confusions" not in page


@pytest.mark.parametrize(
    "table, notes, epochs",
    [
        (f"{HEADER}1,2,1.9,0.1,2.1,10.0,50.0\r\n2,4,1.8,0.1,2.0,2", ["'2,4,1.8,0.1,2.0,2'"], [1]),
        (f"{HEADER}1,2,1.9,0.1,2.1,10.0,50.0\r\n2,4,1.8,0.1,2.0,20.0,50.0", ["no end"], [1]),
        (f"{HEADER}1,2,1.9,0.1,2.1,10.0,50.0\r\n2,4,1.8\r\n3,6,1,1,1,9,9\r\n", ["line 3"], [1, 3]),
        (f"{HEADER}1,2,a,0.1,2.1,10.0,50.0\r\n", ["line 2", "not a number", "no epoch"], []),
        (f"{HEADER}1,2,1.9,0.1,2.1,1,5\r\n1,2,1.7,0.1,2.1,3,5\r\n", [], [1]),
        (f"{HEADER}1,2,nan,0.1,2.1,1,5\r\n2,4,inf,0.1,,,\r\n", [], [1, 2]),
        (HEADER, ["no epoch was finished"], []),
        ("", ["no column epoch"], []),
        ("\0\0\xff<script>\n1\n", ["no column epoch", "<script>"], []),
        ("epoch,loss,accuracy\n1,2.0,30\n", ["no accuracy"], [1]),
    ],
)
def test_a_damaged_or_short_table_is_reported_and_the_rest_is_shown(
    capsys, tmp_path, table, notes, epochs
):
    folder = make_run(tmp_path / "run", table)
    run = read_run_folder(str(folder))
    assert [row.epoch for row in run.rows] == epochs
    page, printed = report(capsys, folder, "--no_eval")
    for note in notes:
        assert note in printed and note in Page(page).text
    assert ("<svg" in page) == bool(epochs)
    assert "nan" not in page.split("</style>")[1].split("<h2>Config")[0]


def test_the_later_row_of_an_epoch_trained_twice_counts(tmp_path):
    table = f"{HEADER}1,2,1.9,0.1,2.1,1,5\r\n2,4,1.8,0.1,2.1,9,9\r\n1,2,1.7,0.1,2.1,3,5\r\n"
    run = read_run_folder(str(make_run(tmp_path / "run", table)))
    assert [row.values["train_loss"] for row in run.rows] == [1.7, 1.8]


def test_the_best_epoch_is_the_first_of_the_highest_top1(tmp_path):
    rows = "".join(f"{e},2,1.9,0.1,2.1,{top1},5\r\n" for e, top1 in enumerate((3, 7, 7, 5), 1))
    assert read_run_folder(str(make_run(tmp_path / "run", HEADER + rows))).best.epoch == 2


def test_a_run_without_best_checkpoint_or_images_says_so_in_the_page(
    capsys, tmp_path, finished_run
):
    page, printed = report(capsys, make_run(tmp_path / "run", f"{HEADER}1,2,1.9,0.1,,,\r\n"))
    for text in ("no accuracy", "holds no <model>_best.ckpt", "--ckpt_path"):
        assert text in printed and text in Page(page).text
    folder = tmp_path / "moved"
    shutil.copytree(finished_run[0], folder)
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    config = re.sub("data_dir: .*", "data_dir: /gone", config)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    page, printed = report(capsys, folder)
    assert "no image folder /gone/val" in printed and "/gone/val" in page
    # What the user names and what is wrong ends in an error.
    code, message = refused(capsys, folder, "--data_dir", tmp_path / "elsewhere")
    assert code == 4 and "elsewhere/val" in message
    code, message = refused(capsys, folder, "--ckpt_path", tmp_path / "no.ckpt")
    assert code == 5 and "no.ckpt" in message


def test_a_config_of_another_version_is_shown_and_not_used(capsys, tmp_path):
    folder = make_run(tmp_path / "run", f"{HEADER}1,2,1.9,0.1,2.1,10,50\r\n")
    (folder / "config.yaml").write_text("model: m\nnew_option: <x>\n", encoding="utf-8")
    page, printed = report(capsys, folder)
    assert "new_option" in printed and "new_option: <x>" in Page(page).text


@pytest.mark.parametrize(
    "share, where", [(0, "before its first"), (0.02, "before"), (0.6, "after")]
)
def test_a_config_that_was_cut_is_refused_and_not_filled_up_with_defaults(
    capsys, tmp_path, share, where
):
    folder = make_run(tmp_path / "run", f"{HEADER}1,2,1.9,0.1,2.1,10,50\r\n")
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(text[: int(share * len(text))], encoding="utf-8")
    code, message = refused(capsys, folder, "--no_eval")
    assert code == 4 and f"config.yaml ends {where}" in message
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    "make, code, words",
    [
        (lambda folder: None, 4, ["no run folder"]),
        (lambda folder: folder.mkdir(), 4, ["config.yaml", "ckpt_save_dir"]),
        (
            lambda folder: (folder.mkdir(), (folder / "result.log").touch()),
            4,
            ["config.yaml", "result.log is MindCV's"],
        ),
        (lambda folder: make_run(folder, HEADER) and (folder / "metrics.csv").unlink(), 4, ["csv"]),
    ],
)
def test_what_is_no_run_folder_ends_in_one_message(capsys, tmp_path, make, code, words):
    make(tmp_path / "run")
    found, message = refused(capsys, tmp_path / "run")
    assert found == code and "Traceback" not in message
    for word in words:
        assert word in message


def test_options_that_contradict_or_cannot_be_written_are_refused(capsys, tmp_path):
    folder = make_run(tmp_path / "run", HEADER)
    assert "--no_eval contradicts" in refused(capsys, folder, "--no_eval", "--data_dir", "x")[1]
    code, message = refused(capsys, folder, "--no_eval", "--output", "/no/where.html")
    assert code == 2 and "/no/where.html cannot be written" in message
    assert "--worst" in refused(capsys, folder, "--worst", "-3")[1]
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "metrics.csv"]


def test_images_without_files_of_their_own_have_thumbnails_too(tmp_path):
    rows = np.zeros((10000, 1 + 3072), np.uint8)
    rows[41, 1:1025] = 200  # one red picture
    rows.tofile(tmp_path / "test_batch.bin")
    none = np.zeros(0)
    samples = open_samples("cifar10", str(tmp_path), "val")
    found = Predictions(
        Path("x"), False, None, None, none, none, none, none, samples, np.arange(10000)
    )
    pictures = make_thumbnails(found, [41, 7])
    for index, colour in ((41, (200, 0, 0)), (7, (0, 0, 0))):
        data = pictures[index].removeprefix("data:image/png;base64,")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (32, 32) and image.getpixel((5, 5)) == colour


def test_the_png_is_an_image_and_wants_the_extra(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    folder = make_run(tmp_path / "run", f"{HEADER}1,2,1.9,0.1,,,\r\n2,4,1.9,0.1,2,10,50\r\n")
    report(capsys, folder, "--no_eval", "--png", tmp_path / "new" / "run.png")
    with Image.open(tmp_path / "new" / "run.png") as image:
        assert image.format == "PNG" and min(image.size) > 300
    empty = make_run(tmp_path / "empty", HEADER)
    assert "nothing to draw" in refused(capsys, empty, "--no_eval", "--png", tmp_path / "x.png")[1]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, message = refused(capsys, folder, "--no_eval", "--png", tmp_path / "x.png")
    assert code == 2 and 'pip install ".[plots]"' in message

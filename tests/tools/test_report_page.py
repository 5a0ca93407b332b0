"""The page of `mindcv report`: what it shows of a run, and how it looks in a real browser."""

import base64
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browser import PROGRAM, Browser
from commands import tiny_regnet
from conftest import ROOT
from html_page import Page, contrast
from pictures import png
from run_folders import HEADER, make_run

from mindcv.__main__ import main
from mindcv.engine import Accuracy, ClassFigures, Runtime, describe_model
from mindcv.tools.report.page import draw_confusion, render_page
from mindcv.tools.report.predictions import Predictions
from mindcv.tools.report.run_folder import read_run_folder

GOLDEN = np.load(ROOT / "tests/golden/results.npz")
NAMES = (
    "ant",
    "a_long_class_name_without_a_single_blank",
    "another long name, of words",
    *"defghi",
)
COLUMNS = "epoch,step,train_loss,lr,val_loss,val_top1,val_top5,ema_val_loss,ema_val_top1,"
LOG = """\
2026-03-01 08:00:00,001 INFO mindcv-regnet 1.1.0, MindSpore 2.10.0 on CPU, graph mode, 1 process
2026-03-01 08:00:01,001 INFO model m: 2,319,482 parameters (2.32 M)
2026-03-01 08:10:00,001 INFO epoch 1: top-1 1.000 %
2026-03-02 09:00:00,001 INFO mindcv-regnet 1.1.0, MindSpore 2.10.0 on CPU, graph mode, 1 process
2026-03-02 09:00:30,001 INFO resumed from x
  a line of a message
2026-03-02 09:05:00,001 INFO done
"""


def averaging_run(folder: Path, epochs: int, rate=lambda update: 0.1) -> Path:
    """Write the folder of a run of 10 updates an epoch that evaluates raw and averaged weights."""
    rows = "".join(
        f"{e},{10 * e},{2 / e:.6f},{rate(10 * e - 1):.8g},{1.5 / e:.6f},{50 + e},{90 + e / 9:.4f},"
        f"{1.5 / e:.6f},{50 + e},{91 + e / 9:.4f},0\r\n"
        for e in range(1, epochs + 1)
    )
    schedule = dict(scheduler="cosine_decay", lr=0.1, min_lr=0.0, warmup_epochs=0)
    table = f"{COLUMNS}ema_val_top5,skipped\r\n{rows}"
    make_run(folder, table, epoch_size=epochs, ema=True, **schedule)
    (folder / "train.log").write_text(LOG, encoding="utf-8")
    (folder / "classes.json").write_text('{"num_classes": 9, "images": 320}', encoding="utf-8")
    return folder


def page_of(folder: Path, names=NAMES, labels=None, predicted=None) -> str:
    """Return the page of a run with predictions: by default of 80 images, 24 of them shown."""
    rng = np.random.default_rng(0)
    if labels is None:
        labels = rng.integers(0, len(names), 80)
        predicted = np.where(rng.random(80) < 0.6, labels, rng.integers(0, len(names), 80))
    samples = SimpleNamespace(name=lambda place: f"val/{names[labels[place]]}/{place}.png")
    found = Predictions(
        folder / "m_best.ckpt",
        averaged=True,
        accuracy=Accuracy(len(labels), 1.5, 100 * float(np.mean(labels == predicted)), 90.0),
        figures=ClassFigures.of(names, labels, predicted),
        labels=labels,
        predicted=predicted,
        losses=rng.random(len(labels)),
        shares=rng.random((len(labels), 2)),
        samples=samples,
        places=np.arange(len(labels)),
    )
    image = base64.b64encode(png(rng.integers(0, 255, (40, 60, 3)).astype(np.uint8))).decode()
    picture = f"data:image/png;base64,{image}"
    run = read_run_folder(str(folder))
    return render_page(run, found, dict.fromkeys(found.worst(24), picture), ["A note."])


def report(folder: Path) -> str:
    main(["report", str(folder), "--no_eval"])
    return (folder / "report.html").read_text(encoding="utf-8")


def curves(page: str) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each curve on the canvas, by its name."""
    found = re.findall(r'<path class="line [^"]+" d="M(.*?)"><title>(.*?)</title>', page)
    return {
        name: [tuple(map(float, pair.split())) for pair in line.split("L")] for line, name in found
    }


def test_the_page_says_when_how_long_and_on_what_was_trained(tmp_path):
    text = Page(report(averaging_run(tmp_path / "run", 3))).text
    for fact in (
        "started2026-03-01 08:00",
        "duration0:15:00 in 2 sessions",
        "parameters2,319,482",
        "training images320",
        "classes9",
        "MindSpore 2.10.0 on CPU",
        "epochs3 of 3",
    ):
        assert fact in text
    # The lines are those that a training writes.
    network, running = tiny_regnet(9), Runtime("CPU", 1, "O1", 0, 1).describe()
    log = LOG.replace(LOG.splitlines()[0].partition("INFO ")[2], running)
    log = log.replace("model m: 2,319,482 parameters", describe_model("m", network, 32)[0])
    (tmp_path / "run/train.log").write_text(log, encoding="utf-8")
    count = sum(parameter.size for parameter in network.trainable_params())
    text = Page(report(tmp_path / "run")).text
    assert running in text and f"parameters{count:,}" in text and "2 sessions" in text
    for name in ("train.log", "classes.json"):
        (tmp_path / "run" / name).write_text("2026-99-99 99:99:99,001 INFO mindcv-regnet {")
    text = Page(report(tmp_path / "run")).text
    assert "started" not in text and "duration" not in text
    (tmp_path / "run/train.log").write_text(
        LOG.replace("mindcv-regnet 1.1.0", "mindcv 1.0.0+regnet")
    )
    text = Page(report(tmp_path / "run")).text
    assert "duration0:15:00 in 2 sessions" in text and "mindcv 1.0.0+regnet, MindSpore" in text


def test_raw_and_averaged_weights_can_be_told_apart_everywhere(tmp_path):
    page = report(averaging_run(tmp_path / "run", 3))
    cards = dict(re.findall(r'<div class="card">(.*?)<b>(.*?)</b>', page))
    assert cards["best epoch"] == "3"
    for kind, top5 in (("averaged", "91.3333"), ("raw", "90.3333")):
        names = (f"{name}, {kind} weights" for name in ("top-1, %", "top-5, %", "validation loss"))
        assert [cards[name] for name in names] == ["53", top5, "0.5"]
    # Where they coincide, the raw curve shows in the gaps of the averaged one.
    lines = curves(page)
    raw, averaged = (f"top-1, %, {kind} weights" for kind in ("raw", "averaged"))
    assert lines[raw] == lines[averaged]
    dashed = re.findall(r'<path class="line c\d dashed" d="[^"]+"><title>(.*?)</title>', page)
    assert sorted(dashed) == sorted(name for name in lines if "averaged" in name)
    assert len(dashed) == 3
    table = page[page.index("<h2>Epochs") :]
    assert all(f">{name}</th>" in table for name in lines)


def test_the_rate_of_every_update_is_drawn_if_it_leads_to_those_of_metrics_csv(tmp_path):
    def cosine(update):  # Loshchilov and Hutter 2017, equation 5
        return 0.05 * (1 + math.cos(math.pi * update / 30))

    points = curves(report(averaging_run(tmp_path / "run", 3, cosine)))["learning rate"]
    assert len(points) == 30
    top, bottom = 12, 206  # of the canvas: 0.1 and 0
    for update, (_, y) in enumerate(points):
        assert y == pytest.approx(bottom - (bottom - top) * cosine(update) / 0.1, abs=0.06)
    other = report(averaging_run(tmp_path / "other", 3, lambda update: cosine(update) / 2))
    assert len(curves(other)["learning rate"]) == 3
    # Nor are those of more updates than a run has listed.
    table = tmp_path / "run/metrics.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("\n3,30,", "\n3,3e12,"))
    assert len(curves(report(tmp_path / "run"))["learning rate"]) == 3


def test_precision_recall_and_f1_of_each_class_equal_scikit_learns(tmp_path):
    labels, predicted = GOLDEN["labels"], GOLDEN["predicted"]
    page = page_of(averaging_run(tmp_path / "run", 1), tuple("abcdef"), labels, predicted)
    table = re.search(r"<summary>Precision, recall.*?</table>", page, re.S)[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>.*?</tr>", table)]
    np.testing.assert_array_equal([int(row[4]) for row in rows[1:]], GOLDEN["classes"][3])
    for row, figures in zip(rows[1:], GOLDEN["classes"].T):
        if figures[3]:
            found = np.array(row[1:4], float)
            np.testing.assert_allclose(found, 100 * figures[:3], atol=0.005001)
        else:  # a class without images is no mistake
            assert row[1:4] == ["", "", ""]
    assert 0 in GOLDEN["classes"][3]
    means = ", ".join(
        f"{name} {100 * mean:.2f} %"
        for name, mean in zip(("precision", "recall", "F1"), GOLDEN["macro"])
    )
    assert f"Mean of the classes: {means}." in page


def test_what_is_seen_only_is_told_in_words_too(tmp_path):
    tags = Page(page_of(averaging_run(tmp_path / "run", 3))).tags
    images = [attrs["alt"] for tag, attrs in tags if tag == "img"]
    assert len(images) == 24 and all(alt.startswith("image of class ") for alt in images)
    charts = [attrs["aria-label"] for tag, attrs in tags if tag == "svg"]
    assert charts[0].startswith("loss over epoch: training loss from 2 to 0.66667; ")
    for tag, attrs in tags:
        if tag == "div" and attrs.get("class", "").startswith("wide"):
            assert attrs["tabindex"] == "0" and attrs["role"] == "region" and attrs["aria-label"]
        assert tag != "th" or attrs.get("scope") in ("row", "col")


@pytest.mark.parametrize("epochs", [1, 2, 350, 12345])
def test_curves_of_short_and_long_runs_stay_on_the_canvas(tmp_path, epochs):
    rows = "".join(f"{e},{e},{9 / e:.6f},{0.1 / e:.8g},2,50,\r\n" for e in range(1, epochs + 1))
    page = report(make_run(tmp_path / "run", HEADER + rows))
    charts = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(charts) == 3
    for chart in charts:
        lines = re.findall(r'class="line c\d" d="M(.*?)"', chart)
        dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart)
        assert len(dots if epochs == 1 else lines) >= 1
        points = [tuple(map(float, pair.split())) for line in lines for pair in line.split("L")]
        points += [(float(x), float(y)) for x, y in dots]
        assert all(52 <= x <= 388 and 12 <= y <= 206 for x, y in points)
        assert max(len(line.split("L")) for line in lines or [""]) <= 2001
    if epochs > 1:
        ends = [points.split("L") for points in re.findall(r'class="line c0" d="M(.*?)"', page)]
        assert all(line[0].startswith("52.0 ") and line[-1].startswith("388.0 ") for line in ends)


def test_a_run_of_one_epoch_shows_that_epoch_and_whole_labels(tmp_path):
    row = "1,1,2.3,0.000123,2.1,50,\r\n"
    page = report(make_run(tmp_path / "run", HEADER + row))
    for chart in re.findall(r"<svg.*?</svg>", page, re.S):
        assert re.findall(r'text-anchor="middle">([\d.]+)</text>', chart) == ["1"]
        labels = re.findall(r'<text x="(\d+)" y="[\d.]+" dy=".35em"[^>]*>([^<]+)<', chart)
        assert len(labels) > 2
        assert all(int(right) >= 9 * len(label) for right, label in labels)
        (place,) = set(re.findall(r'<circle class="dot c\d" cx="([\d.]+)"', chart))
        assert f'<text x="{place}"' in chart  # the point stands over its epoch


@pytest.mark.parametrize("total", [1, 7, 50, 1300])
def test_digits_of_the_confusion_matrix_can_be_read_by_day_and_by_night(total):
    """WCAG 2.2 AA: a contrast of 4.5, counted from the page's own colours."""
    style = (ROOT / "mindcv/tools/report/page.css").read_text(encoding="utf-8")
    texts, backs = (colours(rf"--{name}: #(\w+)", style) for name in ("text", "back"))
    shades = {kind: tuple(map(int, rgb)) for kind, *rgb in re.findall(SHADE, style)}
    assert len(texts) == len(backs) == len(shades) == 2
    for count in {1, max(1, total // 10), max(1, total // 3), total}:
        counts = np.array([[count, total - count], [total - count, count]])
        cells = re.findall(CELL, draw_confusion(counts, ("a", "b")))
        assert len(cells) == 4 if total > count else 2
        for kind, shade in cells:
            for text, back in zip(texts, backs):
                mixed = np.array(shades[kind]) * float(shade) + np.array(back) * (1 - float(shade))
                assert contrast(mixed, text) >= 4.5


SHADE = r"\.(hit|miss) \{ background: rgb\((\d+) (\d+) (\d+) / var\(--shade\)\)"
CELL = r'<td class="(hit|miss)" style="--shade:([\d.]+)">'


def colours(pattern: str, style: str) -> list[tuple[int, ...]]:
    return [tuple(bytes.fromhex(found)) for found in re.findall(pattern, style)]


def test_many_classes_are_listed_by_their_most_frequent_confusions():
    counts = np.eye(60, dtype=int) * 10
    counts[7, 3], counts[3, 9] = 4, 6
    names = tuple(f"class <{number}>" for number in range(60))
    text = draw_confusion(counts, names)
    rows = re.findall(r"<tr><td.*?</tr>", text)
    assert [re.findall(r">([^<>]+)</td>", row) for row in rows] == [
        ["class &lt;3&gt;", "class &lt;9&gt;", "6", "37.5 %"],
        ["class &lt;7&gt;", "class &lt;3&gt;", "4", "28.6 %"],
    ]
    assert 'class="heat"' not in text
    assert 'class="heat"' in draw_confusion(counts[:50, :50], names[:50])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not PROGRAM:
        pytest.skip("no chromium or google-chrome is installed")
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_all_of_the_page_legibly(browser, tmp_path, width, scheme):
    """Of a run with everything, and of one epoch; contrasts are those of WCAG 2.2, level AA."""
    page = tmp_path / "page.html"
    for epochs in (1, 30):
        text = page_of(averaging_run(tmp_path / f"run{epochs}", epochs))
        page.write_text(text.replace("<details>", "<details open>"), encoding="utf-8")
        browser.show(page, width, scheme)
        browser.run(SCRIPT)
        assert browser.run("document.documentElement.scrollWidth") == width
        assert browser.run("faint(4.5)") == []
        assert browser.run("faintCurves(3)") == []
        assert browser.run("tiny(11)") == []
        assert browser.run("overlaps()") == []
        assert browser.run("unloaded()") == []
        # A table that is too wide scrolls to its last column, and says so on a telephone.
        assert browser.run("hidden()") == []
        hints = browser.run("hints()")
        assert any(hints) if width == 390 else not any(hints)
        assert browser.run("withoutHint()") == []
        pixels = browser.picture()
        assert pixels.shape[1] == width and pixels.shape[0] > 1000
        corner = pixels[:8, :8].reshape(-1, 3)
        assert (corner == ((255, 255, 255) if scheme == "light" else (0x15, 0x18, 0x1C))).all()
        # No part of the page that holds something is a plain area.
        for left, top, right, bottom in browser.run("boxes()"):
            area = pixels[top:bottom, left:right].reshape(-1, 3)
            assert len(np.unique(area, axis=0)) > 3, (left, top, right, bottom)


SCRIPT = """
const rgba = text => {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = (a, b) => [0, 1, 2].map(i => a[3] * a[i] + (1 - a[3]) * b[i]).concat(1);
const back = element => {
  if (!element) return [255, 255, 255, 1];
  const own = rgba(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, back(element.parentElement));
};
const light = colour => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => {
  const c = colour[i] / 255;
  return sum + share * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
}, 0);
const contrast = (colour, element) => {
  const below = back(element), levels = [over(rgba(colour), below), below].map(light);
  return (Math.max(...levels) + 0.05) / (Math.min(...levels) + 0.05);
};
const all = selector => [...document.querySelectorAll(selector)];
const texts = () => all("body *").filter(element => element.tagName !== "title" &&
  [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
const scale = element => element.ownerSVGElement ?
  element.ownerSVGElement.getBoundingClientRect().width / 400 : 1;
const told = element => `${element.tagName} ${element.textContent.slice(0, 40)}`;
const faint = least => texts().filter(element => {
  const style = getComputedStyle(element);
  return contrast(element.ownerSVGElement ? style.fill : style.color, element) < least;
}).map(told);
const faintCurves = least => all(".line, .dot").filter(element => {
  const style = getComputedStyle(element);
  return contrast(style.stroke === "none" ? style.fill : style.stroke, element) < least;
}).map(told);
const tiny = least => texts().filter(element =>
  parseFloat(getComputedStyle(element).fontSize) * scale(element) < least).map(told);
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 &&
  a.top < b.bottom - 1 && b.top < a.bottom - 1;
const overlaps = () => all("svg").flatMap(svg => {
  const labels = [...svg.querySelectorAll("text")].map(e => [e, e.getBoundingClientRect()]);
  return labels.flatMap(([e, a], i) => labels.slice(i + 1).filter(([, b]) => meet(a, b))
    .map(([other]) => told(e) + " and " + told(other)));
});
const unloaded = () => all("img").filter(e => !e.naturalWidth || !e.alt).map(told);
const tooWide = () => all(".wide").filter(e => e.scrollWidth > e.clientWidth);
const hint = element => getComputedStyle(element, "::before").content;
const hints = () => tooWide().map(element => hint(element).includes("Scroll sideways"));
const withoutHint = () => innerWidth > 640 ? [] :
  tooWide().filter(element => hint(element) === "none").map(told);
const hidden = () => tooWide().filter(element => {
  element.scrollLeft = element.scrollWidth;
  const end = element.querySelector("tr").lastElementChild.getBoundingClientRect().right;
  const isHidden = end > element.getBoundingClientRect().right + 1;
  element.scrollLeft = 0;
  return isHidden;
}).map(told);
const boxes = () => all(".card, .chart, .mistake, .note, .wide, svg, img, footer").map(element => {
  const box = element.getBoundingClientRect();
  return [box.left, box.top + scrollY, box.right, box.bottom + scrollY].map(Math.round);
});
"""

"""Charts: points stand where their axes say, in the SVG as in the numbers."""

import re

import pytest
from html_page import Page

from mindcv.tools.charts import Chart, draw_charts


def dots(svg: str) -> list[tuple[float, float]]:
    found = re.findall(r'<circle class="dot c0" cx="([\d.]+)" cy="([\d.]+)"', svg)
    return [(float(x), float(y)) for x, y in found]


def x_labels(svg: str) -> dict[float, float]:
    """Return the ticks of the horizontal axis: value -> place."""
    found = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([\d.]+)</text>', svg)
    return {float(value): float(place) for place, value in found}


def test_a_logarithmic_axis_gives_equal_ratios_equal_distances():
    points = [(3.0, 1.0), (6.0, 2.0), (12.0, 3.0), (48.0, 4.0)]
    svg = draw_charts([Chart("error", {"models": points}, x_axis="log", dots=("models",))])
    places = [x for x, _ in dots(svg)]
    first, second, third = (b - a for a, b in zip(places, places[1:]))
    assert second == pytest.approx(first, abs=0.2) and third == pytest.approx(2 * first, abs=0.2)
    assert list(x_labels(svg)) == [2, 4, 8, 16, 32, 64]
    heights = [y for _, y in dots(svg)]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("axis", ["real", "log"])
def test_band_mark_and_points_stand_at_their_values_between_the_ticks(axis):
    chart = Chart(
        "error",
        {"models": [(1.0, 30.0), (8.0, 31.0)]},
        x_axis=axis,
        dots=("models",),
        mark=4.0,
        band=(2.0, 16.0),
    )
    svg = draw_charts([chart])
    ticks = x_labels(svg)
    assert min(ticks) <= 1 and max(ticks) >= 16
    left, width = map(
        float, re.search(r'class="band" x="([\d.]+)" .*?width="([\d.]+)"', svg).groups()
    )
    mark = float(re.search(r'class="best" d="M([\d.]+) ', svg)[1])
    scale = [(value, place) for value, place in ticks.items() if value in (0, 5, 10, 20, 2, 4, 16)]
    (low, at_low), (high, at_high) = scale[0], scale[-1]
    if axis == "real":
        for value, place in (
            (2.0, left),
            (16.0, left + width),
            (4.0, mark),
            (1.0, dots(svg)[0][0]),
        ):
            expected = at_low + (value - low) / (high - low) * (at_high - at_low)
            assert place == pytest.approx(expected, abs=0.3)
    else:
        assert left == pytest.approx(ticks[2.0], abs=0.2)
        assert left + width == pytest.approx(ticks[16.0], abs=0.2)
        assert mark == pytest.approx(ticks[4.0], abs=0.2)


def test_many_octaves_and_many_curves_stay_readable():
    curves = {f"space <{number}>": [(1.0, 0.0), (2.0**30, number)] for number in range(9)}
    html = draw_charts([Chart("share", curves, x_axis="log")])
    assert len(x_labels(html)) <= 9
    page = Page(html)  # every element closed, names are text
    assert all(name in page.text for name in curves)
    assert {"c0", "c5"} <= set(re.findall(r'class="line (c\d)"', html))
    assert draw_charts([]) == ""

"""Charts: round ticks, thinned lines, and nothing outside of the picture, whatever the numbers."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pages import Page
from tod.report.charts import (
    Line,
    Mark,
    bar,
    change,
    line_chart,
    points_chart,
    reliability,
    smoothed,
    thinned,
    ticks,
)
from tod.runtime.calibration import Bin, Calibration

FLOATS = st.floats() | st.floats(-1e12, 1e12)
POINTS = st.lists(st.tuples(st.integers(-9, 10**6).map(float), FLOATS), min_size=1, max_size=400)
FINITE = st.floats(-1e12, 1e12)


def places(svg: str) -> list[float]:
    """Every x and y that is drawn at."""
    found = [float(v) for v in re.findall(r' (?:[xy][12]?|c[xy])="([-\d.e+]+)"', svg)]
    found += [
        float(v) for path in re.findall(r' d="M([^"]*)"', svg) for v in re.split("[ L]", path)
    ]
    return found


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.5, 1]), (0, 100, [0, 50, 100]), (0, 60, [0, 20, 40, 60]),
        (0.8, 1, [0.8, 0.85, 0.9, 0.95, 1]), (5, 5, [5]), (-3, 3, [-2, 0, 2]),
    ],
)  # fmt: skip
def test_ticks_are_round(low, high, wanted):
    assert ticks(low, high, 4) == wanted


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.integers(1, 10))
def test_ticks_are_few_and_inside(low, high, count):
    found = ticks(low, high, count)
    assert 1 <= len(found) <= 3 * count + 2
    if high > low and len(found) > 1:
        room = (high - low) * 1e-6 + 1e-9
        assert all(low - room <= value <= high + room for value in found)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=400))
def test_a_thinned_line_is_short_and_between_its_values(points):
    found = thinned(points, 50)
    assert 1 <= len(found) <= 50
    low, high = min(y for _, y in points), max(y for _, y in points)
    room = 1e-9 * max(abs(low), abs(high), 1)
    assert all(low - room <= y <= high + room for _, y in found)


def test_smoothed_is_the_mean_of_the_last_few():
    assert smoothed([(1, 2.0), (2, 4.0), (3, 9.0)], 2) == [(1, 2.0), (2, 3.0), (3, 6.5)]


@given(POINTS, st.booleans())
def test_lines_stay_inside_the_picture(points, dots):
    svg = line_chart("loss", [Line("loss", sorted(points), dots)], [Mark(1, "kept 1", "kept")])
    assert Page(svg).open == []
    assert all(math.isfinite(v) and -1 <= v <= 361 for v in places(svg))


@given(st.lists(st.floats(-3, 1), min_size=1, max_size=30))
def test_shares_stay_inside_the_picture(shares):
    points = [(float(i), share) for i, share in enumerate(shares)]
    svg = line_chart("accuracy", [Line("test", points, dots=True)], percent=True)
    assert all(-1 <= v <= 361 for v in places(svg))


def test_a_loss_over_decades_is_drawn_by_its_logarithm():
    svg = line_chart("loss", [Line("loss", [(1, 10.0), (2, 0.1), (3, 0.001)])])
    assert {"0.01", "0.1", "1", "10"} <= set(re.findall(r">([\d.]+)</text>", svg))


def test_values_that_are_no_number_are_left_out():
    svg = line_chart("loss", [Line("loss", [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)])])
    assert "nan" not in svg
    assert "inf" not in svg
    assert "nan" not in line_chart("loss", [Line("loss", [(1, math.nan)])])
    assert "nan" not in points_chart("x", [(math.nan, 1.0)])


@given(POINTS)
def test_points_stay_inside_the_picture(points):
    assert all(-1 <= v <= 361 for v in places(points_chart("x", points)))


def test_a_bin_that_is_too_sure_is_seen():
    bins = (Bin(0.8, 0.9, 4, 0.85, 0.5), Bin(0.9, 1.0, 0, 0.0, 0.0), Bin(0.5, 0.6, 2, 0.55, 1.0))
    svg = reliability(Calibration(0.3, bins))
    assert svg.count("<rect") == 2
    assert "bin over" in svg
    assert "bin under" in svg
    assert "4 answers of 85 %: 50 % are right" in svg


def test_bars_and_changes_keep_to_their_width():
    assert 'width="100"' in bar(7.0)
    assert bar(None).count("<rect") == 1
    assert "better" in change(0.1, 0.9)
    assert "worse" in change(0.9, 0.1)
    assert all(0 <= v <= 300 for v in places(change(-5, 5)))

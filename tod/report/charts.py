"""Small charts as SVG: lines over cycles, reliability, points, bars.

Knows numbers and the names of lines; colours come from the style of the page, by class. All are
drawn for the width of a telephone, and stand side by side on a wide screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tod.report.markup import Markup, joined, tag
from tod.runtime.calibration import Calibration

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 20, 32, 36
_MOST_DOTS = 240
_DECADES = 30.0  # a line that spans more is drawn by its logarithm
_LARGEST = 1e30  # beyond it, and where a value is none, nothing is drawn

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """`kind` is the class of its style: "loss", "test", "rate", "faint"; `dots` marks each
    point."""

    kind: str
    points: Sequence[Point]
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """Something that happened at a place on the x axis."""

    x: float
    text: str
    kind: str


class _Axes:
    """From values to px."""

    def __init__(self, x: Point, y: Point, *, log: bool = False) -> None:
        self.x, self.y, self.log = x, y, log

    def place(self, point: Point) -> Point:
        low, high = self.y
        value = point[1]
        if self.log:
            low, high, value = (math.log10(v) for v in (low, high, max(value, low)))
        across = (point[0] - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (value - low) / ((high - low) or 1)
        wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + across * wide, _HEIGHT - _BOTTOM - up * tall

    def frame(self, x_label: str, y_ticks: Sequence[float], *, percent: bool) -> Markup:
        parts = []
        for value in y_ticks:
            _, y = self.place((self.x[0], value))
            shown = f"{100 * value:.0f} %" if percent else f"{value:.3g}"
            parts.append(tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
            parts.append(tag("text", shown, x=_LEFT - 6, y=y + 4, text_anchor="end"))
        for value in ticks(*self.x, 4):
            x, _ = self.place((value, self.y[0]))
            shown = f"{100 * value:.0f} %" if percent and self.x == (0, 1) else f"{value:.5g}"
            parts.append(tag("text", shown, x=x, y=_HEIGHT - 20, text_anchor="middle"))
        parts.append(tag("text", x_label, class_="axis", x=_WIDTH - _RIGHT, y=_HEIGHT - 5,
                         text_anchor="end"))  # fmt: skip
        return joined(*parts)


def ticks(low: float, high: float, count: int) -> list[float]:
    """About so many round numbers from low to high."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(count, 1)
    if rough <= 0 or not math.isfinite(rough):
        return [low]
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((m * size for m in (1, 2, 5) if m * size >= rough * 0.99), 10 * size)
    if not step:
        return [low]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    found = [round(i * step, 12) if step > 1e-9 else i * step for i in range(first, last + 1)]
    return found or [low]  # no round number lies between them


def thinned(points: Sequence[Point], most: int = _MOST_DOTS) -> list[Point]:
    """At most so many points: each is the mean of its neighbours."""
    every = math.ceil(len(points) / most)
    if every <= 1:
        return list(points)
    groups = [points[i : i + every] for i in range(0, len(points), every)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def smoothed(points: Sequence[Point], width: int) -> list[Point]:
    """The mean of each point and up to `width` before it."""
    found, total = [], 0.0
    for i, (x, y) in enumerate(points):
        total += y
        if i >= width:
            total -= points[i - width][1]
        found.append((x, total / min(i + 1, width)))
    return found


def line_chart(
    title: str,
    lines: Sequence[Line],
    marks: Sequence[Mark] = (),
    *,
    percent: bool = False,
    linear: bool = False,
    last: int | None = None,
) -> Markup:
    """Lines over the cycles of a run.

    Args:
        title: said to who cannot see it.
        lines: what is not finite of them is left out.
        marks: a vertical line for each.
        percent: shares, on an axis up to 1 that begins below the least of them.
        linear: also where the values span decades.
        last: the last cycle of the x axis.
    """
    axes = _axes_of(lines, percent=percent, linear=linear, last=last)
    scale = _log_ticks(*axes.y) if axes.log else ticks(*axes.y, 4)
    drawn = [axes.frame("cycle", scale, percent=percent)]
    drawn += [_mark(axes, mark) for mark in marks]
    drawn += [_line(axes, line) for line in lines]
    return _svg(title, *drawn)


def _axes_of(lines: Sequence[Line], *, percent: bool, linear: bool, last: int | None) -> _Axes:
    every = [point for line in lines for point in _drawable(line.points)]
    values = [y for _, y in every] or [0.0]
    places = [0.0, float(last or 1), 1.0, *(x for x, _ in every)]
    across = (min(places), max(places))
    low, high = min(values), max(values)
    if percent:
        return _Axes(across, (_below(low), 1.0))
    if not linear and low > 0 and high / low > _DECADES:
        return _Axes(across, (low * 0.8, high * 1.25), log=True)
    bottom, top = min(low, 0.0), high * 1.08 if high > 0 else high
    return _Axes(across, (bottom, top if top > bottom else bottom + 1))


def _below(share: float) -> float:
    """Where the axis of shares begins: a tenth below the least of them, at 0 if none is less."""
    tenth = math.floor(share * 10 - 0.2) / 10
    return tenth if share < 0 else max(0.0, tenth)


def reliability(found: Calibration) -> Markup:
    """How many of the answers of each probability are right; on the diagonal it is as said."""
    axes = _Axes((0, 1), (0, 1))
    base = axes.place((0, 0))[1]
    parts = [axes.frame("probability of the answer", ticks(0, 1, 4), percent=True)]
    for one in found.bins:
        if one.answers:
            x, y = axes.place((one.low, one.accuracy))
            right, _ = axes.place((one.high, 0))
            kind = "over" if one.accuracy < one.confidence else "under"
            parts.append(tag(
                "rect",
                tag("title", f"{one.answers} answers of {100 * one.confidence:.0f} %: "
                    f"{100 * one.accuracy:.0f} % are right"),
                class_=f"bin {kind}", x=x + 1, y=y, width=right - x - 2,
                height=max(base - y, 1.5),
            ))  # fmt: skip
    (x1, y1), (x2, y2) = axes.place((0, 0)), axes.place((1, 1))
    parts.append(tag("line", class_="ideal", x1=x1, y1=y1, x2=x2, y2=y2))
    return _svg("share of right answers by their probability", *parts)


def points_chart(title: str, points: Sequence[Point]) -> Markup:
    """True values across, what the model says up; on the diagonal the two are the same."""
    drawn = _drawable(points)
    values = [value for point in drawn for value in point]
    low, high = min(values, default=0.0), max(values, default=0.0)
    room = (high - low) * 0.05 or 1.0
    span = (low - room, high + room)
    axes = _Axes(span, span)
    (x1, y1), (x2, y2) = axes.place((span[0], span[0])), axes.place((span[1], span[1]))
    dots = [_dot(axes, point, "point", 2.5) for point in drawn]
    ideal = tag("line", class_="ideal", x1=x1, y1=y1, x2=x2, y2=y2)
    return _svg(title, axes.frame("true", ticks(*span, 4), percent=False), ideal, *dots)


def bar(share: float | None, kind: str = "") -> Markup:
    """A share as a bar of the width of its cell."""
    width = 100 * min(max(share or 0.0, 0.0), 1.0)
    return tag(
        "svg",
        tag("rect", class_="rest", width=100, height=6, rx=3),
        tag("rect", class_="part", width=width, height=6, rx=3) if width else None,
        class_=f"bar {kind}".strip(), viewBox="0 0 100 6", preserveAspectRatio="none",
        aria_hidden="true",
    )  # fmt: skip


def change(before: float, after: float) -> Markup:
    """Two shares on one line, from the hollow dot to the full one."""
    x1, x2 = (6 + 288 * min(max(share, 0.0), 1.0) for share in (before, after))
    kind = "better" if after > before else "worse" if after < before else "same"
    return tag(
        "svg",
        tag("line", class_="rail", x1=6, x2=294, y1=8, y2=8),
        tag("line", class_="way", x1=x1, x2=x2, y1=8, y2=8),
        tag("circle", class_="old", cx=x1, cy=8, r=3.5),
        tag("circle", class_="new", cx=x2, cy=8, r=4.5),
        class_=f"change {kind}", viewBox="0 0 300 16", aria_hidden="true",
    )  # fmt: skip


def _drawable(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if abs(x) < _LARGEST and abs(y) < _LARGEST]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, (last - first) // 5)
    return [10.0**i for i in range(first, last + 1, every) if low <= 10.0**i <= high]


def _line(axes: _Axes, line: Line) -> Markup:
    finite = _drawable(line.points)
    places = [axes.place(point) for point in thinned(finite)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else ""
    radius = 4.5 if len(finite) == 1 else 3
    dots = [_dot(axes, point, line.kind, radius) for point in finite] if line.dots else []
    if len(dots) > _MOST_DOTS:
        dots = []
    return joined(tag("path", class_=f"line {line.kind}", d=path) if path else None, *dots)


def _dot(axes: _Axes, point: Point, kind: str, radius: float) -> Markup:
    x, y = axes.place(point)
    return tag("circle", class_=f"dot {kind}", cx=x, cy=y, r=radius)


def _mark(axes: _Axes, mark: Mark) -> Markup:
    x, _ = axes.place((mark.x, axes.y[0]))
    left = x > _WIDTH / 2
    # Above the lines, one below the other: the two may stand at the same cycle.
    y = 11 if mark.kind == "stop" else 24
    label = tag(
        "text", mark.text, class_=mark.kind, x=x - 5 if left else x + 5, y=y,
        text_anchor="end" if left else "start",
    )  # fmt: skip
    line = tag("line", class_=f"mark {mark.kind}", x1=x, x2=x, y1=y - 6, y2=_HEIGHT - _BOTTOM)
    return joined(line, label)


def _svg(title: str, *parts: Markup) -> Markup:
    return tag(
        "svg", tag("title", title), *parts,
        class_="chart", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img",
    )  # fmt: skip

"""The sections of a report on the training: its curves, its settings, what it ran on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from tod.format.manifest import Manifest
from tod.report.charts import Line, Mark, line_chart, smoothed
from tod.report.contents import Contents
from tod.report.course import REASONS, Course
from tod.report.markup import Markup, cut, joined, name, tag
from tod.report.page_parts import (
    Section,
    cell,
    folded,
    head,
    note,
    number,
    number_head,
    pairs,
    table,
)
from tod.report.tables import ratio

_SMOOTHED = 60  # cycles from which on a mean is drawn over the single losses
_HIDDEN = ("pictures", "data_sha256", "cycle", "min_loss", "best_accuracy", "best_cycle", "stale")


def curves(course: Course | None) -> Section | None:
    """Loss, accuracy and rate over the cycles; None where no run is known."""
    if course is None or not (course.cycles or course.tests):
        return None
    last = max([*course.cycles, *course.tests])
    marks = _marks(course)
    figures = [_loss(course, marks, last), _accuracy(course, marks, last), _rate(course, last)]
    shown = [figure for figure in figures if figure is not None]
    text = joined(note(_how_it_ended(course)), tag("div", *shown, class_="charts"))
    return "curves", "Training", text


def settings(contents: Contents) -> Section:
    manifest = contents.manifest
    parts: list[object] = [tag("h3", "Model"), pairs(_model(manifest))]
    if run := _run(contents):
        parts += [tag("h3", "Training"), pairs(run)]
    parts = [tag("div", *parts)]
    facts = [joined(tag("h3", key), pairs(rows)) for key, rows in contents.facts.items() if rows]
    body = [tag("div", *parts, tag("div", *facts), class_="two"), _history(manifest)]
    if contents.course is not None and contents.course.notices:
        notices = tag(
            "ul", *(tag("li", cut(one, 400)) for one in contents.course.notices), class_="note"
        )
        body.append(folded(f"what the run said ({len(contents.course.notices)})", notices))
    return "settings", "Settings, versions, timing", joined(*body)


def _how_it_ended(course: Course) -> str:
    stopped = course.stopped
    if stopped is None:
        return f"The records end at cycle {max(course.cycles, default=0)}: the run did not end."
    asked = course.started.run.cycles if course.started else stopped.cycle
    early = f" of {asked}" if stopped.cycle < asked else ""
    kept = f" Cycle {stopped.kept_cycle} is kept." if course.tests else " The last cycle is kept."
    why = REASONS.get(stopped.reason, stopped.reason)
    times = len(course.resumed_at)
    resumed = f" It was resumed {f'{times} times' if times > 1 else 'once'}." if times else ""
    return f"Training ended after cycle {stopped.cycle}{early}: {why}.{kept}{resumed}"


def _marks(course: Course) -> list[Mark]:
    marks = [Mark(at - 1, "", "resumed") for at in course.resumed_at]
    stopped = course.stopped
    if stopped is None:
        return marks
    if stopped.reason in ("target", "patience", "interrupted", "time"):
        text = {"target": "target reached", "patience": "early stop"}.get(stopped.reason, "stopped")
        marks.append(Mark(stopped.cycle, text, "stop"))
    marks.append(Mark(stopped.kept_cycle, f"kept {stopped.kept_cycle}", "kept"))
    return marks


def _loss(course: Course, marks: list[Mark], last: int) -> Markup | None:
    points = [(float(c.number), c.loss) for c in course.cycles.values()]
    if not points:
        return None
    lines = [Line("loss", points)]
    if len(points) >= _SMOOTHED:
        lines = [Line("loss faint", points), Line("loss", smoothed(points, len(points) // 20))]
    least = min(y for _, y in points)
    caption = _caption("Loss", f"of each batch, least {least:.4g}, last {points[-1][1]:.4g}")
    return tag("figure", caption, line_chart("loss by cycle", lines, marks, last=last))


def _accuracy(course: Course, marks: list[Mark], last: int) -> Markup | None:
    lines = []
    if course.tests:
        lines.append(Line("test", [(float(x), y) for x, y in course.tests.items()], dots=True))
    if course.final is not None:
        lines.append(Line("final", [(float(course.final.cycle), course.final.accuracy)], dots=True))
    if not any(line.points for line in lines):
        return None
    said = []
    if course.tests:
        said.append(f"test, orange, best {_score(course, max(course.tests.values()))}")
    if course.final is not None:
        said.append(f"validation, green, {_score(course, course.final.accuracy)}")
    is_share = course.metric == "accuracy"
    title = "Accuracy" if is_share else course.metric
    chart = line_chart(f"{title} by cycle", lines, marks, percent=is_share, linear=True, last=last)
    return tag("figure", _caption(title, "; ".join(said)), chart)


def _rate(course: Course, last: int) -> Markup | None:
    points = [(float(c.number), c.lr) for c in course.cycles.values() if c.lr is not None]
    if not points:
        return None
    schedule = str(course.started.run.schedule) if course.started else ""
    caption = _caption(
        "Learning rate", f"{schedule}, from {points[0][1]:.3g} to {points[-1][1]:.3g}"
    )
    chart = line_chart("learning rate by cycle", [Line("rate", points)], last=last)
    return tag("figure", caption, chart)


def _score(course: Course, value: float) -> str:
    return f"{100 * value:.1f} %" if course.metric == "accuracy" else ratio(value)


def _caption(title: str, text: str) -> Markup:
    return tag("figcaption", tag("b", title), f" {text}")


def _model(m: Manifest) -> Iterable[tuple[str, object]]:
    hyper = ", ".join(f"{key} {_said(v)}" for key, v in m.optimizer.hyperparameters.items())
    yield "backbone", f"{m.backbone.name}, {m.backbone.precision}"
    yield "weights", m.backbone.weights.source
    yield "head", m.head
    yield "trainable", m.trainable
    yield "quantities" if m.loss.task == "regression" else "classes", str(m.class_count)
    if m.input is not None:
        yield "input", f"{m.input.size_px} px, {m.input.interpolation}, crop {m.input.crop}"
    else:
        yield "input", f"{m.samples.dtype} {' x '.join(map(str, m.samples.shape))}"
    yield "loss", m.loss.name.replace("_", " ")
    yield "optimizer", f"{m.optimizer.name}, {hyper}" if hyper else m.optimizer.name


def _run(contents: Contents) -> list[tuple[str, object]]:
    """Of the run that the records tell of; the history has those before."""
    course = contents.course
    if course is None or course.started is None:
        return []
    started = course.started
    shown = asdict(started.run) | {"schedule": str(started.run.schedule)}
    rows: list[tuple[str, object]] = [("started from", name(started.model))]
    for key, value in shown.items():
        if key not in _HIDDEN:
            rows.append((key.replace("_", " "), _said(value)))
    rows.append(("trainable parameters", f"{started.trainable_parameters:,}"))
    rows.append(("threads", str(started.threads)))
    return rows


def _history(m: Manifest) -> Markup | None:
    if not m.history:
        return None
    heads = (
        "run", *map(number_head, ("cycles", "kept", "rate", "seed", "test", "validation")),
        "ended by", "on",
    )  # fmt: skip
    rows = [
        (
            head(str(place)), number(e.cycles), number(e.kept_cycle), number(f"{e.lr:g}"),
            number(e.seed), number(ratio(e.test_accuracy)), number(ratio(e.validation_accuracy)),
            cell(REASONS.get(e.stopped, e.stopped)), cell(e.runtime),
        )
        for place, e in enumerate(m.history, 1)
    ]  # fmt: skip
    return joined(tag("h3", "All runs of this model"), table(heads, rows, "wide"))


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)

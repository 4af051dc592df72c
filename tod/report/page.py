"""The page of a report: records in, one HTML text out, which needs nothing beside it.

No script, no font, no picture from elsewhere: its own policy forbids the browser all of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from tod.report import page_answers, page_data, page_run
from tod.report.contents import Contents
from tod.report.markup import Markup, cut, name, tag
from tod.report.style import sheet
from tod.report.tables import percent, ratio
from tod.runtime.scoring import interval, mean_f1


def page(contents: Contents) -> str:
    """The whole page; UTF-8."""
    style = sheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # Only this style and pictures that are in the page itself; everything else is forbidden.
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    sections = [
        page_run.curves(contents.course),
        page_answers.before_and_after(contents),
        page_answers.by_class(contents),
        page_answers.confusion(contents),
        page_answers.worst(contents),
        page_answers.doubtful(contents),
        page_answers.calibration(contents),
        page_answers.quantities(contents),
        page_data.findings(contents),
        page_run.settings(contents),
    ]
    shown = [section for section in sections if section is not None]
    links = [tag("a", title, href=f"#{key}") for key, title, _ in shown]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"Report of {cut(contents.model)}"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        tag("header", tag("h1", name(contents.model)), _summary(contents), tag("nav", *links)),
        tag(
            "main",
            _tiles(contents),
            *(tag("section", tag("h2", title), inside, id=key) for key, title, inside in shown),
        ),
        tag("footer", f"Made by TOD on {contents.made}. This page is one file: it asks nothing of "
            "the network, and can be sent as it is."),
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _summary(contents: Contents) -> Markup:
    found, before = contents.evaluation, contents.before
    is_share = found.metric == "accuracy"
    shown = percent if is_share else ratio
    score = f"{shown(found.accuracy)} right answers" if is_share else f"R2 {shown(found.accuracy)}"
    was = ""
    if before is not None and before.evaluation is not None:
        was = f", {shown(before.evaluation.accuracy)} before"
    new = "" if contents.trained else " The model was never trained: its head is random."
    stopped = None if contents.course is None else contents.course.stopped
    if stopped is not None and stopped.reason == "interrupted":
        new += f" The run was interrupted after cycle {stopped.cycle}: this is what it had learned."
    on = f" on {found.pictures} validation pictures of "
    return tag("p", score, on, name(contents.data), f"{was}.{new}", class_="soft")


def _tiles(contents: Contents) -> Markup:
    tiles = [*_score_tiles(contents), *_kept_tile(contents)]
    items = (tag("li", tag("b", value), tag("span", text)) for value, text in tiles)
    return tag("ul", *items, class_="tiles")


def _score_tiles(contents: Contents) -> Iterator[tuple[str, str]]:
    found = contents.evaluation
    is_share = found.metric == "accuracy"
    if not is_share:
        yield ratio(found.accuracy), "R2: the share of the variance that is explained"
    elif found.total == found.pictures:
        low, high = interval(found.correct, found.total)
        yield (
            percent(found.accuracy),
            (f"accuracy; with 95 % certainty {100 * low:.0f} to {100 * high:.0f} %"),
        )
    else:
        yield percent(found.accuracy), "accuracy over all pictures and classes"
    before = contents.before
    if before is not None and before.evaluation is not None:
        by = found.accuracy - before.evaluation.accuracy
        yield f"{100 * by:+.1f}" if is_share else f"{by:+.4f}", "points of change by training"
    if (mean := mean_f1(found.scores.values())) is not None:
        yield percent(mean), "mean F1 of the classes"
    if contents.calibration is not None:
        error = 100 * contents.calibration.error
        yield f"{error:.1f}", "points between probability and truth"


def _kept_tile(contents: Contents) -> Iterator[tuple[str, str]]:
    course, runs = contents.course, contents.manifest.history
    if course is not None and course.stopped is not None:
        yield f"{course.stopped.kept_cycle} of {course.stopped.cycle}", "cycle that is kept"
    elif runs:
        yield f"{runs[-1].kept_cycle} of {runs[-1].cycles}", "cycle that is kept"

"""Parts that several sections of a report's page are made of: tables, lists, pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from tod.report.charts import bar
from tod.report.contents import Shot
from tod.report.markup import Markup, cut, joined, name, tag
from tod.report.tables import percent

# Its anchor, its title, and what is in it.
Section = tuple[str, str, Markup]


def table(heads: Sequence[object], rows: Iterable[Sequence[Markup]], kind: str = "") -> Markup:
    """A table that is scrolled by itself where it is wider than the screen.

    Args:
        heads: of the columns; a Markup is a whole cell.
        rows: cells, as `cell` and `head` make them.
        kind: its class.
    """
    first = [one if isinstance(one, Markup) else tag("th", one, scope="col") for one in heads]
    made = tag(
        "table",
        tag("thead", tag("tr", *first)),
        tag("tbody", *(tag("tr", *row) for row in rows)),
        class_=kind or None,
    )
    return tag("div", made, class_="scroll", tabindex="0")


def head(value: object) -> Markup:
    """The first cell of a row."""
    return tag("th", value, scope="row")


def cell(value: object, kind: str | None = None) -> Markup:
    return tag("td", value, class_=kind)


def number(value: object) -> Markup:
    return cell(value, "n")


def number_head(value: str) -> Markup:
    return tag("th", value, scope="col", class_="n")


def note(*parts: object) -> Markup:
    """A sentence that explains."""
    return tag("p", *parts, class_="note")


def folded(summary: str, inside: Markup) -> Markup:
    """What is opened with a touch."""
    return tag("details", tag("summary", summary), inside)


def picture(data: bytes | None, path: str) -> Markup:
    alt = f"picture {cut(path)}"
    if data is None:
        return tag("div", "no picture", class_="blank", role="img", aria_label=alt)
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return tag("img", src=source, alt=alt, loading="lazy")


def pairs(found: Iterable[tuple[str, object]]) -> Markup:
    """Names and values."""
    return tag("dl", *(joined(tag("dt", key), tag("dd", value)) for key, value in found))


def shot(one: Shot, *, shares: bool) -> Markup:
    """A picture with what it is and what the model says.

    Args:
        shares: the answers are probabilities, with a bar for each.
    """
    answers = []
    for answer, value in one.answers:
        answers += [name(answer), tag("span", percent(value) if shares else f"{value:.4g}")]
        if shares:
            kind = "is" if answer == one.label or answer in one.label.split(", ") else "not"
            answers.append(tag("div", bar(value, kind)))
    own = (
        tag("span", f"{percent(one.own)} for it", class_="soft")
        if shares and one.label not in [answer for answer, _ in one.answers]
        else None
    )
    return tag(
        "li",
        picture(one.thumbnail, one.path),
        tag("p", tag("b", name(one.label)), " " if own else None, own),
        tag("div", *answers, class_="says"),
        tag("div", name(one.path), class_="path"),
    )

"""The section of a report on the data: what `tod check` finds, with pictures."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from tod.data.check import Doubt, Finding
from tod.report.contents import OF_FINDING, Contents, paths_of
from tod.report.markup import Markup, cut, joined, name, tag
from tod.report.page_parts import Section, note, picture
from tod.report.tables import percent

_ITEMS = 6


def findings(contents: Contents) -> Section:
    counts = ", ".join(f"{count} {split}" for split, count in contents.pictures.items())
    total = sum(contents.pictures.values())
    kind = "quantities" if contents.manifest.loss.task == "regression" else "classes"
    classes = f"{len(contents.evaluation.by_class)} {kind}"
    intro = note(name(contents.data), f": {classes}, {total} pictures ({counts}).")
    if not contents.findings:
        fine = tag("p", tag("span", "ok", class_="badge ok"), "Nothing is wrong with pictures and "
                   "labels.")  # fmt: skip
        return "data", "Data", joined(intro, fine)
    made = [_finding(one, contents) for one in contents.findings]
    return "data", "Data", joined(intro, *made)


def _finding(one: Finding, contents: Contents) -> Markup:
    thumbs = [
        tag("div", *(picture(contents.thumbnails[path], path) for path in paths), class_="thumb")
        for item in one.items[:OF_FINDING]
        if (paths := [p for p in paths_of(one, item) if p in contents.thumbnails])
    ]
    items = [tag("li", _item(item, one.kind)) for item in one.items[:_ITEMS]]
    if (more := len(one.items) - _ITEMS) > 0:
        items.append(tag("li", f"and {more} more: tod check --json has all"))
    return tag(
        "div",
        tag("p", tag("span", one.severity, class_=f"badge {one.severity}"), _sentence(one.text)),
        tag("p", _sentence(one.hint), class_="note") if one.hint else None,
        tag("div", *thumbs, class_="thumbs") if thumbs else None,
        tag("ul", *items) if items else None,
        class_="finding",
    )


def _sentence(text: str) -> str:
    return f"{cut(text[:1].upper() + text[1:], 400)}."


def _item(item: Any, kind: str) -> Markup:
    if isinstance(item, Doubt):
        path, label, own, says, share = astuple(item)
        return joined(name(path), ": ", name(label), f" {percent(own)}, the model says ",
                      name(says), f" {percent(share)}")  # fmt: skip
    if isinstance(item, tuple):
        between = " = " if kind.endswith(("contradiction", "leak", "duplicate")) else ": "
        parts = [joined(between if place else None, name(one)) for place, one in enumerate(item)]
        return joined(*parts[:_ITEMS])
    return name(item)

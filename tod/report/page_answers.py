"""The sections of a report on what the model answers: by class, confusion, pictures, calibration.

Each gives its anchor, title and text, or None where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from tod.report.charts import bar, change, points_chart, reliability
from tod.report.contents import Contents
from tod.report.markup import Markup, cut, joined, name, tag
from tod.report.page_parts import (
    Section,
    cell,
    folded,
    head,
    note,
    number,
    number_head,
    shot,
    table,
)
from tod.report.tables import percent, ratio
from tod.runtime.class_score import ClassScore, Confusion
from tod.runtime.scoring import confused

MATRIX_CLASSES = 20  # more do not fit a screen
PAIRS = 30
_ROWS = 25  # of a table before it is folded
_CHANGES = 20
_QUANTITIES = 6
_SHORT_NAME = 3  # letters that the head of a column takes


def before_and_after(contents: Contents) -> Section | None:
    before = contents.before
    if before is None:
        return None
    key, title = "before", "Before and after"
    if before.evaluation is None:
        text = note(
            "The model before, ",
            name(before.name),
            f", was not compared: {cut(before.why_not, 400)}",
        )
        return key, title, text
    old, new = before.evaluation.by_class, contents.evaluation.by_class
    is_share = contents.evaluation.metric == "accuracy"
    shown = percent if is_share else ratio
    both = [(c, old[c], after) for c, after in new.items() if c in old]
    both.sort(key=lambda row: row[2] - row[1])
    few = both
    if len(both) > _CHANGES:
        few = [*both[: _CHANGES // 2], *both[-_CHANGES // 2 :]]
    rows = [
        (
            head(name(c)), cell(change(a, b) if is_share else "", "hide"), number(shown(a)),
            number(shown(b)), _points(a, b, is_share=is_share),
        )
        for c, a, b in few
    ]  # fmt: skip
    a, b = before.evaluation.accuracy, contents.evaluation.accuracy
    rows.append((
        head(tag("b", "all")), cell(change(a, b) if is_share else "", "hide"), number(shown(a)),
        number(shown(b)), _points(a, b, is_share=is_share),
    ))  # fmt: skip
    heads = ("class", tag("th", "", class_="hide"), number_head("before"), number_head("after"),
             number_head("change"))  # fmt: skip
    what = {
        "single-label": "The share of each class that is recognised (recall)",
        "multi-label": "The share of right answers about each class",
        "regression": "R2 of each quantity",
    }[contents.manifest.loss.task]
    some = f" The {len(few)} classes of {len(both)} that changed most." if few != both else ""
    return key, title, joined(
        note(f"{what} on the same validation pictures, by ", name(before.name), " and by the model "
             f"of this report; what lost most stands first.{some}"),
        table(heads, rows, "wide"),
    )  # fmt: skip


def by_class(contents: Contents) -> Section | None:
    scores = contents.evaluation.scores
    if not scores:
        return None
    order = sorted(scores, key=lambda c: (2.0 if (f := scores[c].f1) is None else f, c))
    rows = [_class_row(c, scores[c]) for c in order]
    heads = (
        "class", tag("th", "pictures", scope="col", class_="n hide"), number_head("precision"),
        number_head("recall"), number_head("F1"), tag("th", "", class_="barcell"),
    )  # fmt: skip
    return "classes", "By class", joined(
        note("Precision: of the pictures that are called so, the share that are. Recall: of the "
             "pictures that are so, the share that is called so. F1 is their harmonic mean. All in "
             "percent; the weakest class stands first."),
        _folded_table(heads, rows),
    )  # fmt: skip


def confusion(contents: Contents) -> Section | None:
    found, task = contents.evaluation, contents.manifest.loss.task
    if not found.confusion:
        return None
    names = list(found.scores)
    if task == "multi-label":
        heads = ("class", *map(number_head, ("yes as yes", "yes as no", "no as yes", "no as no")))
        pairs = zip(names, found.confusion, strict=True)
        rows = [(head(name(c)), *map(number, row)) for c, row in pairs]
        return "confusion", "Confusion", _folded_table(heads, rows)
    if len(names) <= MATRIX_CLASSES:
        inside = joined(_most_confused(names, found.confusion), _matrix(names, found.confusion))
    else:
        inside = joined(_most_confused(names, found.confusion), _pairs(names, found.confusion))
    return "confusion", "Confusion", inside


def _most_confused(names: Sequence[str], matrix: Confusion) -> Markup:
    pairs = confused(matrix)
    if not pairs:
        return note("No picture was taken for another class.")
    true, said, count = pairs[0]
    return note(
        "Taken for another class most often: ", name(names[true]), " for ", name(names[said]),
        f", {count} of {sum(matrix[true])} pictures.",
    )  # fmt: skip


def _matrix(names: Sequence[str], matrix: Confusion) -> Markup:
    """Few classes: every cell, the darker, the larger its share of the row."""
    is_short = max(map(len, names)) <= _SHORT_NAME  # digits beside numbers would confuse
    numbers = [str(place + 1) for place in range(len(names))]
    columns = [tag("th", name(one), scope="col") for one in names] if is_short else numbers
    rows = []
    for true, counts in enumerate(matrix):
        total = max(sum(counts), 1)
        cells = []
        for said, count in enumerate(counts):
            step = max(1, round(10 * count / total))
            kind = f"{'h' if true == said else 'm'}{step}" if count else "zero"
            cells.append(cell(count or "·", kind))
        number_of = None if is_short else tag("span", numbers[true])
        rows.append((head(joined(number_of, name(names[true]))), *cells))
    return joined(
        table(("is \\ taken for", *columns), rows, "matrix"),
        note("A row for each true class, a column for each answer, in the same order. The "
             "darker, the larger the share of the row; right answers lie on the diagonal."),
    )  # fmt: skip


def _pairs(names: Sequence[str], matrix: Confusion) -> Markup:
    """Many classes: what is confused most."""
    pairs = confused(matrix)
    hidden = len(pairs) - PAIRS
    more = f" {hidden} more pairs are left out." if hidden > 0 else ""
    rows = []
    for true, said, count in pairs[:PAIRS]:
        share = count / sum(matrix[true])
        rows.append((
            head(name(names[true])), cell(name(names[said])), number(count),
            number(percent(share)), cell(bar(share, "low"), "barcell"),
        ))  # fmt: skip
    heads = ("is", "taken for", number_head("pictures"), number_head("of the class"),
             tag("th", "", class_="barcell"))  # fmt: skip
    return joined(
        note(f"A matrix of {len(names)} classes fits no screen: these are the pairs that are "
             f"confused most.{more} tod eval --json has the whole matrix."),
        table(heads, rows, "wide") if rows else None,
    )  # fmt: skip


def _folded_table(heads: Sequence[object], rows: Sequence[Sequence[Markup]]) -> Markup:
    """The first rows, and the others when they are asked for."""
    first = table(heads, rows[:_ROWS], "wide")
    if len(rows) <= _ROWS:
        return first
    more = table(heads, rows[_ROWS:], "wide")
    return joined(first, folded(f"the other {len(rows) - _ROWS} classes", more))


def worst(contents: Contents) -> Section | None:
    if not contents.worst:
        return None
    shares = contents.evaluation.metric == "accuracy"
    what = (
        "Validation pictures with a wrong answer; the first is the one that the model found least "
        "likely to be what it is. Green is the label, which may itself be wrong."
        if shares
        else "Validation pictures with the largest errors."
    )
    shots = [shot(one, shares=shares) for one in contents.worst]
    return "worst", "Worst pictures", joined(note(what), tag("ul", *shots, class_="shots"))


def doubtful(contents: Contents) -> Section | None:
    if not contents.doubtful:
        return None
    shots = [shot(one, shares=True) for one in contents.doubtful]
    what = ("Validation pictures, right or wrong, for which the model could hardly decide. More "
            "pictures like these help it most.")  # fmt: skip
    return (
        "doubtful",
        "Most doubtful pictures",
        joined(note(what), tag("ul", *shots, class_="shots")),
    )


def calibration(contents: Contents) -> Section | None:
    found = contents.calibration
    if found is None:
        return None
    answers = sum(one.answers for one in found.bins)
    sure = sum(one.answers * (one.confidence - one.accuracy) for one in found.bins) / max(
        answers, 1
    )
    points = abs(100 * sure)
    kind = "too sure" if sure > 0 else "too careful"
    lean = "neither too sure nor too careful" if points < 1 else f"{points:.1f} points {kind}"
    rows = [
        (
            head(f"{100 * one.low:.0f} to {100 * one.high:.0f} %"), number(one.answers),
            number(percent(one.confidence)), number(percent(one.accuracy)),
        )
        for one in found.bins
        if one.answers
    ]  # fmt: skip
    heads = ("said with", number_head("answers"), number_head("said, mean"), number_head("right"))
    return "calibration", "Calibration", joined(
        note("Of the answers given with 80 %, 80 % should be right. On average over the answers, "
             f"probability and truth are {100 * found.error:.1f} points apart (expected "
             f"calibration error); as a whole the model is {lean}."),
        tag("div", tag("figure", tag("figcaption", "share of right answers; the dashed line is "
                                     "perfect"), reliability(found)), table(heads, rows, "wide"),
            class_="two"),
    )  # fmt: skip


def quantities(contents: Contents) -> Section | None:
    if not contents.points:
        return None
    shown = list(contents.points.items())[:_QUANTITIES]
    figures = [
        tag("figure", tag("figcaption", tag("b", name(key)),
                          f", R2 {ratio(contents.evaluation.by_class[key])}"),
            points_chart("said over true values", points))
        for key, points in shown
        if points
    ]  # fmt: skip
    hidden = len(contents.points) - len(shown)
    more = f" {hidden} more quantities are left out." if hidden else ""
    return (
        "quantities",
        "Quantities",
        joined(
            note(f"True values across, what the model says up.{more}"),
            tag("div", *figures, class_="charts"),
        ),
    )


def _points(before: float, after: float, *, is_share: bool) -> Markup:
    by = 100 * (after - before) if is_share else after - before
    kind = "better" if by > 0 else "worse" if by < 0 else ""
    return cell(f"{by:+.1f}" if is_share else f"{by:+.4f}", f"n {kind}".strip())


def _class_row(c: str, score: ClassScore) -> tuple[Markup, ...]:
    low = "low" if (score.f1 or 0) < 0.5 else ""
    return (
        head(name(c)), cell(score.pictures, "n hide"), number(_share(score.precision)),
        number(_share(score.recall)), number(_share(score.f1)),
        cell(bar(score.f1, low), "barcell"),
    )  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"

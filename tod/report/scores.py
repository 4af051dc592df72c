"""Scores by class and the confusion matrix, as tables on stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tod.report.tables import print_table, ratio
from tod.runtime.class_score import ClassScore, Confusion
from tod.runtime.scoring import confused, mean_f1
from tod.system.text import shown

_MATRIX_CLASSES = 12  # more columns do not fit a terminal
_PAIRS = 10
_SHORT_NAME = 3  # letters that the head of a column takes


def print_scores(
    scores: Mapping[str, ClassScore], matrix: Confusion, *, one_class: bool = True
) -> None:
    """Precision, recall and F1 of each class, and what is taken for what. Nothing for measured
    quantities, which have neither.

    Args:
        scores: in the order of the classes.
        matrix: as in `tod.runtime.scoring.Evaluation`.
        one_class: each picture has one class; else yes and no for each, which the scores say all
            about.
    """
    if not scores:
        return
    names = [shown(name) for name in scores]
    rows = [
        (name, str(one.pictures), ratio(one.precision), ratio(one.recall), ratio(one.f1))
        for name, one in zip(names, scores.values(), strict=True)
    ]
    rows.append(("mean F1", "", "", "", ratio(mean_f1(scores.values()))))
    print_table("", ("class", "pictures", "precision", "recall", "F1"), rows, dense=True)
    if not one_class:
        return
    if len(names) <= _MATRIX_CLASSES:
        _print_matrix(names, matrix)
    else:
        _print_pairs(names, matrix)


def _print_matrix(names: Sequence[str], matrix: Confusion) -> None:
    columns, heads = names, names
    if max(map(len, names)) > _SHORT_NAME:  # digits beside numbers would confuse
        columns = [str(place + 1) for place in range(len(names))]
        heads = [f"{number} {name}" for number, name in zip(columns, names, strict=True)]
    rows = [
        (name, *(str(count) if count else "." for count in row))
        for name, row in zip(heads, matrix, strict=True)
    ]
    print_table("", ("is \\ taken for", *columns), rows, dense=True)


def _print_pairs(names: Sequence[str], matrix: Confusion) -> None:
    pairs = confused(matrix)
    rows = [
        (names[true], names[said], str(count), str(sum(matrix[true])))
        for true, said, count in pairs[:_PAIRS]
    ]
    if not rows:
        return
    print_table("", ("is", "taken for", "pictures", "of"), rows, dense=True)
    if (more := len(pairs) - len(rows)) > 0:
        print(f"... and {more} more (--json has the whole matrix)")

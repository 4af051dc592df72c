"""Turn one file that holds many samples into classes and samples of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from tod.data import array_rows, repository_rows, table_rows
from tod.data.left_out import summary
from tod.data.opening import Found, Step
from tod.data.own_splits import share_out
from tod.data.rows import Columns, Rows, content_hashes, finite, identities
from tod.data.samples import MIN_PICTURES, LeftOut, Sample, check_classes, check_splits
from tod.data.targets import contradiction_notice, contradictions
from tod.errors import DataError

_READERS: dict[str, Callable[[Path, Columns], Rows]] = {
    **dict.fromkeys((".csv", ".tsv"), table_rows.read_rows),
    **dict.fromkeys((".npy", ".npz"), array_rows.read_rows),
    ".json": repository_rows.read_rows,
}
SUFFIXES = tuple(_READERS)


def from_rows(path: Path, seed: int, columns: Columns) -> Generator[Step, None, Found]:
    """Read a file of samples. Equal rows of a table may go to different splits, equal arrays not.

    Raises:
        DataError: it is not readable, or has too few samples.
        UsageError: it has no such columns.
    """
    rows = _READERS[path.suffix.lower()](path, columns)
    yield len(rows.names), len(rows.names)
    good = finite(rows.values)
    problems = dict(rows.problems)
    problems |= {
        name: "it has numbers that are not finite"
        for name, ok in zip(rows.names, good, strict=True)
        if not ok
    }
    left_out = tuple(LeftOut(name, "", reason) for name, reason in problems.items())
    kept = [index for index, ok in enumerate(good) if ok]
    hashes = content_hashes(rows.values)
    names = [rows.names[index] for index in kept]
    contents = [hashes[index] for index in kept]
    labels = [0 if rows.labels is None else int(rows.labels[index]) for index in kept]
    if rows.labels is not None:
        check_classes(path, rows.answers, labels, contents, left_out, what="samples")
    elif len(set(contents)) < MIN_PICTURES:
        raise DataError(
            f"{path}: {len(set(contents))} different samples can be read; at least "
            f"{MIN_PICTURES} are needed",
            hint="; ".join(summary(path, left_out)[:3]) or "add some",
        )
    own = {name: one for name, one in rows.own.items() if name not in problems}
    units = identities(contents) if rows.draws else contents
    splits, said = share_out(path, names, labels, units, seed, own)
    targets = rows.targets
    samples = tuple(
        Sample(
            name, label, split, content, unit,
            None if targets is None else tuple(targets[index].tolist()), index,
        )
        for name, label, split, content, unit, index in zip(
            names, labels, splits, contents, units, kept, strict=True
        )
    )  # fmt: skip
    if rows.labels is None:
        groups = contradictions([(s.path, s.targets or (), s.sha256) for s in samples])
        said += contradiction_notice(path, groups)
    else:
        check_splits(path, rows.answers, samples)
    notices = (*summary(path, left_out), *said)
    return Found(
        rows.answers, samples, seed, notices=notices, left_out=left_out,
        rows=rows.values, columns=rows.columns,
    )  # fmt: skip

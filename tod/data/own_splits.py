"""Splits and groups that the owner of the pictures chose: splits.csv, or columns of another table.

A row names a file and its split (`train`, `test` or `validation`; empty lets the rule choose), or
the group that it belongs to (one person, one burst, one day), or both. Pictures of a group are
always in the same split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tod.data.splits import FRACTIONS, Split, assign_splits
from tod.data.table import existing, read_table
from tod.errors import DataError
from tod.system.names import listed

SPLITS_NAME = "splits.csv"
COLUMNS = ("split", "group")
SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "te", "tst"), "test"),
    **dict.fromkeys(("validation", "val", "valid", "validate", "dev"), "validation"),
}


@dataclass(frozen=True)
class Own:
    """The owner's choice for one picture."""

    split: Split | None = None
    group: str | None = None


def own_of(where: str, row: Mapping[str, str]) -> Own:
    """Read the columns `split` and `group` of a table's row.

    Args:
        where: the file and line, for error messages.

    Raises:
        DataError: the split is unknown.
    """
    word = row.get("split", "").strip()
    if word and word.lower() not in SPLIT_WORDS:
        raise DataError(
            f"{where}: the split is '{word}', wanted {', '.join(FRACTIONS)} or nothing",
            hint="nothing lets TOD choose",
        )
    return Own(SPLIT_WORDS.get(word.lower()), row.get("group", "").strip() or None)


def read_own(root: Path) -> dict[str, Own]:
    """Read splits.csv in a folder: file -> split and group; empty if there is no such file.

    Raises:
        DataError: it is not readable, or contradicts itself on a file.
    """
    path = root / SPLITS_NAME
    if not path.is_file():
        return {}
    try:
        table = read_table(path, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if "file" not in table.header or not set(COLUMNS) & set(table.header):
        raise DataError(
            f"{path}: its first line is '{','.join(table.header)}'; wanted are the columns "
            "file and split, or file and group, or all three",
            hint="for example: file,split,group",
        )
    rows = [(row.number, dict(zip(table.header, row.cells, strict=False))) for row in table.rows]
    files = existing(root, [cells.get("file", "") for _, cells in rows])
    found: dict[str, Own] = {}
    for number, cells in rows:
        file = files[cells.get("file", "")]
        own = own_of(f"{path} line {number}", cells)
        if found.setdefault(file, own) != own:
            raise DataError(
                f"{path} line {number}: {file} stands there twice, with another split or group",
                hint="keep one of the lines",
            )
    return found


def joined(first: Mapping[str, Own], second: Mapping[str, Own]) -> dict[str, Own]:
    """Merge two sets of choices; if both name a split or group for a picture, the second wins."""
    found = dict(first)
    for file, own in second.items():
        before = found.get(file, Own())
        found[file] = Own(own.split or before.split, own.group or before.group)
    return found


def share_out(
    root: Path,
    files: Sequence[str],
    labels: Sequence[int],
    contents: Sequence[str],
    seed: int,
    own: Mapping[str, Own],
) -> tuple[list[Split], list[str]]:
    """Assign a split to each picture: the owner's if given, else by content and seed.

    If every picture has a given split, and they are only `train` and one other, that other becomes
    `validation`, for the final score, and `test` is taken from the `train` pictures.

    Args:
        root: the folder, for messages.
        files: files of the pictures, named as in `own`.
        labels, contents, seed: see `assign_splits`.
        own: the owner's choices, by file.

    Returns:
        The splits, and notices for the user about them.
    """
    said = [own.get(file, Own()) for file in files]
    fixed = [one.split for one in said]
    notices = []
    if strangers := sorted(set(own) - set(files)):
        notices.append(
            f"{root}: splits are given for {len(strangers)} files that are no pictures of it, "
            f"e.g. {listed(strangers[:3])}"
        )
    given = {split for split in fixed if split is not None}
    fractions = dict(FRACTIONS)
    if len(given) == 2 and "train" in given and None not in fixed:
        (other,) = given - {"train"}
        fixed = [None if split == "train" else "validation" for split in fixed]
        fractions = {"train": 0.75, "test": 0.25, "validation": 0.0}
        notices.append(
            f"{root}: the {other} pictures are the validation split; a quarter of the train "
            "pictures is the test split, which chooses the best cycle"
        )
    splits = assign_splits(
        labels, contents, seed, groups=[o.group for o in said], fixed=fixed, fractions=fractions
    )
    if moved := _moved(files, fixed, splits):
        notices.append(
            f"{root}: {len(moved)} pictures were given another split than equal ones or their "
            f"group; all of these count as {listed(sorted(set(moved.values())))}, e.g. "
            f"{listed(sorted(moved)[:3])}"
        )
    return splits, notices


def _moved(
    files: Sequence[str], fixed: Iterable[Split | None], splits: Iterable[Split]
) -> dict[str, Split]:
    found = zip(files, fixed, splits, strict=True)
    return {file: split for file, wanted, split in found if wanted not in (None, split)}

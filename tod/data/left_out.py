"""Make short messages on files and folders that give no sample, by reason and class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tod.data.samples import LeftOut
from tod.data.walk import DESCRIPTION, OWN, TOOL
from tod.system.names import listed

_EXAMPLES = 3
_MOST_LINES = 20


def told(left_out: Iterable[LeftOut]) -> list[LeftOut]:
    """Return the entries that a user should know of, without files that describe the data."""
    return [one for one in left_out if one.reason not in (DESCRIPTION, OWN)]


def rows(left_out: Iterable[LeftOut]) -> list[dict[str, str]]:
    """Return all entries as `--json` shows them."""
    return [{"path": one.path, "class": one.class_name, "reason": one.reason} for one in left_out]


def summary(root: Path, left_out: Iterable[LeftOut]) -> list[str]:
    """Write a sentence for each file if there are few of a kind; else one sentence for the kind.

    Files made by other programs are summed up in one sentence.
    """
    kinds: dict[tuple[str, str], list[LeftOut]] = defaultdict(list)
    tools: Counter[str] = Counter()
    classes: dict[str, set[str]] = defaultdict(set)
    for one in told(left_out):
        if one.reason.startswith(TOOL):
            tools[one.reason.removeprefix(TOOL).strip(" ()")] += 1
        else:
            classes[one.reason].add(one.class_name)
            kinds[one.reason, one.class_name].append(one)
    lines: list[str] = []
    for reason, names in classes.items():
        groups = [kinds[reason, name] for name in sorted(names)]
        if len(groups) > _EXAMPLES and sum(map(len, groups)) > 2 * _EXAMPLES:
            groups = [[one for group in groups for one in group]]
        for group in groups:
            lines += _of_kind(root, reason, group)
    if (hidden := len(lines) - _MOST_LINES) > 0:
        lines[_MOST_LINES:] = [f"... and {hidden} more such lines; 'tod check --json' has all"]
    if tools:
        names_of = [f"{name} ({n})" if n > 1 else name for name, n in sorted(tools.items())]
        lines.append(f"{root}: passed over, as other programs made it: {listed(names_of)}")
    return lines


def _of_kind(root: Path, reason: str, group: Sequence[LeftOut]) -> list[str]:
    if len(group) <= _EXAMPLES:
        return [f"{_place(root, one.path)} was passed over: {reason}" for one in group]
    names = sorted({one.class_name for one in group})
    some = listed([name for name in names if name][:_EXAMPLES])
    of = f" of class {some}" if len(names) == 1 else f" of {len(names)} classes ({some} ...)"
    examples = listed([one.path for one in group[:_EXAMPLES]])
    of = "" if names == [""] else of
    return [f"{root}: {len(group)} files{of} were passed over: {reason}; e.g. {examples}"]


def _place(root: Path, path: str) -> str:
    """Where it is: a file of the folder, or a part of the file."""
    return f"{root} {path}" if root.is_file() else str(root / path)

"""Write a trained model where an earlier one lies: that one stays, as a generation of the file.

`tod.format.generations` says how generations are kept; here none is a second copy of the file that
lies there: it becomes a generation when it gives way, by a link where the disk knows links. So a
run that repeats takes no more room at its end than a run that does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tod.errors import ArtifactError
from tod.format import artifact
from tod.format.generations import (
    Event,
    Scores,
    Shelf,
    bytes_of,
    digest,
    file_name,
    folder_of,
    locked,
    look,
    now,
    present,
    put_in_place,
    remove_left,
    remove_old,
    written,
)
from tod.format.manifest import HistoryEntry, Manifest
from tod.system.files import sync, write_whole

KEEP = 3


@dataclass(frozen=True)
class Earlier:
    """The model that gave way.

    Attributes:
        generation: the number that it is kept under.
        last: its last training, None where it had none or is no readable .tod file.
        notices: what a user should know about the generations.
    """

    generation: int
    last: HistoryEntry | None
    notices: tuple[str, ...]


def check(path: Path) -> None:
    """Find out before the work that the file there could not be kept.

    Raises:
        ArtifactError: it, or the log of its generations, cannot be read.
    """
    remove_left(path)
    look(path)


def write(
    path: Path,
    data: bytes,
    *,
    what: Literal["trained", "merged", "signed"],
    source: Path,
    scores: Scores | None = None,
    keep: int = KEEP,
    overwrite: bool = False,
) -> Earlier | None:
    """Write a model whole; another one that lies there becomes a generation first.

    Args:
        path: where it goes; of a link, the file that it names is replaced.
        data: a whole .tod file.
        what: how it was made.
        source: from which file.
        scores: how good it is.
        keep: number of generations that stay, beside the best one of all.
        overwrite: do not keep what lies there.

    Returns:
        What gave way; None where nothing did, or the same bytes.

    Raises:
        ArtifactError: something cannot be read or written; what lies there is whole.
    """
    named, path = path, path.resolve()
    has_generations = folder_of(path).is_dir()
    sha256, before = hashlib.sha256(data).hexdigest(), digest(path) if path.exists() else None
    if before == sha256 or (not has_generations and (before is None or overwrite)):
        artifact.write_bytes(path if named.is_symlink() else named, data)
        return None
    with locked(path):
        shelf = look(path)
        events, files = ((), {}) if overwrite else present(shelf, b"")
        for number in files:  # by a link: what it holds need not be read
            _set_aside(shelf, number)
        generation = events[0].generation if events else shelf.generation
        event = Event(
            what=what, when=now(), generation=shelf.next_number + len(events), before=generation,
            sha256=sha256, source=str(source.resolve()), scores=scores,
        )  # fmt: skip
        last = _last_training(path)
        put_in_place(shelf, (*events, event), data, {})
        shelf_now = look(path)
        remove_old(shelf_now, keep, also=_best(shelf_now.kept.items()))
    if overwrite or generation is None:
        return None
    return Earlier(generation, last, shelf.notices)


def _set_aside(shelf: Shelf, number: int) -> None:
    place = folder_of(shelf.served) / file_name(number, shelf.sha256 or "")
    with written(shelf.served):
        try:
            os.link(shelf.served, place)
        except OSError:  # it is there already, torn or not, or this disk knows no links
            write_whole(place, bytes_of(shelf.served))
        with contextlib.suppress(OSError):
            sync(place)


def _last_training(path: Path) -> HistoryEntry | None:
    found = _manifest(path) if path.is_file() else None
    return found.history[-1] if found and found.history else None


def _best(kept: Iterable[tuple[int, Path]]) -> set[int]:
    """The generation with the best score on validation pictures, the latest of equal ones."""
    scores = [
        (last.validation_accuracy, number)
        for number, path in kept
        if (last := _last_training(path)) and last.validation_accuracy is not None
    ]
    return {max(scores)[1]} if scores else set()


def _manifest(path: Path) -> Manifest | None:
    try:
        return artifact.read_manifest(path)
    except ArtifactError:
        return None

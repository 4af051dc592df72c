"""Write a trained model to the place of an earlier one, which stays as a generation of the file.

`tod.format.generations` says how generations are kept. Here the present file has no second copy: it
becomes a generation only when it is replaced, by a link if the disk supports links. So a repeated
run takes no more room at its end than a first run.
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
    """The model that was replaced.

    Attributes:
        generation: the number of its generation.
        last: its last training; None if it had none or is no readable .tod file.
        notices: messages for the user about the generations.
    """

    generation: int
    last: HistoryEntry | None
    notices: tuple[str, ...]


def check(path: Path) -> None:
    """Check before the work that the file at `path` can be kept.

    Raises:
        ArtifactError: the file or the log of its generations cannot be read.
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
    """Write a whole model; a model that is there already becomes a generation first.

    Args:
        path: where it is written; if this is a link, the file that it names is replaced.
        data: a whole .tod file.
        what: how it was made.
        source: the file that it was made from.
        scores: its scores.
        keep: number of generations that stay, beside the best of all.
        overwrite: do not keep the earlier model.

    Returns:
        The replaced model; None if there was none or it had the same bytes.

    Raises:
        ArtifactError: something cannot be read or written; the earlier model is still whole.
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
        except OSError:  # it is there already, perhaps cut off, or this disk has no links
            write_whole(place, bytes_of(shelf.served))
        with contextlib.suppress(OSError):
            sync(place)


def _last_training(path: Path) -> HistoryEntry | None:
    found = _manifest(path) if path.is_file() else None
    return found.history[-1] if found and found.history else None


def _best(kept: Iterable[tuple[int, Path]]) -> set[int]:
    """Find the generation with the best validation accuracy; of equal ones, the latest."""
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

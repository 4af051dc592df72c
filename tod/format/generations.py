"""The generations of a model file: each is a whole file, and a log says what was put in place.

`SERVED.tod.generations/` beside the file holds `<number>-<16 hex of its SHA-256>.tod` for each
generation, and `log.json`. If `tod promote` put the served file in place, its own generation is
there too. A change is written in this order: the generation, the log, the served file. The number
of the served generation is never written down: it is the generation with the same bytes as the
served file. So a change that was cut off between log and served file can be recognised, and counts
as not made. docs/format.md describes the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from tod.errors import ArtifactError
from tod.format.container import MAX_FILE_BYTES
from tod.system.files import read_regular, remove_unfinished, write_whole
from tod.system.files import sha256 as sha256_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOG = "log.json"
_KEPT = re.compile(r"([0-9]+)-([0-9a-f]{16})\.tod")


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores that decided a promotion: both models on the same pictures.

    Attributes:
        accuracy: score of the promoted model; `metric` says what it counts.
        served_accuracy: score of the replaced model; None if none was served.
        correct: right predictions of the promoted model, of `total`.
        served_correct: right predictions of the replaced model.
        data_sha256: digest of the dataset.
    """

    accuracy: float
    served_accuracy: float | None
    correct: int
    served_correct: int | None
    total: int
    metric: str
    margin: float
    data_sha256: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A generation was put in place.

    Attributes:
        what: "promoted" by `tod promote`; "trained", "merged" or "signed": written there by a
            command; "found": it was at the served path but not in the log; "rolled back": put there
            again.
        when: local time with its offset.
        generation: its number.
        sha256: SHA-256 of its file.
        before: the generation that was served until then, to which a rollback goes; None for none.
        source: the file that it came from.
        scores: scores of a promotion or a training.
    """

    what: Literal["promoted", "trained", "merged", "signed", "found", "rolled back"]
    when: str
    generation: int
    sha256: str
    before: int | None = None
    source: str = ""
    scores: Scores | None = None


class _Log(msgspec.Struct, frozen=True):
    format: Literal["tod-generations"]
    schema: Literal[1]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Shelf:
    """The served file and its generations on disk.

    Attributes:
        served: the file.
        sha256: SHA-256 of the file; None if there is no file.
        generation: the generation that it holds; None if unknown.
        events: the changes, the latest last; without a change that was cut off.
        kept: number -> file of the generations that are there.
        notices: messages for the user.
    """

    served: Path
    sha256: str | None
    generation: int | None
    events: tuple[Event, ...]
    kept: dict[int, Path]
    notices: tuple[str, ...]

    @property
    def introduced(self) -> dict[int, Event]:
        """The event that brought each generation."""
        return {e.generation: e for e in self.events if e.what != "rolled back"}

    @property
    def next_number(self) -> int:
        return 1 + max((event.generation for event in self.events), default=0)

    def earlier(self) -> list[int]:
        """The generations before the served one, the latest first: a rollback goes through them. If
        the served file is missing or unknown, the list begins with the last change."""
        introduced = self.introduced
        if self.generation is None:
            chain = [event.generation for event in self.events[-1:]]
        else:
            chain = _before(introduced, self.generation)
        while chain and (more := _before(introduced, chain[-1])):
            chain += more
        return chain


def folder_of(served: Path) -> Path:
    """Return the folder that keeps the generations of a served file."""
    return served.with_name(f"{served.name}.generations")


def look(served: Path) -> Shelf:
    """Read the state on disk; changes nothing.

    Raises:
        ArtifactError: the log or the served file cannot be read.
    """
    served = served.resolve()  # a link stays one: the file that it names is replaced
    sha256 = digest(served) if served.exists() else None
    files = _files(folder_of(served))
    events = _read_log(folder_of(served)) or _events_of(files)
    notices = []
    last = events[-1] if events else None
    # What the served file held before the last event.
    earlier = events[-2].sha256 if len(events) > 1 else None
    if last and sha256 is not None and last.sha256 != sha256 == earlier:
        notices.append(
            f"the last change ({last.what}, generation {last.generation}, {last.when}) did not "
            "take effect: it was cut off, or the file before it was put back by hand"
        )
        events = events[:-1]
    elif last and sha256 is None:
        notices.append(f"{served} is missing; 'tod rollback' puts its generation back")
    elif last and last.sha256 != sha256:
        notices.append(f"{served} was overwritten by hand: it is not what was put there last")
    same = [event.generation for event in events if event.sha256 == sha256]
    known = {event.generation: event.sha256[:16] for event in events}
    kept = {n: path for (n, start), path in files.items() if known.get(n) == start}
    return Shelf(served, sha256, same[-1] if same else None, events, kept, tuple(notices))


@contextlib.contextmanager
def locked(served: Path) -> Iterator[None]:
    """Allow one change at a time; a killed process releases the lock.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    served = served.resolve()
    folder = folder_of(served)
    with written(served):
        folder.mkdir(exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 - closed below, after the change
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_left(served: Path) -> None:
    """Remove the temporary files of changes that were cut off; files that are being written
    stay."""
    served = served.resolve()
    remove_unfinished(folder_of(served), lambda _: True)
    remove_unfinished(served.parent, lambda name: name == served.name)


def put_in_place(shelf: Shelf, events: Sequence[Event], data: bytes, new: dict[int, bytes]) -> None:
    """Carry out the last event, in an order that can be cut off at any point.

    Args:
        shelf: the state on disk.
        events: the new events.
        data: content of the generation that the last event names.
        new: number -> content of the generations that are not kept yet.

    Raises:
        ArtifactError: something cannot be written; the served file is still whole.
    """
    folder = folder_of(shelf.served)
    with written(shelf.served):
        for number, held in new.items():
            name = file_name(number, hashlib.sha256(held).hexdigest())
            write_whole(folder / name, held)
        log = _Log("tod-generations", 1, (*shelf.events, *events))
        write_whole(folder / _LOG, msgspec.json.format(msgspec.json.encode(log), indent=1))
        write_whole(shelf.served, data)


def present(shelf: Shelf, data: bytes | None) -> tuple[tuple[Event, ...], dict[int, bytes]]:
    """Return what must be kept before the served file is replaced.

    Args:
        shelf: the state on disk.
        data: content of the served file.

    Returns:
        Its event, if it is not yet a generation; number -> content, if it is not yet kept.
    """
    if data is None or shelf.sha256 is None:
        return (), {}
    if shelf.generation is not None:
        return (), {} if shelf.generation in shelf.kept else {shelf.generation: data}
    before = shelf.events[-1].generation if shelf.events else None
    event = Event(
        what="found", when=now(), generation=shelf.next_number, before=before,
        sha256=shelf.sha256, source=str(shelf.served),
    )  # fmt: skip
    return (event,), {event.generation: data}


def content(shelf: Shelf, number: int) -> bytes:
    """Return the bytes of a generation, as they were when it was kept.

    Raises:
        ArtifactError: it is not kept any more, or damaged.
    """
    shas = {event.generation: event.sha256 for event in shelf.events}
    if number not in shelf.kept:
        raise ArtifactError(
            f"{shelf.served}: generation {number} is not kept",
            hint=f"'tod history {shelf.served}' lists those that are",
        )
    data = bytes_of(shelf.kept[number])
    if hashlib.sha256(data).hexdigest() != shas.get(number):
        raise ArtifactError(
            f"{shelf.kept[number]}: it is not what was kept as generation {number}",
            hint=f"'tod history {shelf.served}' lists the others; --to takes one of them",
        )
    return data


def remove_old(shelf: Shelf, keep: int, also: Collection[int] = ()) -> None:
    """Remove old generations. `keep` of them stay beside the served one and `also`: first those
    that a rollback goes through, then the newest others. Files of a change that was cut off are
    removed, too."""
    chain = [number for number in shelf.earlier() if number in shelf.kept]
    others = sorted({*shelf.kept} - {*chain, shelf.generation}, reverse=True)
    stay = {shelf.kept.get(n) for n in (shelf.generation, *(*chain, *others)[:keep], *also) if n}
    for path in _files(folder_of(shelf.served)).values():
        if path not in stay:
            with contextlib.suppress(OSError):
                path.unlink()


def _before(introduced: dict[int, Event], number: int) -> list[int]:
    before = introduced[number].before if number in introduced else None
    # Numbers only rise; a log with a falling number was changed by hand.
    return [before] if before is not None and before < number else []


def _files(folder: Path) -> dict[tuple[int, str], Path]:
    """Number and start of the SHA-256 -> file."""
    try:
        found = [(_KEPT.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    except OSError:
        return {}
    return {(int(name[1]), name[2]): path for name, path in found if name}


def _read_log(folder: Path) -> tuple[Event, ...]:
    try:
        return msgspec.json.decode((folder / _LOG).read_bytes(), type=_Log).events
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ArtifactError(
            f"{folder / _LOG}: cannot be read: {error.strerror or error}",
            hint="it says which generations there were",
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(
            f"{folder / _LOG}: it is not a readable log of generations: {error}",
            hint="move it away: the generations beside it stay, and are found again without it",
        ) from error


def now() -> str:
    """The time of an event."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def file_name(number: int, sha256: str) -> str:
    """Return the file name of a generation."""
    return f"{number}-{sha256[:16]}.tod"


def _events_of(files: dict[tuple[int, str], Path]) -> tuple[Event, ...]:
    """Make events without a log, from the undamaged generations on disk, in their order."""
    events: list[Event] = []
    for (number, start), path in sorted(files.items()):
        if (sha256 := digest(path)).startswith(start):
            before = events[-1].generation if events else None
            found = Event(what="found", when="", generation=number, sha256=sha256, before=before)
            events.append(found)
    return tuple(events)


def digest(path: Path) -> str:
    """The SHA-256 of a file, of which only a part is in memory at a time.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        return sha256_of(path, limit_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error


def bytes_of(path: Path) -> bytes:
    """Read a file.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        return read_regular(path, limit_bytes=MAX_FILE_BYTES)[0]
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def written(served: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{error.filename or served}: cannot be written: {error.strerror or error}",
            hint="what is served is as it was; "
            "its folder has to exist, with room and write permission",
        ) from error

"""The generations of a model file: every one a whole file, and a log of what was put in place.

`SERVED.tod.generations/` beside the file holds `<number>-<16 hex of its SHA-256>.tod` for each
generation, and `log.json`; that of the file itself is there where `tod promote` put it in place.
A change is written in this order: the generation, the log, the served file. Which generation serves
is never written down: it is the one whose bytes the served file has. So a change that was cut off
after the log, before the served file, is known by it, and counts as not made. docs/format.md
describes the log.
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
    """What a promotion was decided on: both models on the same pictures.

    Attributes:
        accuracy: of the promoted model; `metric` says what it counts.
        served_accuracy: of the one that it replaced; None where none was served.
        correct: right answers of the promoted one, of `total`.
        served_correct: right answers of the one that it replaced.
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
            command; "found": it lay in the place of the served file and was not known; "rolled
            back": put there again.
        when: local time with its offset.
        generation: its number.
        sha256: of its file.
        before: the generation that served until then, which a rollback goes to; None for none.
        source: the file that it came from.
        scores: of a promotion or a training.
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
    """What lies on disk about a served file.

    Attributes:
        served: the file.
        sha256: of what it holds; None where there is none.
        generation: the number of what it holds; None where that is not known.
        events: what was put in place, the latest last; without one that was cut off.
        kept: number -> file of the generations that are there.
        notices: what a user should know.
    """

    served: Path
    sha256: str | None
    generation: int | None
    events: tuple[Event, ...]
    kept: dict[int, Path]
    notices: tuple[str, ...]

    @property
    def introduced(self) -> dict[int, Event]:
        """The event that each generation came with."""
        return {e.generation: e for e in self.events if e.what != "rolled back"}

    @property
    def next_number(self) -> int:
        return 1 + max((event.generation for event in self.events), default=0)

    def earlier(self) -> list[int]:
        """The generations before the served one, the last first: those that a rollback goes
        through. Where what is served is missing or not known, the last change is the first."""
        introduced = self.introduced
        if self.generation is None:
            chain = [event.generation for event in self.events[-1:]]
        else:
            chain = _before(introduced, self.generation)
        while chain and (more := _before(introduced, chain[-1])):
            chain += more
        return chain


def folder_of(served: Path) -> Path:
    """Where the generations of a served file are kept."""
    return served.with_name(f"{served.name}.generations")


def look(served: Path) -> Shelf:
    """Read what is there; changes nothing.

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
    """One change at a time; a process that is killed gives the lock back.

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
    """Remove the temporary files of changes that were cut off; what is being written stays."""
    served = served.resolve()
    remove_unfinished(folder_of(served), lambda _: True)
    remove_unfinished(served.parent, lambda name: name == served.name)


def put_in_place(shelf: Shelf, events: Sequence[Event], data: bytes, new: dict[int, bytes]) -> None:
    """Make the last event true, in the order that can be cut off anywhere.

    Args:
        shelf: what is there.
        events: the new ones.
        data: of the generation that the last one names.
        new: number -> content of the generations that are not kept yet.

    Raises:
        ArtifactError: something cannot be written; what is served is whole.
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
    """What has to be kept before another takes the place of what lies there.

    Args:
        shelf: what is there.
        data: of the file that lies there.

    Returns:
        Its event, where it is not yet a generation; number -> content, where it is not yet kept.
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
    """The bytes of a generation, as they were when it was kept.

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
    """Remove what is too old: `keep` generations stay beside the served one and those of `also`,
    first those that a rollback goes through, then the newest others. What a change that was cut
    off left goes too."""
    chain = [number for number in shelf.earlier() if number in shelf.kept]
    others = sorted({*shelf.kept} - {*chain, shelf.generation}, reverse=True)
    stay = {shelf.kept.get(n) for n in (shelf.generation, *(*chain, *others)[:keep], *also) if n}
    for path in _files(folder_of(shelf.served)).values():
        if path not in stay:
            with contextlib.suppress(OSError):
                path.unlink()


def _before(introduced: dict[int, Event], number: int) -> list[int]:
    before = introduced[number].before if number in introduced else None
    # Numbers only rise: a log that says otherwise was changed by hand.
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
    """Of a generation, in its folder."""
    return f"{number}-{sha256[:16]}.tod"


def _events_of(files: dict[tuple[int, str], Path]) -> tuple[Event, ...]:
    """What is known without a log: the generations that are there and whole, in their order."""
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
    """What a file holds.

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

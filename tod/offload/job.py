"""What sender and receiver agree on: the offer of a job, the list of its samples, and states.

Every record is read strictly: an unknown field, a number out of range or a text that cannot be
printed refuses it. No path, command or code is ever in one.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from tod.offload.frames import JOB_BYTES, MAX_PAYLOAD_BYTES
from tod.system.text import printable

PART_BYTES = 1 << 18  # of the list of samples, and of the trained model
WINDOW_PARTS, _WINDOW_BYTES = 256, 4 << 20  # that are asked for, and so on their way, at once
Payload = Literal["samples", "features", "int8"]
SPLITS = ("train", "test", "validation")

_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Text = Annotated[str, msgspec.Meta(max_length=200)]
_Name = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Setting = Annotated[str, msgspec.Meta(pattern="^[a-z_]{1,40}$")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Record = TypeVar("_Record", bound=msgspec.Struct)


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job, as a sender offers it.

    Attributes:
        model_sha256: of the .tod file, which the receiver has already.
        index_sha256, index_bytes: of the list of samples, which follows in parts.
        parts: number of distinct samples.
        data_bytes: of all of them.
        payload: what a part is: a sample as it is, or features of the frozen part.
        settings: of training, by the names of `tod.training.settings.Settings`.
        seconds: of training, at most.
        description: for people.
    """

    schema: Literal[1]
    model_sha256: _Hash
    index_sha256: _Hash
    index_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
    parts: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
    data_bytes: _Size
    payload: Payload
    settings: Annotated[dict[_Setting, bool | int | float | _Text], msgspec.Meta(max_length=40)]
    seconds: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None
    description: _Text = ""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One sample: the part that it is, its label or numbers, its split, and 64 bits of its pixels'
    hash."""

    part: _Count
    label: _Count | tuple[float, ...]
    split: Annotated[int, msgspec.Meta(ge=0, le=2)]
    mark: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One distinct sample: the hash of its bytes, and how many there are."""

    sha256: _Digest
    bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAYLOAD_BYTES)]


class Index(msgspec.Struct, frozen=True, array_like=True):
    """The list of samples. `dtype` and `shape` are those of numbers, "" for picture files."""

    classes: tuple[_Text, ...]
    numbers: bool
    dtype: Annotated[str, msgspec.Meta(pattern="^(|[a-z]+[0-9]{0,2})$")]
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=1 << 28)], ...],
                     msgspec.Meta(max_length=8)]  # fmt: skip
    columns: tuple[tuple[_Text, ...], tuple[_Text, ...]]
    parts: tuple[Part, ...]
    items: tuple[Item, ...]

    def window(self, missing: list[int]) -> list[int]:
        """As many of the missing parts, from the first on, as may be on their way at once."""
        found: list[int] = []
        total = 0
        for number in missing[:WINDOW_PARTS]:
            total += self.parts[number].bytes
            if found and total > _WINDOW_BYTES:
                break
            found.append(number)
        return found


class Need(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which parts are wanted: ranges of numbers, first and last."""

    what: Literal["index", "sample", "model"]
    ranges: Annotated[tuple[tuple[_Count, _Count], ...], msgspec.Meta(max_length=4096)]

    def numbers(self, count: int) -> list[int]:
        """The parts that are wanted, of `count` that there are: each once, at most a window of
        them, so that a small frame cannot ask for a flood."""
        found: dict[int, None] = {}
        for first, last in self.ranges:
            for number in range(first, min(last + 1, count)):
                found[number] = None
                if len(found) == WINDOW_PARTS:
                    return list(found)
        return list(found)


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How far a job is. Losses and accuracies are those of the parameters after `cycle`."""

    state: Literal["receiving", "waiting", "training", "trained", "done", "failed"]
    parts: _Count = 0
    cycle: _Count = 0
    epoch: float = 0.0
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    seconds: float = 0.0
    text: _Text = ""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trained model: what of it differs from the file that the sender has.

    Attributes:
        sha256, bytes: of the parts together.
        model_sha256: of the whole .tod file that they make.
    """

    sha256: _Hash
    bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
    model_sha256: _Hash


class Trained(msgspec.Struct, frozen=True, array_like=True):
    """The members of the trained .tod file that training changes."""

    manifest: bytes
    state: bytes


def job_of(offer: Offer) -> bytes:
    """The job's name: what is the same work has the same name, so it is never done twice."""
    return hashlib.sha256(msgspec.json.encode(offer)).digest()[:JOB_BYTES]


def to_json(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)


def from_json(data: bytes, kind: type[_Record]) -> _Record:
    """Read a record.

    Raises:
        ValueError: it is none of this kind.
    """
    try:
        found = msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    for name in getattr(found, "__struct_fields__", ()):
        _check_text(getattr(found, name))
    return found


def read_index(data: bytes) -> Index:
    """Read the list of samples, and check that it contradicts nothing.

    Raises:
        ValueError: it does.
    """
    found = msgspec.msgpack.decode(data, type=Index)
    for text in (*found.classes, *found.columns[0], *found.columns[1]):
        _check_text(text)
    if len(set(found.classes)) != len(found.classes) or not found.classes:
        raise ValueError("its classes are not distinct")
    for item in found.items:
        if item.part >= len(found.parts):
            raise ValueError(f"a sample is part {item.part} of {len(found.parts)}")
        if isinstance(item.label, tuple) != found.numbers:
            raise ValueError("a label is of another kind")
        if isinstance(item.label, tuple):
            if len(item.label) != len(found.classes):
                raise ValueError("a label has another number of numbers")
        elif item.label >= len(found.classes):
            raise ValueError(f"a label is {item.label}, there are {len(found.classes)} classes")
    if len({part.sha256 for part in found.parts}) != len(found.parts):
        raise ValueError("two parts are the same")
    return found


def offered_index(data: bytes, offer: Offer, most_samples: int) -> Index:
    """The list of samples, if it is the one of the offer.

    Raises:
        ValueError: it is not.
    """
    if hashlib.sha256(data).hexdigest() != offer.index_sha256:
        raise ValueError("its hash is wrong")
    index = read_index(data)
    if len(index.parts) != offer.parts or len(index.items) > most_samples:
        raise ValueError(f"it has {len(index.parts)} parts and {len(index.items)} samples")
    if sum(part.bytes for part in index.parts) != offer.data_bytes:
        raise ValueError("its samples have another size than was offered")
    return index


def pieces(data: bytes) -> list[bytes]:
    """Cut what is too long for a frame."""
    return [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]


def ranges(numbers: list[int], most: int = 4096) -> tuple[tuple[int, int], ...]:
    """Numbers in order as ranges of first and last, at most so many."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        elif len(found) == most:
            break
        else:
            found.append((number, number))
    return tuple(found)


def _check_text(value: Any) -> None:
    if isinstance(value, str) and not printable(value):
        raise ValueError("a text cannot be printed")

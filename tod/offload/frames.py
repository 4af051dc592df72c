"""Frames: what two machines send each other, 64 bytes of header and then at most 8 MiB.

Little-endian: magic `TODf`, version, kind, two zero bytes, the job (16 bytes), a number, the length
and the SHA-256 of what follows. The same over MQTT (a frame in a message) and TCP (one after the
other). Knows no network.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

_HEAD = struct.Struct("<4sBBH16sII32s")
HEADER_BYTES = _HEAD.size
MAX_PAYLOAD_BYTES = 8 << 20
JOB_BYTES = 16
_MAGIC, _VERSION = b"TODf", 1
NO_JOB = bytes(JOB_BYTES)


class Kind(IntEnum):
    """What a frame is; `number` of the frame counts parts, where there are several."""

    HELLO = 1  # who connects (TCP only)
    OFFER = 2  # sender: the job
    REFUSED = 3  # receiver: why it does not do it
    NEED = 4  # either: which parts it wants
    INDEX = 5  # sender: a part of the list of samples
    SAMPLE = 6  # sender: a sample
    STATUS = 7  # receiver: how far it is
    RESULT = 8  # receiver: what the trained model is
    MODEL = 9  # receiver: a part of it
    DONE = 10  # sender: it has the model


class FrameError(ValueError):
    """What came is no frame, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    job: bytes
    number: int
    payload: bytes

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.payload).digest()


def encode(frame: Frame) -> bytes:
    """Write a frame."""
    if len(frame.payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"{len(frame.payload):,} bytes, a frame has at most {MAX_PAYLOAD_BYTES:,}")
    head = _HEAD.pack(
        _MAGIC, _VERSION, frame.kind, 0, frame.job, frame.number, len(frame.payload), frame.sha256
    )
    return head + frame.payload


def length(head: bytes) -> int:
    """The length of what follows a header of 64 bytes.

    Raises:
        FrameError: it is no header, or promises too much.
    """
    magic, version, _, zero, _, _, size, _ = _HEAD.unpack(head)
    if magic != _MAGIC or version != _VERSION or zero:
        raise FrameError("it does not begin as a frame of TOD")
    if size > MAX_PAYLOAD_BYTES:
        raise FrameError(f"it promises {size:,} bytes, at most {MAX_PAYLOAD_BYTES:,} are read")
    return int(size)


def decode(data: bytes) -> Frame:
    """Read a whole frame.

    Raises:
        FrameError: it is none, or its hash is wrong.
    """
    if len(data) < HEADER_BYTES:
        raise FrameError(f"{len(data)} bytes are no frame")
    size = length(data[:HEADER_BYTES])
    _, _, kind, _, job, number, _, digest = _HEAD.unpack_from(data)
    payload = data[HEADER_BYTES:]
    if len(payload) != size:
        raise FrameError(f"{len(payload):,} bytes follow its header, it promises {size:,}")
    if hashlib.sha256(payload).digest() != digest:
        raise FrameError("its hash is wrong")
    try:
        return Frame(Kind(kind), job, number, payload)
    except ValueError as error:
        raise FrameError(f"it has the kind {kind}") from error

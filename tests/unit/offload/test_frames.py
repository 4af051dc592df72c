"""Frames, offers and lists: what they say comes through, what lies is refused."""

import hashlib
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tod.offload import frames
from tod.offload.frames import Frame, FrameError, Kind
from tod.offload.job import (
    Index,
    Item,
    Need,
    Offer,
    Part,
    Status,
    from_json,
    job_of,
    pieces,
    ranges,
    read_index,
    to_json,
)
from tod.offload.work import quantized, unpacked

FRAMES = st.builds(
    Frame,
    st.sampled_from(Kind), st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
)  # fmt: skip
HASH = "0" * 64
OFFER = Offer(1, HASH, HASH, 100, 3, 48, "samples", {"cycles": 10})
INDEX = Index(
    ("a", "b"), False, "uint8", (4, 4), ((), ()),
    (Part(bytes(32), 16), Part(bytes(31) + b"1", 16)),
    (Item(0, 0, 0, bytes(8)), Item(1, 1, 1, bytes(8)), Item(0, 0, 2, bytes(8))),
)  # fmt: skip


@given(FRAMES)
def test_frames_round_trip(frame):
    data = frames.encode(frame)
    assert len(data) == 64 + len(frame.payload)
    assert frames.decode(data) == frame


def test_a_frame_by_hand():
    payload = b"hello"
    job = bytes(range(16))
    head = b"TODf" + bytes([1, 6, 0, 0]) + job + struct.pack("<II", 7, 5)
    wanted = head + hashlib.sha256(payload).digest() + payload
    assert frames.encode(Frame(Kind.SAMPLE, job, 7, payload)) == wanted


@given(st.data())
def test_every_changed_byte_of_what_counts_is_noticed(data):
    frame = data.draw(FRAMES)
    changed = bytearray(frames.encode(frame))
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        found = frames.decode(bytes(changed))
    except FrameError:
        return
    # Kind, job and number are checked by what follows: they change what a frame is of, not its
    # content.
    assert 5 <= place < 28
    assert found.payload == frame.payload


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data):
    with pytest.raises(FrameError):
        frames.decode(data)


def test_a_header_that_promises_too_much():
    head = bytearray(frames.encode(Frame(Kind.SAMPLE, bytes(16), 0, b"x")))[:64]
    head[28:32] = struct.pack("<I", frames.MAX_PAYLOAD_BYTES + 1)
    with pytest.raises(FrameError, match="at most"):
        frames.length(bytes(head))


def test_the_same_work_has_the_same_name():
    assert job_of(OFFER) == job_of(from_json(to_json(OFFER), Offer))
    assert job_of(OFFER) != job_of(msgspec.structs.replace(OFFER, parts=4))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"model_sha256": "../../etc/passwd"}, {"parts": 0}, {"parts": -1},
        {"payload": "pickle"}, {"extra": 1}, {"settings": {"../x": 1}}, {"data_bytes": 1 << 60},
        {"seconds": 0}, {"description": "x" * 201},
        {"description": "\u001b[2J"},
    ],
)  # fmt: skip
def test_an_offer_is_read_strictly(change):
    with pytest.raises(ValueError, match=r".+"):
        from_json(msgspec.json.encode(msgspec.to_builtins(OFFER) | change), Offer)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_records(data):
    for kind in (Offer, Need, Status):
        with pytest.raises(ValueError, match=r".+"):
            from_json(data, kind)
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        read_index(data)


def test_deep_json_is_refused():
    with pytest.raises(ValueError, match=r".+"):
        from_json(b"[" * 100_000, Offer)


@pytest.mark.parametrize(
    "change",
    [
        {"items": (Item(2, 0, 0, bytes(8)),)}, {"items": (Item(0, 2, 0, bytes(8)),)},
        {"items": (Item(0, (1.0, 2.0), 0, bytes(8)),)}, {"numbers": True},
        {"classes": ("a", "a")}, {"classes": ()}, {"classes": ("\x1b", "b")},
        {"parts": (Part(bytes(32), 16),) * 2}, {"parts": (Part(bytes(32), 0),)},
        {"shape": (0,)}, {"dtype": "object_"}, {"items": (Item(0, 0, 3, bytes(8)),)},
    ],
)  # fmt: skip
def test_a_list_that_contradicts_itself_is_refused(change):
    assert read_index(msgspec.msgpack.encode(INDEX)) == INDEX
    wrong = msgspec.structs.replace(INDEX, **change)
    with pytest.raises(ValueError, match=r".+"):
        read_index(msgspec.msgpack.encode(wrong))


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_the_numbers(numbers):
    found = ranges(sorted(numbers))
    assert {n for first, last in found for n in range(first, last + 1)} == numbers


def test_a_small_request_cannot_ask_for_a_flood():
    need = from_json(to_json(Need("sample", ((0, 10**9),) * 4096)), Need)
    assert need.numbers(10**7) == list(range(256))
    assert Need("sample", ((3, 5), (4, 9))).numbers(8) == [3, 4, 5, 6, 7]


def test_pieces_are_whole():
    data = bytes(range(256)) * 3000
    assert b"".join(pieces(data)) == data
    assert max(map(len, pieces(data))) <= 1 << 18


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=16, max_size=16))
def test_int8_is_off_by_half_a_step(values):
    features = np.array(values, np.float32)
    back = unpacked(quantized(features), msgspec.structs.replace(INDEX, shape=(16,)), "int8")
    step = np.abs(features).max() / 127
    assert np.abs(back - features).max() <= 0.51 * step + 1e-30

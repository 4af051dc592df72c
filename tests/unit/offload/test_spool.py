"""The spool: what is synced stays, what is half written is cut off, nothing is there twice."""

import hashlib
import random

import pytest

from tod.offload import frames
from tod.offload.frames import Frame, Kind
from tod.offload.job import Offer, Part
from tod.offload.spool import Spool

HASH = "0" * 64
OFFER = Offer(1, HASH, HASH, 100, 3, 48, "samples", {"cycles": 10})
DATA = [bytes([number]) * (100 + number) for number in range(20)]
PARTS = tuple(Part(hashlib.sha256(data).digest(), len(data)) for data in DATA)
FRAMES = [Frame(Kind.SAMPLE, bytes(16), number, data) for number, data in enumerate(DATA)]


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "job")
    made.begin(OFFER)
    made.open_parts(PARTS)
    return made


def opened(spool):
    again = Spool(spool.folder)
    again.open_parts(PARTS)
    return again


def test_what_is_synced_counts_and_stays(spool):
    assert spool.add(FRAMES[3], PARTS)
    assert spool.count == 0
    assert 3 not in spool.missing(20)
    spool.sync()
    assert spool.count == 1
    again = opened(spool)
    assert again.part(3) == DATA[3]
    assert again.offer == OFFER
    assert again.missing(20) == [n for n in range(20) if n != 3]


def test_nothing_is_there_twice(spool):
    assert spool.add(FRAMES[0], PARTS)
    assert not spool.add(FRAMES[0], PARTS)
    spool.sync()
    assert not spool.add(FRAMES[0], PARTS)
    assert (spool.folder / "parts").stat().st_size == 64 + len(DATA[0])


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.SAMPLE, bytes(16), 1, DATA[2]), Frame(Kind.SAMPLE, bytes(16), 99, DATA[2]),
        Frame(Kind.INDEX, bytes(16), 2, DATA[2]), Frame(Kind.SAMPLE, bytes(16), 2, b""),
    ],
)  # fmt: skip
def test_what_was_not_announced_is_not_kept(spool, frame):
    assert not spool.add(frame, PARTS)
    assert not (spool.folder / "parts").exists()


def test_a_cut_at_every_byte_loses_only_what_was_half_written(spool):
    for frame in FRAMES[:4]:
        spool.add(frame, PARTS)
    spool.sync()
    whole = (spool.folder / "parts").read_bytes()
    ends = [0]
    for data in DATA[:4]:
        ends.append(ends[-1] + 64 + len(data))
    for cut in range(0, len(whole), 7):
        (spool.folder / "parts").write_bytes(whole[:cut])
        again = opened(spool)
        assert again.count == sum(end <= cut for end in ends[1:])
        assert (spool.folder / "parts").stat().st_size == ends[again.count]
        assert again.add(FRAMES[5], PARTS)
        again.sync()
        assert opened(spool).part(5) == DATA[5]


def test_a_damaged_file_is_read_up_to_the_damage(spool):
    for frame in FRAMES:
        spool.add(frame, PARTS)
    spool.sync()
    whole = bytearray((spool.folder / "parts").read_bytes())
    draws = random.Random(0)
    for _ in range(50):
        changed = bytearray(whole)
        changed[draws.randrange(len(changed))] ^= 1 << draws.randrange(8)
        (spool.folder / "parts").write_bytes(changed)
        again = opened(spool)
        assert all(again.part(n) == DATA[n] for n in range(20) if again.has(n))


def test_a_job_that_is_done_keeps_its_result_and_no_samples(spool):
    spool.add(FRAMES[0], PARTS)
    spool.sync()
    spool.keep_result(b"result")
    spool.finish()
    assert spool.done
    assert spool.result == b"result"
    assert not (spool.folder / "parts").exists()
    spool.remove()
    assert not spool.folder.exists()


def test_frames_on_disk_are_those_of_the_wire(spool):
    spool.add(FRAMES[2], PARTS)
    assert (spool.folder / "parts").read_bytes() == frames.encode(FRAMES[2])

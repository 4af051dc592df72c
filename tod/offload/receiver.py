"""The receiver: takes jobs that its owner allows, collects their samples, trains, answers.

Everything that came is on disk before it counts, so a receiver that is killed goes on where it
was. What a peer sends is never a path, a command or code; a model must be one of the owner's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tod.errors import Interrupted, TodError
from tod.offload import frames
from tod.offload.allowed import Limits, Owner, settings_of
from tod.offload.frames import Frame, FrameError, Kind
from tod.offload.job import (
    PART_BYTES,
    Index,
    Need,
    Offer,
    Status,
    from_json,
    job_of,
    offered_index,
    pieces,
    ranges,
    to_json,
)
from tod.offload.link import Link
from tod.offload.spool import Spool, alone
from tod.offload.work import opened_result, train_job
from tod.system.text import shown

_ASK_AGAIN_SECONDS = 2.0
_MOST_JOBS_OF_A_PEER = 4


@dataclass
class _Job:
    """A job under way; all that must outlive a restart is in the spool."""

    peer: str
    name: bytes
    offer: Offer
    spool: Spool
    model: Path
    heard: float
    index: Index | None = None
    chunks: dict[int, bytes] = field(default_factory=dict)  # of the index
    asked: set[int] = field(default_factory=set)
    asked_at: float = 0.0
    status: Status = Status("receiving")  # noqa: RUF009 - immutable
    worker: threading.Thread | None = None
    result: bytes | None = None
    announced: float = 0.0


class Receiver:
    """Serve a link until `should_stop`.

    Args:
        link: to the senders.
        spool: folder of all jobs.
        limits: what is allowed.
        say: told of each event in one sentence.
        threads: for training.
    """

    def __init__(
        self,
        link: Link,
        spool: Path,
        limits: Limits,
        say: Callable[[str], None],
        *,
        threads: int | None = None,
    ) -> None:
        self._link, self._root, self._limits, self._say = link, spool, limits, say
        self._threads = threads
        self._jobs: dict[tuple[str, bytes], _Job] = {}
        self._stop = threading.Event()
        self._owner = Owner(limits)
        self.bad = 0
        """Frames that were no frames, or of no job."""
        self.finished = 0

    def serve(self, should_stop: Callable[[], bool]) -> None:
        """Work until it is asked to stop; a run that is under way saves a checkpoint then.

        Raises:
            UsageError: another receiver works in this spool, or it cannot be written.
        """
        with alone(self._root):
            self._go_on()
            try:
                while not should_stop():
                    arrived = self._link.receive(0.05)
                    while arrived is not None:
                        self._take(*arrived)
                        arrived = self._link.receive(0)
                    self._turn()
            finally:
                self._stop.set()
                for job in self._jobs.values():
                    if job.worker is not None:
                        job.worker.join()

    def _go_on(self) -> None:
        """Take up the jobs that are on disk."""
        for folder in sorted(self._root.glob("*/*")):
            spool = Spool(folder)
            try:
                offer = spool.offer
                name = bytes.fromhex(folder.name)
                model = self._owner.model(offer)
                if job_of(offer) != name or model is None:
                    raise ValueError("its offer is damaged, or its model is not here any more")
                job = _Job(folder.parent.name, name, offer, spool, model, time.monotonic())
                self._load(job)
            except (OSError, ValueError) as error:
                self._say(f"{folder} is left alone: {error}; remove it if it is not wanted")
                continue
            self._jobs[job.peer, name] = job
            self._say(f"{job.peer}: job {name.hex()[:8]} goes on: {job.status.state}")

    def _load(self, job: _Job) -> None:
        """What the disk knows of a job; what is damaged there is asked for again."""
        job.asked, job.asked_at, job.chunks, job.index = set(), 0.0, {}, None
        job.result = job.spool.result
        if job.result is not None:
            job.status = Status("done" if job.spool.done else "trained")
            return
        job.status = Status("receiving")
        data = job.spool.index
        if data is not None:
            with suppress(ValueError):
                job.index = offered_index(data, job.offer, self._limits.samples)
                job.spool.open_parts(job.index.parts)
                job.status = Status("receiving", parts=job.spool.count)

    def _take(self, peer: str, data: bytes) -> None:
        try:
            frame = frames.decode(data)
        except FrameError as error:
            self._bad(peer, str(error))
            return
        job = self._jobs.get((peer, frame.job))
        if frame.kind is Kind.OFFER:
            self._offered(peer, frame, job)
        elif job is None:
            self._bad(peer, "it is of no job that was accepted")
        else:
            job.heard = time.monotonic()
            with self._disk(job):
                self._of_job(job, frame)

    @contextmanager
    def _disk(self, job: _Job) -> Iterator[None]:
        """A full or broken disk ends the job, not the receiver; offered again, it goes on."""
        try:
            yield
        except OSError as error:
            self._failed(job, f"its disk: {error.strerror or error}")

    def _failed(self, job: _Job, why: str) -> None:
        self._say(f"{job.peer}: job {job.name.hex()[:8]} failed: {why}")
        self._set(job, Status("failed", text=shown(why)[:200]))

    def _bad(self, peer: str, why: str) -> None:
        self.bad += 1
        if self.bad & (self.bad - 1) == 0:  # the 1st, 2nd, 4th ...: a flood does not fill a log
            self._say(f"{shown(peer)}: {self.bad} frames were thrown away, the last: {why}")

    def _of_job(self, job: _Job, frame: Frame) -> None:
        if frame.kind is Kind.INDEX:
            self._index_part(job, frame)
        elif frame.kind is Kind.SAMPLE:
            if job.index is None or not job.spool.add(frame, job.index.parts):
                self._repeated(job, frame)
            job.asked.discard(frame.number)
        elif frame.kind is Kind.NEED:
            self._send_model(job, frame)
        elif frame.kind is Kind.DONE and job.result is not None:
            if job.status.state != "done":
                job.spool.finish()
                self._set(job, Status("done"))
                self.finished += 1
                self._say(f"{job.peer}: job {job.name.hex()[:8]} is done: the model was taken")
        else:
            self._bad(job.peer, f"a frame of the kind {frame.kind.name} does not belong here")

    def _repeated(self, job: _Job, frame: Frame) -> None:
        """A part that is there already is no fault; another content under its number is."""
        known = job.index is not None and frame.number < len(job.index.parts)
        if not known or job.index.parts[frame.number].sha256 != frame.sha256:  # type: ignore[union-attr]
            self._bad(job.peer, "a sample is not the one that was announced")

    def _offered(self, peer: str, frame: Frame, job: _Job | None) -> None:
        if job is not None:
            job.heard = time.monotonic()
            if job.status.state == "failed":
                self._say(f"{peer}: job {job.name.hex()[:8]} is tried again")
                self._load(job)
            self._tell(job)
            job.asked_at = 0.0  # the sender may have lost what we asked for
            self._announce(job)
            return
        try:
            offer = from_json(frame.payload, Offer)
            if job_of(offer) != frame.job:
                raise ValueError("its name is not that of its content")
        except ValueError as error:
            self._bad(peer, f"an offer cannot be read: {error}")
            return
        if why := self._refuses(peer, offer):
            self._say(f"{shown(peer)}: an offer was refused: {why}")
            self._send(peer, Frame(Kind.REFUSED, frame.job, 0, why.encode()))
            return
        model = self._owner.model(offer)
        assert model is not None  # see `_refuses`
        made = _Job(
            peer, frame.job, offer, Spool(self._root / peer / frame.job.hex()), model,
            time.monotonic(),
        )  # fmt: skip
        try:
            made.spool.begin(offer)
        except OSError as error:
            why = f"its disk cannot be written: {error.strerror or error}"
            self._say(f"{peer}: an offer was refused: {why}")
            self._send(peer, Frame(Kind.REFUSED, frame.job, 0, why.encode()))
            return
        self._jobs[peer, frame.job] = made
        self._say(
            f"{peer}: job {frame.job.hex()[:8]}: {offer.parts} samples, "
            f"{offer.data_bytes:,} bytes, {settings_of(offer).cycles} cycles of {model.name}"
        )
        self._tell(made)

    def _refuses(self, peer: str, offer: Offer) -> str:
        """Why an offer is not accepted; empty if it is."""
        if why := self._owner.refuses(offer):
            return why
        under_way = [job for job in self._jobs.values() if job.peer == peer and not job.spool.done]
        if len(under_way) >= _MOST_JOBS_OF_A_PEER:
            return f"{_MOST_JOBS_OF_A_PEER} jobs of this sender are under way"
        wanted = offer.data_bytes + offer.index_bytes + frames.HEADER_BYTES * offer.parts
        self._make_room(wanted)
        if self._spooled() + wanted > self._limits.spool_bytes:
            return f"there is no room for {wanted:,} bytes"
        return ""

    def _spooled(self) -> int:
        """Bytes that all jobs have, or may still bring."""
        return sum(
            max(job.spool.bytes, 0 if job.spool.done else job.offer.data_bytes)
            for job in self._jobs.values()
        )

    def _make_room(self, wanted: int) -> None:
        """Remove jobs that are done, the oldest first."""
        done = [job for job in self._jobs.values() if job.spool.done]
        for job in sorted(done, key=lambda job: job.heard):
            if self._spooled() + wanted <= self._limits.spool_bytes:
                return
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        job.spool.remove()
        self._jobs.pop((job.peer, job.name), None)

    def _index_part(self, job: _Job, frame: Frame) -> None:
        count = -(-job.offer.index_bytes // PART_BYTES)
        if job.index is not None or frame.number >= count or len(frame.payload) > PART_BYTES:
            return
        job.chunks[frame.number] = frame.payload
        job.asked.discard(frame.number)
        if len(job.chunks) < count:
            return
        data = b"".join(job.chunks[number] for number in range(count))
        job.chunks = {}
        try:
            index = offered_index(data, job.offer, self._limits.samples)
        except ValueError as error:
            self._failed(job, f"its list of samples: {error}")
            return
        job.spool.keep_index(data)
        job.index = index
        job.spool.open_parts(index.parts)

    def _turn(self) -> None:
        """What is to be done without being told."""
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.status.state == "receiving":
                with self._disk(job):
                    self._ask(job, now)
            if job.status.state == "waiting" and not self._busy():
                self._start(job)
            if job.status.state == "trained" and now - job.announced > _ASK_AGAIN_SECONDS:
                job.announced = now
                self._announce(job)
            silent = now - job.heard > self._limits.lease_seconds
            if silent and job.status.state != "training":
                self._say(f"{job.peer}: job {job.name.hex()[:8]} is given up: nothing was heard")
                self._forget(job)

    def _busy(self) -> bool:
        return any(job.worker is not None and job.worker.is_alive() for job in self._jobs.values())

    def _ask(self, job: _Job, now: float) -> None:
        """Ask for parts: at most a window at a time, again if they do not come."""
        late = now - job.asked_at > _ASK_AGAIN_SECONDS
        if job.index is None:
            count = -(-job.offer.index_bytes // PART_BYTES)
            missing = [number for number in range(count) if number not in job.chunks]
            what = "index"
        else:
            total = len(job.index.parts)
            missing, what = [], "sample"
            if not job.asked or late:
                job.spool.sync()
                if job.spool.count != job.status.parts:
                    self._set(job, Status("receiving", parts=job.spool.count))
                if job.spool.count == total:
                    self._set(job, Status("waiting", parts=total))
                    return
                missing = job.index.window(job.spool.missing(total))
        if missing and (late or not job.asked):
            wanted = ranges(missing)
            job.asked = {n for first, last in wanted for n in range(first, last + 1)}
            job.asked_at = now
            need = to_json(Need(what, wanted))  # type: ignore[arg-type]
            self._send(job.peer, Frame(Kind.NEED, job.name, 0, need))

    def _start(self, job: _Job) -> None:
        assert job.index is not None
        self._set(job, Status("training", parts=job.spool.count))
        job.worker = threading.Thread(target=self._train, args=(job, job.index))
        job.worker.start()

    def _train(self, job: _Job, index: Index) -> None:
        try:
            made = train_job(
                job.spool, job.offer, index, job.model, tell=lambda status: self._set(job, status),
                should_stop=self._stop.is_set, most_seconds=self._limits.seconds,
                threads=self._threads,
            )  # fmt: skip
            job.spool.keep_result(made)
        except Interrupted:  # it goes on when the receiver is started again
            return
        except TodError as error:
            self._failed(job, error.problem)
            return
        except Exception as error:  # a thread must not end without a word, whatever is wrong
            self._failed(job, f"{type(error).__name__}: {error}")
            return
        job.result = made
        self._set(job, Status("trained", parts=job.spool.count))

    def _announce(self, job: _Job) -> None:
        if job.result is None:
            return
        result, _ = opened_result(job.result)
        self._send(job.peer, Frame(Kind.RESULT, job.name, 0, to_json(result)))

    def _send_model(self, job: _Job, frame: Frame) -> None:
        if job.result is None:
            return
        try:
            need = from_json(frame.payload, Need)
        except ValueError as error:
            self._bad(job.peer, f"a request cannot be read: {error}")
            return
        parts = pieces(opened_result(job.result)[1])
        for number in need.numbers(len(parts)):
            self._send(job.peer, Frame(Kind.MODEL, job.name, number, parts[number]))

    def _set(self, job: _Job, status: Status) -> None:
        job.status = status
        self._tell(job)

    def _tell(self, job: _Job) -> None:
        data = to_json(job.status)
        self._send(job.peer, Frame(Kind.STATUS, job.name, 0, data))
        self._link.tell(job.peer, data)

    def _send(self, peer: str, frame: Frame) -> None:
        self._link.send(peer, frames.encode(frame))

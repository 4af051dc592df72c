"""The real `net_runner` in processes that are forked from one that has imported everything: they
start in milliseconds, so that hundreds can be killed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from tod.cli import net_runner

_CONTEXT = multiprocessing.get_context("forkserver")
# Loaded before the fork, with what they themselves load only when it is needed.
_LAZY = ["google.protobuf.descriptor_pb2", "google.protobuf.message_factory", "numpy.random"]
_LAZY += ["onnxruntime", "safetensors.numpy", "typer._adapters"]
_CONTEXT.set_forkserver_preload([__name__, *_LAZY])


class PowerCut:
    """Ends the process before the n-th call of write, fsync, rename or remove; or in the middle of
    the n-th write: half of the bytes are in the file, the others are not.

    Args:
        at: which call, from 0.
        half: count writes only, and end in the middle of one.
    """

    def __init__(self, at: int, half: bool) -> None:
        self._left = at
        self._half = half

    def install(self) -> None:
        from tod.system import files

        files.open = self._open
        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, self._watched(getattr(os, name)))

    def due(self) -> bool:
        self._left -= 1
        return self._left < 0

    def _watched(self, call: Any) -> Any:
        def watched(*arguments: Any) -> Any:
            if not self._half and self.due():
                die()
            return call(*arguments)

        return watched

    def _open(self, *arguments: Any) -> Any:
        return _Torn(open(*arguments, buffering=0), self, self._half)


class _Torn:
    """A file whose write may be the last thing that happens."""

    def __init__(self, file: Any, cut: PowerCut, half: bool) -> None:
        self._file, self._cut, self._half = file, cut, half

    def write(self, data: bytes) -> int:
        if self._cut.due():
            self._file.write(data[: len(data) // 2] if self._half else b"")
            die()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def _job(arguments: list[str], output: Connection, cut: PowerCut | None, limit_bytes: int) -> None:
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    if limit_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    if cut is not None:
        cut.install()
    sys.argv = ["net_runner", *arguments]
    net_runner.main()


class Runner:
    """One `net_runner` process.

    Attributes:
        lines: what it writes, as it comes; ends with the process.
    """

    def __init__(self, arguments: tuple[object, ...], cut: PowerCut | None, limit_bytes: int):
        reader, writer = _CONTEXT.Pipe(duplex=False)
        job = ([str(argument) for argument in arguments], writer, cut, limit_bytes)
        self._process = _CONTEXT.Process(target=_job, args=job)
        self._process.start()
        writer.close()
        self._file = os.fdopen(os.dup(reader.fileno()))
        reader.close()
        self.lines: Iterator[str] = iter(self._file)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """Wait; exit code, and what it wrote that was not read yet."""
        text = "".join(self.lines)
        self._process.join(60)
        return self._process.exitcode, text

    def close(self) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._file.close()


@contextmanager
def started(
    *arguments: object, cut: PowerCut | None = None, limit_bytes: int = 0
) -> Iterator[Runner]:
    """A `net_runner` process with these arguments, gone at the end."""
    runner = Runner(arguments, cut, limit_bytes)
    try:
        yield runner
    finally:
        runner.close()


def run(*arguments: object, cut: PowerCut | None = None, limit_bytes: int = 0) -> tuple[int, str]:
    """A whole `net_runner`: exit code, stdout and stderr together."""
    with started(*arguments, cut=cut, limit_bytes=limit_bytes) as runner:
        return runner.end()

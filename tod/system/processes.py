"""Run a task in a separate process, so that its peak memory can be measured, its memory is freed
afterwards, and it can be stopped at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from tod.errors import DeviceError, Interrupted, TodError, first_line

_POLL_SECONDS = 0.1
_POLITE_SECONDS = 2


def isolated(
    task: Callable[..., Iterator[Any]], *arguments: Any, should_stop: Callable[[], bool]
) -> Iterator[Any]:
    """Call a generator function in a new process and yield what it yields.

    Args:
        task: a function of a module, not a closure; its yielded values can be pickled.
        arguments: for the task.
        should_stop: called ten times a second; when it returns True, the process is ended.

    Raises:
        Interrupted: `should_stop` returned True.
        DeviceError: the process died, e.g. because memory ran out.
        TodError: the task raised it.
    """
    # A forked copy starts at once and needs no path to an interpreter. If Python came in a package
    # of ours, there may be no interpreter that the kernel can start.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, task, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            while not receiver.poll(_POLL_SECONDS):
                if should_stop():
                    raise Interrupted("stopped while measuring; nothing is reported")
            kind, content = receiver.recv()
            if kind == "end":
                return
            if kind == "error":
                raise content
            yield content
    except EOFError:
        process.join()
        raise DeviceError(
            f"a measurement ended without a result (exit code {process.exitcode})",
            hint="if it was killed (-9), memory ran out: try a smaller --batch",
        ) from None
    finally:
        # Terminate first, so that the task can remove its temporary files.
        process.terminate()
        process.join(_POLITE_SECONDS)
        process.kill()
        process.join()


def _work(sender: Connection, task: Callable[..., Iterator[Any]], arguments: tuple[Any]) -> None:
    # Ctrl-C and a closed terminal signal this process too, but the parent process decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for content in task(*arguments):
            sender.send(("record", content))
        sender.send(("end", None))
    except MemoryError:
        sender.send(("error", DeviceError("memory ran out", hint="try a smaller --batch")))
    except TodError as error:
        sender.send(("error", error))
    except Exception as error:  # not every error can be sent
        sender.send(("error", RuntimeError(f"{type(error).__name__}: {first_line(error)}")))
    finally:
        sender.close()
        # Exit at once, so that open output of the parent (a progress bar, a log) is not written
        # twice.
        os._exit(0)

"""Standard input, output and error: open them if missing, and drop them if they are broken.

Knows descriptors 0 to 2; knows nothing of what is written to them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STANDARD = range(3)
_SILENCE = threading.Lock()


def open_streams() -> None:
    """Open missing standard streams on the null device: input is empty, and output is dropped.

    Call this before any file is opened. Otherwise that file gets the number of a standard stream,
    and text for the screen is written into it.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(  # noqa: SIM115
                number, "w" if number else "r", encoding="utf-8", errors="backslashreplace",
                closefd=False,
            )  # fmt: skip
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def give_up_broken() -> None:
    """Drop output that cannot be written (a full disk, a closed pipe, a terminal that is gone). It
    is still in Python's buffers and would fail again at exit."""
    for stream in (sys.__stdout__, sys.__stderr__):  # the real streams, not those of a live view
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def on_terminal() -> bool:
    """Tell whether a terminal is connected; a terminal that is gone does not count."""
    return sys.stdout.isatty() or sys.stderr.isatty()


@contextmanager
def silenced() -> Iterator[None]:
    """Keep what a library of C prints on stderr from it, where no setting does. What other threads
    print meanwhile is lost too, so this is for moments only."""
    with _SILENCE:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
                yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

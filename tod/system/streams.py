"""Standard input, output and error: there from the start, and given up when nobody is behind them.

Knows descriptors 0 to 2; knows nothing of what is written to them.
"""

from __future__ import annotations

import os
import sys

_STANDARD = range(3)


def open_streams() -> None:
    """Open those of the three that this program was started without: nothing comes from them, and
    what is written to them goes nowhere.

    Has to be called before any file is opened, which would get their numbers, and with it what is
    meant for the screen.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
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
    """Send the rest of what cannot be written (a full disk, a closed pipe, a terminal that is gone)
    nowhere: it is still in Python's buffers, and would fail once more at the exit."""
    for stream in (sys.__stdout__, sys.__stderr__):  # behind what a live view puts before them
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def on_terminal() -> bool:
    """Whether somebody looks on; of a terminal that is gone nobody can tell that it was one."""
    return sys.stdout.isatty() or sys.stderr.isatty()

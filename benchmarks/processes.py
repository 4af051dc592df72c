"""Run a command as a whole process: seconds from start to exit, and its peak memory.

Imports nothing heavy: a child starts as a copy of its parent, whose memory counts as its own peak.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Memory that was freed stays with the process: no call to the kernel for each large array.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


@dataclass(frozen=True)
class Done:
    """What one process took; `peak_mb` is its largest resident memory in MiB, or NaN where that of
    this program hides it."""

    seconds: float
    peak_mb: float
    output: str

    def number(self, label: str) -> str:
        """The last number that it printed behind a label: "accuracy on test data = 0.9"."""
        return next(
            line.split(f"{label} = ")[1].split()[0]
            for line in reversed(self.output.splitlines())
            if f"{label} = " in line
        )


def run(command: Sequence[object], environment: Mapping[str, str] | None = None) -> Done:
    """Run a command and wait for it; stops the benchmark when it fails."""
    arguments = [str(part) for part in command]
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            arguments,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    if process.returncode:
        sys.exit(f"{arguments} failed with {process.returncode}:\n{text}")
    hidden = usage.ru_maxrss <= own_peak_kb()
    return Done(seconds, math.nan if hidden else usage.ru_maxrss / 1024, text)


def printed(name: str, *arguments: object) -> float:
    """The number that another benchmark prints last, in a process of its own."""
    return float(run(module(name, *arguments)).output.split()[-1])


def own_peak_kb() -> int:
    """The most memory of this program; `ru_maxrss` would count what its parent held as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def seconds_until(command: Sequence[object], text: str) -> float:
    """Seconds from the start of a command until a line with `text` comes out of it."""
    arguments = [str(part) for part in command]
    start = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = (time.perf_counter() - start for line in process.stdout if text.encode() in line)
        found = next(lines, None)
        process.stdout.read()
    if found is None or process.returncode:
        sys.exit(f"{arguments} ended with {process.returncode} and without {text!r}")
    return found


def program(name: str) -> Path:
    """A console script of the environment that runs this: `tod` or `net_runner`."""
    return Path(sys.executable).with_name(name)


def module(name: str, *arguments: object) -> list[object]:
    """The command of another benchmark."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]

"""Where the time of a run goes: tests, seconds and processor seconds for each folder of tests.

Under load the seconds of the clock say little; those of the processor, children included, stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

_KEY = "processor seconds"
_last = [0.0]


def _used() -> float:
    """Processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def pytest_runtest_logstart() -> None:
    _last[0] = _used()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """What a phase of a test used goes with its report, from a worker to the terminal."""
    report = (yield).get_result()
    now = _used()
    report.user_properties = [*report.user_properties, (_KEY, now - _last[0])]
    _last[0] = now


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table by folder, the longest first."""
    table: dict[str, list[float]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            folder = "/".join(report.nodeid.split("/")[:2])
            row = table.setdefault(folder, [0, 0, 0])
            row[0] += report.when == "call"
            row[1] += report.duration
            row[2] += dict(report.user_properties).get(_KEY, 0)
    if len(table) < 2:
        return
    table["all"] = [sum(column) for column in zip(*table.values(), strict=True)]
    terminalreporter.write_line(f"\n{'folder':20} {'tests':>6} {'s':>7} {'cpu s':>7}")
    for folder, (tests, seconds, cpu) in sorted(table.items(), key=lambda item: -item[1][2]):
        terminalreporter.write_line(f"{folder:20} {tests:6.0f} {seconds:7.0f} {cpu:7.0f}")

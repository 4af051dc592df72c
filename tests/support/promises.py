"""How often each promise of docs/reliability.md was tried, and how often it was broken.

A test that tries to break one is marked, and takes its trials from the fixture:

    @pytest.mark.promise("A killed run loses nothing", "SIGKILL at random moments, then --resume")
    def test_a_killed_run_resumes(trials):
        for seed in trials(20, soak=200): ...

`make soak` runs the marked tests with the larger numbers and prints the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

SOAK = bool(os.environ.get("TOD_SOAK"))
_KEY = "promise"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "promise(text, how): a promise to users, and how the test tries to break it"
    )


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Callable[..., Iterator[int]]:
    """`trials(n, soak=m)`: the seeds 0 to n - 1, or to m - 1 in the long run, counted. A trial that
    was begun and not finished is a loss."""
    marker = request.node.get_closest_marker(_KEY)
    assert marker is not None, "trials are counted for a promise: mark the test with one"
    text, how = marker.args
    count = {"promise": text, "how": how, "begun": 0, "kept": 0}
    request.node.user_properties.append((_KEY, count))

    def seeds(number: int, *, soak: int) -> Iterator[int]:
        for seed in range(soak if SOAK else number):
            count["begun"] += 1
            yield seed
            count["kept"] += 1

    return seeds


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of the long run, in Markdown."""
    if not SOAK:
        return
    found: dict[tuple[str, str], list[int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, count in report.user_properties:
                if name == _KEY:
                    row = found.setdefault((count["promise"], count["how"]), [0, 0])
                    row[0] += count["begun"]
                    row[1] += count["begun"] - count["kept"]
    terminalreporter.write_line("\n| promise | how it is tried | trials | losses |")
    terminalreporter.write_line("|---|---|---:|---:|")
    for (text, how), (begun, lost) in sorted(found.items()):
        terminalreporter.write_line(f"| {text} | {how} | {begun:,} | {lost} |")

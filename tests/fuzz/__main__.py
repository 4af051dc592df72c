"""Coverage-guided fuzzing of one target of `tests.fuzz.targets`: `make fuzz` runs all of them.

    python -m tests.fuzz TARGET SECONDS

What it finds is written to tests/fuzz/found/TARGET and stays there: pytest replays it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tod", "tests.fuzz.targets"]):
    from tests.fuzz import targets


def main() -> None:
    target, seconds = sys.argv[1:]
    corpus = Path("build", "fuzz", target)
    found = targets.HERE / "found" / target
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(targets.seed_inputs(target)):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [
        f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=65536",
        f"-artifact_prefix={found}/", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup(
        [sys.argv[0], *options, str(corpus), str(found)],
        lambda data: targets.once(target, data),
    )
    atheris.Fuzz()


main()

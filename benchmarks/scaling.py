"""What a run costs with more pictures, cycles and threads, cold and warm; and how fast it starts.

Run it with `python -m benchmarks.scaling`; `--help` lists the choices. EfficientNet-Lite0, batch
32, whole processes from start to exit. `--pictures 36500` is as many as Places365 has to validate;
from 20000 on the BMPs have 128 px and are resized as they are read, so that they fit into 2 GB.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.data import machine, prepared
from benchmarks.processes import program, run, seconds_until
from benchmarks.sides import in_turn
from benchmarks.whole_job import export, net_runner

LARGE = 20000


def cold_and_warm(job: list[object]) -> list[float]:
    """Seconds, then peak MB: of a run without features in the cache and of the same with them."""
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (run([*job, "--cache-dir", cache]) for _ in range(2))
    return [cold.seconds, warm.seconds, cold.peak_mb, warm.peak_mb]


def head(what: str) -> None:
    print(f"\n| {what} | cold s | warm s | cold peak MB | warm peak MB |\n|---|---|---|---|---|")


def row(name: int, rounds: list[list[float]]) -> None:
    """Medians over rounds."""
    cells = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(f"| {name} | {' | '.join(f'{cell:.4g}' for cell in cells)} |", flush=True)


def by_option(what: str, job: list[object], option: str, values: list[int], rounds: int) -> None:
    """A table of one option's values, in turn in every round."""
    head(what)
    sides = {value: partial(cold_and_warm, [*job, option, value]) for value in values}
    for value, times in in_turn(sides, rounds).items():
        row(value, times)


def by_pictures(model: Path, counts: list[int]) -> None:
    head("pictures, 60 cycles, one round")
    for count in counts:
        with prepared(count, size_px=224 if count < LARGE else 128) as dataset:
            row(count, [cold_and_warm(net_runner(model, dataset, "-c", 60))])


def starts(model: Path, dataset: Path, rounds: int) -> None:
    """Medians of `--help`, and of the first cycle with the features in the cache."""
    print("\n| from process start to | s |\n|---|---|")
    for name in ("net_runner", "tod"):
        found = [run([program(name), "--help"]).seconds for _ in range(rounds)]
        print(f"| {name} --help | {statistics.median(found):.3f} |")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        job = net_runner(model, dataset, "--cache-dir", folder, "-c", 60, "--json", "--log", log)
        run(job)
        found = [seconds_until(job, '"cycle_done"') for _ in range(rounds)]
    print(f"| first cycle, 1000 pictures, warm | {statistics.median(found):.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--pictures", nargs="*", type=int, default=[100, 1000, 10000])
    parser.add_argument("--cycles", nargs="*", type=int, default=[60, 600, 6000])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        # Random weights would do for the seconds; these come with the package.
        model = export(Path(folder), "efficientnet-lite0", Path(folder), int8=False)
        with prepared(1000) as dataset:
            starts(model, dataset, options.rounds)
            job, rounds = net_runner(model, dataset), options.rounds
            by_option("threads", [*job, "-c", 60], "-t", options.threads, rounds)
            by_option("cycles", job, "-c", options.cycles, rounds)
        by_pictures(model, options.pictures)


if __name__ == "__main__":
    main()

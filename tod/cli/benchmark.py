"""The command `tod benchmark`: figures -> tables, or one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tod.cli import options
from tod.cli.frame import stop_requests
from tod.errors import UsageError
from tod.report.progress import progress_bar
from tod.report.tables import percent, print_pairs, print_table

if TYPE_CHECKING:
    from tod.benchmark.plan import Plan
    from tod.benchmark.results import (
        Benchmark,
        Duel,
        HeadCycle,
        Job,
        Load,
        Machine,
        Memory,
        Profile,
        Progress,
        Result,
        Sustained,
    )
    from tod.benchmark.timing import Timing

_TIMES = ("Median", "Average", "Min", "Max", "p90", "p99")
_EXPLAINED = """
2 threads: one batch after the other, two threads for each. 2 workers: two
batches side by side, one thread for each, as in a job. Memory is the peak of
a process that does nothing else, from opening the file on; Python and NumPy,
and libraries that processes share, are in it."""
_Kind = TypeVar("_Kind")


def benchmark(
    models: Annotated[list[Path], typer.Argument(help="A .tod file, or two to compare.")],
    data: Annotated[
        Path | None, typer.Option("-d", "--data", help="Also the whole job on these pictures.")
    ] = None,
    splits: options.Splits = False,
    batch: Annotated[str, typer.Option(help="Batch sizes of the backbone.")] = "1,2,4,8",
    threads: Annotated[
        str | None, typer.Option("-t", "--threads", help="Numbers of threads (default: 1,cores).")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of each measurement.")] = 1.0,
    sustained: Annotated[
        float | None, typer.Option(help="Seconds without a pause: does it get slower?")
    ] = None,
    cycles: Annotated[int, typer.Option("-c", "--cycles", help="Cycles of the whole job.")] = 60,
    profile: Annotated[bool, typer.Option("--profile", help="Also time by operator.")] = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
    quiet: options.Quiet = False,
) -> None:
    """What a model costs here: loading, backbone, head cycle, whole job, memory.

    Example: tod benchmark transfer_learning.tod -d dataset

    Example: tod benchmark transfer_learning.tod --batch 4,8 --threads 2 --sustained 60 --profile

    Example: tod benchmark before.tod after.tod --json
    """
    with stop_requests() as should_stop:
        from tod.benchmark.plan import Plan

        plan = Plan(
            batches=_numbers("--batch", batch),
            threads=() if threads is None else _numbers("--threads", threads),
            seconds=seconds,
            sustained_seconds=sustained,
            cycles=cycles,
            profile=profile,
            splits=splits,
        )
        _benchmark_files(
            models, plan, data=data, require_signature=require_signature, as_json=as_json,
            quiet=quiet, should_stop=should_stop,
        )  # fmt: skip


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise UsageError(
            f"{option} is {text!r}, whole numbers with commas between them are wanted",
            hint=f"e.g. {option} 1,2",
        ) from None


def _benchmark_files(
    paths: Sequence[Path],
    plan: Plan,
    *,
    data: Path | None,
    require_signature: Path | None = None,
    as_json: bool,
    quiet: bool,
    should_stop: Callable[[], bool],
) -> None:
    """Measure one model, or two against each other, and print what was found.

    Raises:
        UsageError: more than two models, or an option that works only with one model.
    """
    import msgspec

    from tod.benchmark.plan import benchmark, duel
    from tod.benchmark.results import Duel
    from tod.format import artifact

    if len(paths) > 2:
        raise UsageError(
            f"{len(paths)} files were given; one is measured, or two are compared",
            hint="tod benchmark A.tod B.tod",
        )
    # Here, once: the processes that measure open the same files.
    for path in paths if require_signature else ():
        artifact.read(path, require_signature=require_signature)
    if len(paths) == 2 and (plan.profile or plan.sustained_seconds is not None):
        raise UsageError(
            "--profile and --sustained are for one file; here two are compared",
            hint="run tod benchmark on each of them",
        )
    if len(paths) == 2:
        pair = (paths[0], paths[1])
        results = _collect(duel(pair, plan, data=data, should_stop=should_stop), quiet)
        found: Duel | Benchmark = _duel(pair, results)
    else:
        results = _collect(benchmark(paths[0], plan, data=data, should_stop=should_stop), quiet)
        found = _benchmark(paths[0], data, results)
    if as_json:
        print(msgspec.json.encode(found).decode())
    elif isinstance(found, Duel):
        _print_duel(found)
    else:
        _print_benchmark(found)


def _collect(records: Iterator[Result | Progress], quiet: bool) -> list[Result]:
    from tod.benchmark.results import Progress

    results: list[Result] = []
    with ExitStack() as stack:
        show = progress_bar(stack, "measured, %", quiet=quiet)
        for record in records:
            if isinstance(record, Progress):
                show(record.done, record.total)
            else:
                results.append(record)
    return results


def _of(kind: type[_Kind], results: Sequence[Any]) -> tuple[_Kind, ...]:
    return tuple(result for result in results if isinstance(result, kind))


def _benchmark(path: Path, data: Path | None, results: Sequence[Result]) -> Benchmark:
    from tod.benchmark.results import (
        BackboneTiming,
        Benchmark,
        HeadCycle,
        Job,
        Load,
        Machine,
        Profile,
        Sustained,
    )

    return Benchmark(
        model=str(path),
        data=None if data is None else str(data),
        machine=_of(Machine, results)[0],
        job=next(iter(_of(Job, results)), None),
        load=_of(Load, results)[0],
        backbone=_of(BackboneTiming, results),
        head_cycle=_of(HeadCycle, results)[0],
        sustained=next(iter(_of(Sustained, results)), None),
        profile=_of(Profile, results),
    )


def _duel(paths: tuple[Path, Path], results: Sequence[Result]) -> Duel:
    from tod.benchmark.results import Comparison, Duel, Machine

    a, b = map(str, paths)
    return Duel(a, b, _of(Machine, results)[0], _of(Comparison, results))


def _print_benchmark(found: Benchmark) -> None:
    print_pairs(found.model, _machine_pairs(found.machine))
    if found.job is not None:
        _print_job(found.job)
    _print_load(found.load)
    _print_backbone(found)
    _print_head(found.head_cycle)
    if found.sustained is not None:
        _print_sustained(found.sustained)
    for profile in found.profile:
        _print_profile(profile)
    print(_EXPLAINED)


def _machine_pairs(m: Machine) -> list[tuple[str, str]]:
    return [
        ("processor", f"{m.processor}, {m.cores} cores"),
        ("governor", m.governor or "not reported"),
        ("temperature", _celsius(m.temperature_celsius)),
        ("system", m.system),
        ("versions", ", ".join(f"{name} {text}" for name, text in m.versions.items())),
    ]


def _print_job(job: Job) -> None:
    rows = [(name, _ms(took), percent(took / job.total_ms)) for name, took in job.phases_ms.items()]
    rows.append(("all", _ms(job.total_ms), ""))
    workers = _many(job.threads, "worker")
    title = f"whole job: {job.pictures} pictures, {job.cycles} cycles, {workers}"
    print_table(title, ("phase", "ms", "share"), rows, dense=True)
    rate = job.pictures / job.phases_ms["pictures"] * 1e3
    print(f"{rate:.1f} pictures/s in their phase; validation {job.validation:.3f}")
    print(f"peak {_memory(job.memory)}")


def _print_load(load: Load) -> None:
    timings = {f"read and verify ({load.file_mb:.1f} MB)": load.read}
    timings |= {f"session of {graph}": timing for graph, timing in load.sessions.items()}
    rows = [(name, str(t.count), *_times(t)) for name, t in timings.items()]
    columns = ("step", "Count", *_TIMES)
    print_table(f"load, ms; peak {_memory(load.memory)}", columns, rows, dense=True)


def _print_backbone(found: Benchmark) -> None:
    rows = [
        (
            _many(b.workers, "worker") if b.workers > 1 else _many(b.threads, "thread"),
            str(b.batch),
            f"{b.throughput:.1f}",
            *_times(b.timing),
            "-" if b.memory is None else f"{b.memory.peak_mb:.0f}",
        )
        for b in found.backbone
    ]
    pixels = found.data or "random pixels"
    title = f"backbone on {pixels}: pictures/s, ms per batch, peak MB"
    columns = ("", "Batch", "Throughput", *_TIMES, "MB")
    print_table(title, columns, rows, dense=True)


def _print_head(head: HeadCycle) -> None:
    title = (
        f"head cycle: batch {head.batch}, {head.classes} classes, "
        f"{_many(head.threads, 'thread')}; "
        f"peak {_memory(head.memory)}"
    )
    print_table(
        title, ("Count", *_TIMES), [(str(head.timing.count), *_times(head.timing))], dense=True
    )


def _print_sustained(run: Sustained) -> None:
    import numpy as np

    edges = pairwise(np.linspace(0, run.seconds, len(run.throughput) + 1))
    rows = [
        (f"{low:.3g} - {high:.3g}", f"{rate:.1f}", f"{100 * (rate / run.throughput[0] - 1):+.1f} %")
        for (low, high), rate in zip(edges, run.throughput, strict=True)
    ]
    title = (
        f"sustained: batch {run.batch}, {_many(run.workers, 'worker')}; pictures/s, "
        f"drift {100 * run.drift:+.1f} %"
    )
    print_table(title, ("seconds", "Throughput", "against the first"), rows, dense=True)
    before, after = run.temperature_before_celsius, run.temperature_after_celsius
    print(f"temperature: {_celsius(before)} before, {_celsius(after)} after")


def _print_profile(profile: Profile) -> None:
    pairs = list(zip(profile.operators, profile.shares, strict=True))
    rows = [(o.operator, str(o.calls), f"{o.total_ms:.2f}", percent(s)) for o, s in pairs]
    title = f"{profile.graph} by operator: batch {profile.batch}, {profile.runs} runs, 1 thread"
    print_table(title, ("operator", "calls", "total ms", "share"), rows, dense=True)


def _print_duel(found: Duel) -> None:
    import numpy as np

    print_pairs("A and B in turn", [("A", found.a), ("B", found.b), *_machine_pairs(found.machine)])
    rows = [
        (
            c.what,
            str(c.batch[0]) if len(set(c.batch)) == 1 else f"{c.batch[0]}; {c.batch[1]}",
            str(c.workers),
            _ms(float(np.median(c.a_ms))),
            _ms(float(np.median(c.b_ms))),
            f"{c.median_ratio:.3f}",
            f"{c.quartiles[0]:.3f} - {c.quartiles[1]:.3f}",
        )
        for c in found.comparisons
    ]
    columns = ("", "Batch", "Workers", "A ms", "B ms", "A / B", "quartiles")
    title = f"Median of {len(found.comparisons[0].ratios)} pairs: ms per picture, ms per head cycle"
    print_table(title, columns, rows, dense=True)
    print("A / B, pair by pair: how many times as fast B is")


def _times(timing: Timing) -> list[str]:
    values = (
        timing.median_ms, timing.average_ms, timing.min_ms, timing.max_ms, timing.p90_ms,
        timing.p99_ms,
    )  # fmt: skip
    return [_ms(value) for value in values]


def _ms(value: float) -> str:
    """Write three digits, or all digits before the point."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def _memory(memory: Memory | None) -> str:
    if memory is None:
        return "not reported"
    return f"{memory.peak_mb:.0f} MB, {memory.above_mb:.0f} above the start"


def _celsius(value: float | None) -> str:
    return "not reported" if value is None else f"{value:.1f} °C"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")

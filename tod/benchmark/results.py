"""Results of `tod benchmark`, as frozen records. Throughput is in pictures per second."""

from __future__ import annotations

from dataclasses import dataclass

from tod.benchmark.timing import Timing
from tod.runtime.engine import OperatorTime


@dataclass(frozen=True)
class Machine:
    """The machine of the measurement; values that it does not report are None."""

    processor: str
    cores: int
    governor: str | None
    temperature_celsius: float | None
    system: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Memory:
    """Memory of the measurement's own process, before it loads the model and at its peak. Both
    include Python, NumPy and this package; only the peak includes the model, onnxruntime and its
    libraries."""

    before_mb: float
    peak_mb: float

    @property
    def above_mb(self) -> float:
        return self.peak_mb - self.before_mb


@dataclass(frozen=True)
class Load:
    """Time to read and verify the file, and to make the runtime's session of each graph."""

    file_mb: float
    read: Timing
    sessions: dict[str, Timing]
    memory: Memory | None


@dataclass(frozen=True)
class Job:
    """Training from start to end as net_runner does it, without an early stop. The milliseconds of
    the phases add up to the whole job; `pictures` is the number of pictures that were read."""

    pictures: int
    cycles: int
    threads: int
    phases_ms: dict[str, float]
    validation: float
    memory: Memory | None

    @property
    def total_ms(self) -> float:
        return sum(self.phases_ms.values())


@dataclass(frozen=True)
class BackboneTiming:
    """`features.onnx` in several workers of several threads each. `timing` is that of one batch in
    one worker."""

    batch: int
    workers: int
    threads: int
    throughput: float
    timing: Timing
    memory: Memory | None


@dataclass(frozen=True)
class HeadCycle:
    """One training step, from features to the next state."""

    batch: int
    classes: int
    threads: int
    timing: Timing
    memory: Memory | None


@dataclass(frozen=True)
class Sustained:
    """The backbone without a pause, in equal slices of the time. `drift` is the change from the
    first slice to the last, as a share of the first."""

    batch: int
    workers: int
    seconds: float
    throughput: tuple[float, ...]
    drift: float
    temperature_before_celsius: float | None
    temperature_after_celsius: float | None


@dataclass(frozen=True)
class Profile:
    """Time by operator of one graph in one thread, slowest first, and the share of each."""

    graph: str
    batch: int
    runs: int
    operators: tuple[OperatorTime, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Two models in turn, pair by pair: milliseconds per picture of the backbone, or of a head
    cycle. A ratio is A's time divided by B's: how many times as fast B is."""

    what: str
    batch: tuple[int, int]
    workers: int
    a_ms: tuple[float, ...]
    b_ms: tuple[float, ...]
    ratios: tuple[float, ...]
    median_ratio: float
    quartiles: tuple[float, float]


@dataclass(frozen=True)
class Progress:
    """Progress of the measurements."""

    done: int
    total: int


Result = Machine | Load | Job | BackboneTiming | HeadCycle | Sustained | Profile | Comparison


@dataclass(frozen=True)
class Benchmark:
    """All results of one model; results that were not requested are None or empty."""

    model: str
    data: str | None
    machine: Machine
    job: Job | None
    load: Load
    backbone: tuple[BackboneTiming, ...]
    head_cycle: HeadCycle
    sustained: Sustained | None
    profile: tuple[Profile, ...]


@dataclass(frozen=True)
class Duel:
    """Two models against each other."""

    a: str
    b: str
    machine: Machine
    comparisons: tuple[Comparison, ...]

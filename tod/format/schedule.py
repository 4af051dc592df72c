"""Learning-rate schedules: compute the rate of a cycle from its number alone.

Knows numbers only. Each equals the schedule of that name in `torch.optim.lr_scheduler`, stepped
once a cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from tod.errors import UsageError

Kind = Literal["constant", "step", "exponential", "cosine", "linear"]
MAX_CYCLES = 1_000_000_000
_USED = {
    "constant": {"warmup"},
    "step": {"warmup", "period", "gamma"},
    "exponential": {"warmup", "gamma"},
    "cosine": {"warmup", "period", "multiply", "floor"},
    "linear": {"warmup", "period", "floor"},
}
_NEEDED = {"step": ("gamma", "period"), "exponential": ("gamma",)}
EXAMPLES = "cosine, cosine:period=20,multiply=2, step:period=20,gamma=0.1, linear:warmup=5"


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes over a run.

    Attributes:
        kind: "constant"; "step", times `gamma` every `period` cycles (`StepLR`); "exponential",
            times `gamma` each cycle (`ExponentialLR`); "cosine", half a cosine down to `floor`
            over the run (`CosineAnnealingLR`) or, with a `period`, repeatedly
            (`CosineAnnealingWarmRestarts`); "linear", a line down to `floor` (`LinearLR`).
        warmup: cycles in which the rate first rises linearly; the schedule starts after them.
        period: cycles in a period; for "linear", cycles of the line (0: the whole run).
        gamma: the factor of "step" and "exponential".
        multiply: for "cosine": each period is this many times as long as the period before.
        floor: for "cosine" and "linear": the least rate as a share of the full rate.
    """

    kind: Kind = "constant"
    warmup: int = 0
    period: int = 0
    gamma: float = 1.0
    multiply: int = 1
    floor: float = 0.0

    def rate(self, lr: float, step: int, total: int) -> float:
        """The learning rate of one cycle.

        Args:
            lr: the full rate.
            step: cycles done before this one.
            total: cycles of the run.
        """
        if step < self.warmup:
            return lr * (step + 1) / (self.warmup + 1)
        step, total = step - self.warmup, max(total - self.warmup, 1)
        if self.kind == "step":
            return lr * self.gamma ** (step // self.period)
        if self.kind == "exponential":
            return lr * self.gamma**step
        if self.kind == "cosine":
            done = self._share_of_period(step) if self.period else min(step / total, 1.0)
            return lr * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)
        if self.kind == "linear":
            done = min(step / (self.period or total), 1.0)
            return lr * (1 + (self.floor - 1) * done)
        return lr

    @property
    def follows_run(self) -> bool:
        """True if the rate of a cycle depends on the number of cycles of the run."""
        return self.kind in ("cosine", "linear") and not self.period

    @property
    def problem(self) -> str:
        """What makes the schedule invalid; empty if it is valid."""
        if self.warmup < 0 or self.period < 0 or self.multiply < 1:
            return "warmup and period are 0 or more, multiply is 1 or more"
        if max(self.warmup, self.period, self.multiply) > MAX_CYCLES:
            return f"warmup, period and multiply are at most {MAX_CYCLES:,}"
        if self.kind == "step" and self.period < 1:
            return "period is 1 or more"
        if not 0 < self.gamma <= 1 or not 0 <= self.floor <= 1:
            return "gamma is above 0 and at most 1, floor is 0 to 1"
        if self.multiply > 1 and not self.period:
            return "multiply needs a period"
        return ""

    def _share_of_period(self, step: int) -> float:
        length = self.period
        if self.multiply == 1:
            return step % length / length
        while step >= length:
            step -= length
            length *= self.multiply
        return step / length

    def __str__(self) -> str:
        plain = Schedule(self.kind)
        changed = [
            f"{field.name}={getattr(self, field.name):g}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(plain, field.name)
        ]
        return f"{self.kind}:{','.join(changed)}" if changed else self.kind


def parse(text: str) -> Schedule:
    """Read a schedule as `str` writes it, such as "cosine:warmup=5,floor=0.01".

    Raises:
        UsageError: says what is wrong with it.
    """
    kind, _, rest = text.partition(":")
    kinds = {f.name: f.type for f in fields(Schedule)}
    values: dict[str, float] = {}
    for part in filter(None, rest.split(",")):
        name, _, number = part.partition("=")
        if name not in kinds or name == "kind":
            raise _wrong(text, f"'{name}' is no setting of it")
        try:
            values[name] = int(number) if kinds[name] == "int" else float(number)
        except ValueError:
            raise _wrong(text, f"{name}={number} is not a {kinds[name]}") from None
    if kind not in get_args(Kind):
        raise _wrong(text, f"'{kind}' is none of {', '.join(get_args(Kind))}")
    schedule = Schedule(kind, **values)  # type: ignore[arg-type]
    if unused := sorted(set(values) - _USED[kind]):
        raise _wrong(text, f"{kind} has no {', '.join(unused)}")
    if missing := [name for name in _NEEDED.get(kind, ()) if name not in values]:
        raise _wrong(text, f"{kind} needs {' and '.join(missing)}")
    if schedule.problem:
        raise _wrong(text, schedule.problem)
    return schedule


def _wrong(text: str, problem: str) -> UsageError:
    return UsageError(f"schedule '{text}': {problem}", hint=f"for example {EXAMPLES}")

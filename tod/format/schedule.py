"""Learning-rate schedules: compute the rate of a cycle from its number alone.

Knows numbers only. Each equals the schedule of that name in `torch.optim.lr_scheduler`, stepped
once a cycle.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, fields
from typing import Literal, get_args

from tod.errors import UsageError

Kind = Literal["constant", "step", "exponential", "cosine", "linear", "pieces"]
MAX_CYCLES = 1_000_000_000
_USED = {
    "constant": {"warmup"},
    "step": {"warmup", "period", "gamma"},
    "exponential": {"warmup", "gamma"},
    "cosine": {"warmup", "period", "multiply", "floor"},
    "linear": {"warmup", "period", "floor"},
    "pieces": {"warmup", "at", "shares"},
}
_NEEDED = {
    "step": ("gamma", "period"),
    "exponential": ("gamma",),
    "pieces": ("at", "shares"),
}
_MAX_PIECES = 1000
EXAMPLES = "cosine, cosine:period=20,multiply=2, step:period=20,gamma=0.1, linear:warmup=5"


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes over a run.

    Attributes:
        kind: "constant"; "step", times `gamma` every `period` cycles (`StepLR`); "exponential",
            times `gamma` each cycle (`ExponentialLR`); "cosine", half a cosine down to `floor`
            over the run (`CosineAnnealingLR`) or, with a `period`, repeatedly
            (`CosineAnnealingWarmRestarts`); "linear", a line down to `floor` (`LinearLR`);
            "pieces", another share of the rate from each of some cycles on (`LambdaLR`).
        warmup: cycles in which the rate first rises linearly; the schedule starts after them.
        period: cycles in a period; for "linear", cycles of the line (0: the whole run).
        gamma: the factor of "step" and "exponential".
        multiply: for "cosine": each period is this many times as long as the period before.
        floor: for "cosine" and "linear": the least rate as a share of the full rate.
        at: for "pieces": how many cycles come before each change, increasing.
        shares: for "pieces": the rate from that change on as a share of the full rate.
    """

    kind: Kind = "constant"
    warmup: int = 0
    period: int = 0
    gamma: float = 1.0
    multiply: int = 1
    floor: float = 0.0
    at: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()

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
        if self.kind == "pieces":
            piece = bisect_right(self.at, step)
            return lr * self.shares[piece - 1] if piece else lr
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
        return self._problem_of_pieces

    @property
    def _problem_of_pieces(self) -> str:
        if len(self.at) != len(self.shares) or (self.kind == "pieces" and not self.at):
            return f"at has {len(self.at)} cycles and shares {len(self.shares)} numbers"
        if len(self.at) > _MAX_PIECES:
            return f"at most {_MAX_PIECES:,} pieces are allowed"
        if any(b <= a for a, b in zip((0, *self.at), self.at, strict=False)):
            return "at increases, from 1 on"
        if self.at and self.at[-1] > MAX_CYCLES:
            return f"at is at most {MAX_CYCLES:,}"
        if not all(0 <= share < math.inf for share in self.shares):
            return "shares are 0 or more"
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
            f"{field.name}={_text(getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(plain, field.name)
        ]
        return f"{self.kind}:{','.join(changed)}" if changed else self.kind


def _text(value: float | tuple[float, ...]) -> str:
    # repr of a share: six digits would be another rate after the way through a file's history.
    return "/".join(map(repr, value)) if isinstance(value, tuple) else f"{value:g}"


def _value(text: str, kind: str) -> float | tuple[float, ...]:
    convert = int if "int" in kind else float
    return tuple(map(convert, text.split("/"))) if "tuple" in kind else convert(text)


def parse(text: str) -> Schedule:
    """Read a schedule as `str` writes it, such as "cosine:warmup=5,floor=0.01".

    Raises:
        UsageError: says what is wrong with it.
    """
    kind, _, rest = text.partition(":")
    kinds = {f.name: f.type for f in fields(Schedule)}
    values: dict[str, float | tuple[float, ...]] = {}
    for part in filter(None, rest.split(",")):
        name, _, number = part.partition("=")
        if name not in kinds or name == "kind":
            raise _wrong(text, f"'{name}' is no setting of it")
        try:
            values[name] = _value(number, str(kinds[name]))
        except ValueError:
            wanted = str(kinds[name]).replace("tuple[int, ...]", "row of int with / between")
            wanted = wanted.replace("tuple[float, ...]", "row of float with / between")
            raise _wrong(text, f"{name}={number} is not a {wanted}") from None
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

"""Sides that are compared take turns, so that what else the machine does meets all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")


def in_turn(sides: Mapping[Key, Callable[[], Found]], rounds: int) -> dict[Key, list[Found]]:
    """What each side gives in each round."""
    found: dict[Key, list[Found]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, measure in sides.items():
            found[side].append(measure())
    return found


def ratio(numbers: Sequence[float], others: Sequence[float]) -> float:
    """Median over rounds of number / other."""
    return statistics.median(a / b for a, b in zip(numbers, others, strict=True))

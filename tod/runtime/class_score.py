"""How good the answers about one class are. Imports nothing heavy: the records of a run name it."""

from __future__ import annotations

from dataclasses import dataclass

Confusion = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ClassScore:
    """How good the answers about one class are; None where there is nothing to divide by.

    Attributes:
        pictures: of the class.
        precision: of the pictures that the model calls so, the share that are.
        recall: of the pictures that are so, the share that the model calls so.
        f1: the harmonic mean of the two, 2 * right / (pictures + called so).
    """

    pictures: int
    precision: float | None
    recall: float | None
    f1: float | None

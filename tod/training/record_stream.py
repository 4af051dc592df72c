"""The result of `tod.train` and `tod.evaluate`: records that are made while the work is done."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator

from tod.training.records import Evaluated, Record


class RecordStream(Iterator[Record]):
    """Records of a piece of work; taking the records does the work.

    Take them in a `for` loop, or let `run` do the whole work. Work that is never started gives a
    RuntimeWarning, like a coroutine that is never awaited.

    Args:
        records: returns the final score at its end.
        name: the function that made the stream, for the warning.
    """

    def __init__(self, records: Generator[Record, None, Evaluated], name: str) -> None:
        self._records = records
        self._name = name
        self._started = False

    def __next__(self) -> Record:
        self._started = True
        return next(self._records)

    def run(self) -> Evaluated:
        """Do the rest of the work, and give the final score."""
        self._started = True
        while True:
            try:
                next(self._records)
            except StopIteration as ended:
                if ended.value is None:
                    raise RuntimeError(f"{self._name}: its records were taken already") from None
                score: Evaluated = ended.value
                return score

    def close(self) -> None:
        """End the work where it is; nothing more is saved."""
        self._started = True
        self._records.close()

    def __del__(self) -> None:
        if not self._started:
            warnings.warn(
                f"{self._name} was never started: take its records in a for loop, or call .run()",
                RuntimeWarning,
                stacklevel=2,
            )

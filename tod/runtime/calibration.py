"""Whether probabilities mean what they say: of the answers given with 80 %, are 80 % right?

Axes: N answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The answers with a probability above `low` and up to `high`; the means are 0 where there
    are none."""

    low: float
    high: float
    answers: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """`error` is the expected calibration error: how far, on average over the answers, the share
    of right ones lies from the probability that the model gave them. 0 is perfect."""

    error: float
    bins: tuple[Bin, ...]


def calibration(
    confidence: NDArray[np.floating],  # [N], 0 to 1
    right: NDArray[np.bool_],  # [N]
) -> Calibration:
    """Compare the probabilities of answers with how many of them are right, in ten bins of equal
    width.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks",
    https://arxiv.org/abs/1706.04599, section 2.
    """
    # Bins are open below, as in the source; 0 itself belongs to the first.
    places = np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(int) - 1, 0, BINS - 1)
    bins, off = [], 0.0
    for place in range(BINS):
        inside = places == place
        count = int(inside.sum())
        mean = float(confidence[inside].mean(dtype=np.float64)) if count else 0.0
        share = float(right[inside].mean()) if count else 0.0
        off += count * abs(share - mean)
        bins.append(Bin(place / BINS, (place + 1) / BINS, count, mean, share))
    return Calibration(off / max(len(confidence), 1), tuple(bins))

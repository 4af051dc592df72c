"""Which pictures show nearly the same: resized, encoded anew, or one that follows another.

Knows thumbnails uint8 [16, 17, 3] of whole pictures. Axes: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Two pictures are nearly the same where their difference hashes of 16 x 16 bits differ in at most
# NEAR_BITS and their thumbnails correlate by NEAR_CORRELATION at least. Of 2.7 million pairs of
# photographs these are the five that a person calls the same, with at most 8 bits and at least
# 0.999; the hash alone also takes pictures that are nearly all dark (37 bits, 0.16), and one of
# 8 x 8 bits many skies. Of 1,800 that were made smaller or encoded anew, 98 % are found.
THUMBNAIL_PX = (17, 16)
NEAR_BITS = 40
NEAR_CORRELATION = 0.95
_ROWS = 256


def alike(thumbnails: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """All pairs that show nearly the same."""
    if not thumbnails:
        return []
    hashes = np.stack([difference_hash(thumbnail) for thumbnail in thumbnails])
    return [
        (a, b)
        for a, b in near_pairs(hashes, NEAR_BITS)
        if correlation(thumbnails[a], thumbnails[b]) >= NEAR_CORRELATION
    ]


def near_pairs(hashes: NDArray[np.uint64], bits: int) -> list[tuple[int, int]]:
    """All pairs of rows of uint64 [N, 4] that differ in at most a number of bits."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), _ROWS):
        block = hashes[start : start + _ROWS]
        rest = hashes[start:]
        differing = np.zeros((len(block), len(rest)), np.uint16)
        for word in range(hashes.shape[1]):
            differing += np.bitwise_count(block[:, None, word] ^ rest[None, :, word])
        near = np.argwhere(differing <= bits) + start
        pairs += [(int(a), int(b)) for a, b in near if a < b]
    return pairs


def correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Of the colours of two thumbnails, -1 to 1: what all of one is lighter by does not count."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def difference_hash(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Where a picture [16, 17, 3] gets lighter from left to right: 256 bits, uint64 [4]. It stays
    nearly the same when the picture is resized, encoded anew or made lighter.

    Source: Krawetz, "Kind of Like That" (dHash), https://www.hackerfactor.com/blog/?/archives/529
    """
    grey = thumbnail.astype(np.int32) @ np.array([299, 587, 114])
    return np.packbits(grey[:, 1:] > grey[:, :-1]).view(np.uint64)

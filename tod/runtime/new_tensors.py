"""Make the tensors that a .tod file leaves open: the head for classes that are known only now."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.format.arrays import Arrays
from tod.format.manifest import Manifest, Tensor


def new_tensors(manifest: Manifest, stored: Arrays, *, seed: int) -> dict[str, NDArray[Any]]:
    """Return every tensor that training changes, as it is before the first cycle.

    Stored tensors are taken from the file. Tensors that depend on a number of classes that was open
    at export are made by the manifest's rule. Slots and accumulators are zero.

    Args:
        manifest: the table of tensors, with bound classes.
        stored: parameters and statistics that the file carries, possibly none.
        seed: for the random numbers.
    """
    # One stream for each tensor: adding a tensor leaves the others as they were.
    streams = np.random.SeedSequence(seed).spawn(len(manifest.tensors))
    tensors: dict[str, NDArray[Any]] = {}
    for tensor, stream in zip(manifest.tensors, streams, strict=True):
        if tensor.role in ("parameter", "statistic") and tensor.name in stored:
            tensors[tensor.name] = stored[tensor.name]
        else:
            shape = tensor.resolve(manifest.class_count or 0)
            tensors[tensor.name] = by_rule(tensor, shape, stream)
    return tensors


def by_rule(tensor: Tensor, shape: tuple[int, ...], stream: np.random.SeedSequence) -> NDArray[Any]:
    """New values N(mean, std) as the manifest says."""
    if tensor.init.std == 0:
        return np.full(shape, tensor.init.mean, tensor.dtype)
    generator = np.random.Generator(np.random.Philox(stream))
    noise = generator.standard_normal(shape) * tensor.init.std + tensor.init.mean
    return noise.astype(tensor.dtype)

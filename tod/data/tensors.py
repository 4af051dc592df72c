"""Turn a program's arrays, and pictures, into samples of a model whose input is no picture.

Axes: N samples, S side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import PictureError
from tod.format.manifest import InputSpec, SampleSpec, TensorSpec

# Shares of red, green and blue in grey, in 1/65536: ITU-R 601-2, as Pillow rounds it.
_GREY = np.array([19595, 38470, 7471], np.uint32)


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Tell whether an array of one shape can stand for one of another: equal but for axes of length
    1, or all numbers in one row on either side."""
    if math.prod(shape) != math.prod(wanted):
        return False
    long, other = ([axis for axis in axes if axis != 1] for axes in (shape, wanted))
    return len(long) <= 1 or len(other) <= 1 or long == other


def tensor_of(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """One sample as the network takes it: `spec.dtype` [*spec.shape].

    Args:
        values: numbers; the shape may lack axes of length 1, or be flat.
        spec: of the model.

    Raises:
        PictureError: another shape, no numbers, or numbers that the dtype does not have.
    """
    if not fits(values.shape, spec.shape):
        raise PictureError(f"its shape is {list(values.shape)}, the model takes {list(spec.shape)}")
    if values.dtype.kind not in "fiub":
        raise PictureError(f"it is {values.dtype}, no numbers")
    if spec.dtype == "uint8":
        whole = values.dtype.kind != "f" or bool((values == np.floor(values)).all())
        if not whole or values.min() < 0 or values.max() > 255:
            raise PictureError("it has numbers that are not whole, or not from 0 to 255")
    with np.errstate(over="ignore"):
        made = values.astype(spec.dtype).reshape(spec.shape)
    if made.dtype.kind == "f" and not np.isfinite(made).all():
        raise PictureError("it has numbers that are not finite in float32")
    return made


def picture_spec(spec: TensorSpec) -> InputSpec | None:
    """How a picture becomes a sample, if its shape is one of a picture: [S, S], or with one or
    three channels before or behind. None if it is not."""
    found = _layout(spec.shape)
    if found is None:
        return None
    side, *_ = found
    return InputSpec(side, side, "bilinear", "center", "rgb", (0, 0, 0), (1, 1, 1))


def from_pixels(pixels: NDArray[np.uint8], spec: TensorSpec) -> NDArray[Any]:
    """Pixels uint8 [S, S, 3] -> one sample, with the values 0 to 255 as they are; one channel is
    grey."""
    found = _layout(spec.shape)
    assert found is not None  # see `picture_spec`
    _, channels, first = found
    if channels == 1:
        shares = pixels.astype(np.uint32) @ _GREY
        pixels = ((shares + 0x8000) >> 16).astype(np.uint8)[..., None]
    return tensor_of(pixels.transpose(2, 0, 1) if first else pixels, spec)


def as_pixels(values: NDArray[Any]) -> NDArray[np.uint8]:
    """A sample with the shape of a picture -> pixels uint8 [H, W, 3].

    Raises:
        PictureError: another shape, or numbers that are not whole and from 0 to 255.
    """
    shape = tuple(axis for axis in values.shape if axis != 1) or (1,)
    if len(shape) == 3 and shape[0] == 3 and shape[2] != 3:
        values = values.reshape(shape).transpose(1, 2, 0)
        shape = values.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        raise PictureError(f"its shape is {list(values.shape)}")
    whole = tensor_of(values.reshape(shape), TensorSpec(shape, "uint8"))
    return np.repeat(whole[..., None], 3, axis=2) if whole.ndim == 2 else whole


def _layout(shape: Sequence[int]) -> tuple[int, int, bool] | None:
    """Side, number of channels, and whether they come first."""
    for channels, first in ((1, True), (3, True), (1, False), (3, False)):
        sides = shape[1:] if first else shape[:-1]
        if len(shape) == 3 and shape[0 if first else -1] == channels and sides[0] == sides[1]:
            return sides[0], channels, first
    return (shape[0], 1, False) if len(shape) == 2 and shape[0] == shape[1] else None


def random_samples(spec: SampleSpec, count: int, seed: int = 0) -> NDArray[Any]:
    """Seeded samples without a meaning, for timing: [count, *spec.shape]."""
    random = np.random.default_rng(seed)
    if spec.dtype == "uint8":
        return random.integers(0, 256, (count, *spec.shape), np.uint8)
    return random.standard_normal((count, *spec.shape), np.float32)

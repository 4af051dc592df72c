"""Turn a program's pictures, or other samples, into arrays as the network takes them.

Axes: N pictures or samples, H height and W width in pixels, S side in pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tod.data.image import PillowImage, fit, from_pillow, load
from tod.data.picture_limits import MAX_FILE_BYTES
from tod.data.tensors import fits, from_pixels, picture_spec, tensor_of
from tod.errors import PictureError, UsageError
from tod.format.manifest import InputSpec, SampleSpec, TensorSpec
from tod.system.files import read_regular

# A path, the bytes of a picture file, a Pillow image, or uint8 [H, W, 3] in RGB; for a model whose
# samples are no pictures, an array of their shape.
Picture: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | PillowImage | NDArray[Any]
)
# One, several, or an array with one more axis: uint8 [N, H, W, 3].
Pictures: TypeAlias = Picture | Sequence[Picture]

_BYTES = bytes | bytearray | memoryview
_WANTED = (
    "wanted a path, the bytes of a picture file, a Pillow image, an array uint8 [H, W, 3] of any "
    "size in RGB, a list of those, or an array uint8 [N, H, W, 3]"
)


def each(pictures: Pictures, spec: SampleSpec) -> list[Picture]:
    """List the pictures one by one; nothing is read yet.

    Args:
        pictures: what a program gave.
        spec: what the model takes.

    Raises:
        UsageError: there is no picture, or an item is no picture; it names the place in the list.
    """
    if isinstance(spec, TensorSpec):
        return _each_tensor(pictures, spec)
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        found: list[Any] = list(pictures)
    elif isinstance(pictures, Sequence) and not isinstance(pictures, str | _BYTES):
        found = list(pictures)
    else:
        found = [pictures]
    if not found:
        raise UsageError("no picture was given", hint=_WANTED)
    for index, one in enumerate(found):
        if not _is_one(one):
            where = f"picture {index}" if len(found) > 1 else "the picture"
            raise UsageError(f"{where} is {_kind(one)}", hint=_WANTED)
    return found


def _each_tensor(samples: Any, spec: TensorSpec) -> list[Picture]:
    if isinstance(samples, str | os.PathLike | _BYTES | PillowImage):
        return [samples]
    if isinstance(samples, Sequence) and samples:
        if all(isinstance(one, str | os.PathLike | _BYTES | PillowImage) for one in samples):
            return list(samples)
        if all(isinstance(one, np.ndarray) and fits(one.shape, spec.shape) for one in samples):
            return list(samples)
    try:
        found = np.asarray(samples)
    except ValueError:  # rows of unequal length
        found = np.empty(0)
    if found.size and found.dtype.kind in "fiub":
        if found.ndim and fits(found.shape[1:], spec.shape):
            return list(found)
        if fits(found.shape, spec.shape):
            return [found]
    raise UsageError(
        f"the samples are {_kind(found if found.size else samples)}",
        hint=f"wanted numbers {list(spec.shape)} for one, {['N', *spec.shape]} for several",
    )


def batches(pictures: Pictures, spec: SampleSpec, size: int) -> Iterator[NDArray[Any]]:
    """Arrays [at most `size`, *spec.shape], so that at most `size` pictures are in memory at a
    time.

    Args:
        pictures: what `each` takes.
        spec: what the model takes; a picture of S x S pixels stays as it is.
        size: pictures in a batch.

    Raises:
        UsageError: see `each`; before anything is read.
        PictureError: a picture cannot be read; it names the file, or the place in the list.
    """
    found = each(pictures, spec)
    for start in range(0, len(found), size):
        part = found[start : start + size]
        yield np.stack([_array(one, start + i, spec) for i, one in enumerate(part)])


def _is_one(picture: object) -> bool:
    if isinstance(picture, np.ndarray):
        return picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    return isinstance(picture, str | os.PathLike | _BYTES | PillowImage)


def _kind(thing: object) -> str:
    if isinstance(thing, np.ndarray):
        return f"an array {thing.dtype} {list(thing.shape)}"
    return f"of the type {type(thing).__name__}"


def array_of(sample: Picture, spec: SampleSpec, *, cropped: bool = False) -> NDArray[Any]:
    """One picture or other sample as the network takes it: `spec.dtype` [*spec.shape].

    Args:
        sample: see `each`.
        spec: what the model takes. A picture becomes a tensor if that has the shape of a picture.
        cropped: a picture file of a prepared dataset, which is only resized.

    Raises:
        PictureError: it cannot be read, or does not fit.
    """
    if isinstance(spec, InputSpec):
        return pixels_of(sample, spec, cropped=cropped)
    if isinstance(sample, np.ndarray):
        return tensor_of(sample, spec)
    as_picture = picture_spec(spec)
    if as_picture is None:
        raise PictureError(f"a picture is no sample of this model, which takes {list(spec.shape)}")
    return from_pixels(pixels_of(sample, as_picture, cropped=cropped), spec)


def pixels_of(picture: Picture, spec: InputSpec, *, cropped: bool = False) -> NDArray[np.uint8]:
    """Pixels uint8 [S, S, 3] of one picture.

    Args:
        picture: see `each`.
        spec: how it is resized to S.
        cropped: a picture file of a prepared dataset, which is only resized.

    Raises:
        PictureError: it cannot be read.
    """
    if isinstance(picture, np.ndarray):
        if 0 in picture.shape:
            raise PictureError("it has no pixels")
        return fit(np.ascontiguousarray(picture), spec)
    if isinstance(picture, PillowImage):
        return fit(from_pillow(picture), spec)
    if isinstance(picture, _BYTES):
        return load(bytes(picture), spec)
    try:
        data, _ = read_regular(Path(picture), limit_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error
    return load(data, spec, cropped=cropped)


def _array(picture: Picture, index: int, spec: SampleSpec) -> NDArray[Any]:
    try:
        return array_of(picture, spec)
    except PictureError as error:
        name = os.fspath(picture) if isinstance(picture, str | os.PathLike) else f"picture {index}"
        raise PictureError(f"{name}: {error.problem}") from error

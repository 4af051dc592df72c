"""Turn a program's pictures into pixels as the network takes them.

Axes: N pictures, H height and W width in pixels, S side in pixels.
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
from tod.errors import PictureError, UsageError
from tod.format.manifest import InputSpec
from tod.system.files import read_regular

# A path, the bytes of a picture file, a Pillow image, or uint8 [H, W, 3] in RGB.
Picture: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | PillowImage | NDArray[np.uint8]
)
# One picture, several, or uint8 [N, H, W, 3].
Pictures: TypeAlias = Picture | Sequence[Picture]

_BYTES = bytes | bytearray | memoryview
_WANTED = (
    "wanted a path, the bytes of a picture file, a Pillow image, an array uint8 [H, W, 3] of any "
    "size in RGB, a list of those, or an array uint8 [N, H, W, 3]"
)


def each(pictures: Pictures) -> list[Picture]:
    """List the pictures one by one; nothing is read yet.

    Raises:
        UsageError: there is no picture, or an item is no picture; it names the place in the list.
    """
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


def batches(pictures: Pictures, spec: InputSpec, size: int) -> Iterator[NDArray[np.uint8]]:
    """Pixels uint8 [at most `size`, S, S, 3], so that at most `size` pictures are in memory at a
    time.

    Args:
        pictures: what `each` takes.
        spec: how a picture is resized to S; a picture of S x S pixels stays as it is.
        size: pictures in a batch.

    Raises:
        UsageError: see `each`; before anything is read.
        PictureError: a picture cannot be read; it names the file, or the place in the list.
    """
    found = each(pictures)
    for start in range(0, len(found), size):
        part = found[start : start + size]
        yield np.stack([_pixels(one, start + i, spec) for i, one in enumerate(part)])


def _is_one(picture: object) -> bool:
    if isinstance(picture, np.ndarray):
        return picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    return isinstance(picture, str | os.PathLike | _BYTES | PillowImage)


def _kind(thing: object) -> str:
    if isinstance(thing, np.ndarray):
        return f"an array {thing.dtype} {list(thing.shape)}"
    return f"of the type {type(thing).__name__}"


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


def _pixels(picture: Picture, index: int, spec: InputSpec) -> NDArray[np.uint8]:
    try:
        return pixels_of(picture, spec)
    except PictureError as error:
        name = os.fspath(picture) if isinstance(picture, str | os.PathLike) else f"picture {index}"
        raise PictureError(f"{name}: {error.problem}") from error

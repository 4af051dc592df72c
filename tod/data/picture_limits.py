"""Limit the work of a picture's decoder, by counts made before decoding. Knows bytes, no pixels.

A limit on pixels is not enough. A few bytes in a progressive JPEG cause one more pass over all
pixels, and Python loops read and keep all parts before the pixels. Each limit is far above what
cameras and programs write.
"""

from __future__ import annotations

import re
from typing import Literal

from tod.errors import PictureError

MAX_FILE_BYTES = 1 << 28
# One pass takes 1 to 4 ns a pixel, so this limit means some seconds.
_MAX_SCANNED_PIXELS = 1 << 31
_MAX_JPEG_HEADER_BYTES = 16 << 20  # a panorama's second view may be in it
_MAX_SEGMENTS = 10_000
_MAX_CHUNKS = 100_000
_MAX_GIF_HEADER_BYTES = 1 << 20
_MAX_TAGS = 1 << 16
# These decoders are written in Python and take 1 to 4 microseconds for a value.
_SLOW_CODECS = ("bmp_rle", "ppm", "ppm_plain")
_MAX_SLOW_PIXELS, _MAX_SLOW_BYTES = 1 << 21, 16 << 20
_START_OF_SCAN, _END = 0xDA, 0xD9
# A marker outside a scan's data: not stuffing, restart or fill bytes.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")


def check_header(data: bytes) -> None:
    """Refuse a file with more parts before its pixels than any program writes.

    Raises:
        PictureError: names the parts that are too many.
    """
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(f"the file is over {MAX_FILE_BYTES >> 20} MiB")
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        _check_png(data)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data[:4] in (b"II+\0", b"MM\0+"):
        _check_big_tiff(data)


def check_scans(data: bytes, pixels: int) -> None:
    """Refuse a JPEG that asks for too many passes over its pixels.

    Raises:
        PictureError: there are too many passes.
    """
    # Count roughly first; these two bytes may also be part of other data.
    if data.count(b"\xff\xda") * pixels <= _MAX_SCANNED_PIXELS:
        return
    scans, place = 0, 2
    while marker := _MARKER.search(data, place):
        if marker[1][0] == _END:
            break
        scans += marker[1][0] == _START_OF_SCAN
        place = marker.end() + _length(data, marker.end())
        if scans * pixels > _MAX_SCANNED_PIXELS:
            raise PictureError(f"its {pixels:,} pixels are sent in too many scans")


def check_codec(codec: str, pixels: int, file_bytes: int) -> None:
    """Refuse a picture that is too large for a slow decoder.

    Raises:
        PictureError: names the kind.
    """
    if codec in _SLOW_CODECS and (pixels > _MAX_SLOW_PIXELS or file_bytes > _MAX_SLOW_BYTES):
        raise PictureError(
            f"this kind ({codec.replace('_', ' ')}) is read up to {_MAX_SLOW_PIXELS:,} pixels"
        )


def _check_jpeg(data: bytes) -> None:
    segments, place = 0, 2
    while marker := _MARKER.search(data, place, _MAX_JPEG_HEADER_BYTES):
        if marker[1][0] in (_START_OF_SCAN, _END):
            return
        segments += 1
        if segments > _MAX_SEGMENTS:
            raise PictureError(f"it has over {_MAX_SEGMENTS:,} segments before its pixels")
        place = marker.end() + _length(data, marker.end())
    if len(data) > _MAX_JPEG_HEADER_BYTES:
        raise PictureError(f"it has over {_MAX_JPEG_HEADER_BYTES >> 20} MiB before its pixels")


def _check_png(data: bytes) -> None:
    place = 8
    for _ in range(_MAX_CHUNKS):
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        if place >= len(data):
            return
    raise PictureError(f"it has over {_MAX_CHUNKS:,} chunks")


def _check_gif(data: bytes) -> None:
    flags = data[10] if len(data) > 10 else 0
    place = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    while (
        data[place : place + 1] == b"!"
    ):  # an extension: its label, then blocks up to an empty one
        place += 2
        while place < len(data) and data[place]:
            place += 1 + data[place]
            if place > _MAX_GIF_HEADER_BYTES:
                raise PictureError(
                    f"it has over {_MAX_GIF_HEADER_BYTES >> 20} MiB before its pixels"
                )
        place += 1


def _check_big_tiff(data: bytes) -> None:
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    place = int.from_bytes(data[8:16], order)
    tags = int.from_bytes(data[place : place + 8], order)
    if tags > _MAX_TAGS:
        raise PictureError(f"it has {tags:,} tags, at most {_MAX_TAGS:,} are read")


def _length(data: bytes, place: int) -> int:
    """The length of a segment, including its own two bytes."""
    return max(2, int.from_bytes(data[place : place + 2], "big"))

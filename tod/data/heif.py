"""Read HEIC, the picture format of newer phones, if the extra `heif` is installed. The only user of
pillow-heif, which is no part of TOD: its wheels hold libheif (LGPL-3) and x265 (GPL-2)."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from importlib.util import find_spec

from tod.data.picture_kind import HEAD_BYTES, is_heic


@cache
def heif_version() -> str:
    """The installed version of pillow-heif; empty if it is not installed. Loads nothing."""
    # metadata loads a parser of mail, which takes longer than to see that nothing is there.
    if find_spec("pillow_heif") is None:
        return ""
    try:
        return metadata.version("pillow-heif")
    except metadata.PackageNotFoundError:
        return ""


def heif_formats(data: bytes) -> tuple[str, ...]:
    """The formats to give Pillow, beside its own, to read this file."""
    return ("HEIF",) if is_heic(data[:HEAD_BYTES]) and heif_version() and _registered() else ()


@cache
def _registered() -> bool:
    """Register the reader with Pillow when the first HEIC picture comes."""
    try:
        import pillow_heif

        # One thread is enough: a folder of pictures is read on all cores already.
        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    except (ImportError, OSError):
        return False
    return True

"""HEIC, the pictures of newer phones: read where `tod[heif]` is installed. The only user of
pillow-heif, which is no part of TOD: its wheels hold libheif (LGPL-3) and x265 (GPL-2)."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from tod.data.picture_kind import HEAD_BYTES, is_heic


@cache
def heif_version() -> str:
    """The installed version of pillow-heif; empty without one. Loads nothing."""
    try:
        return metadata.version("pillow-heif")
    except metadata.PackageNotFoundError:
        return ""


def heif_formats(data: bytes) -> tuple[str, ...]:
    """The formats that Pillow has to be asked for beside its own to read a file."""
    return ("HEIF",) if is_heic(data[:HEAD_BYTES]) and heif_version() and _registered() else ()


@cache
def _registered() -> bool:
    """Make the reader known to Pillow, when the first such picture comes."""
    try:
        import pillow_heif

        # A folder of pictures is read on all cores already.
        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    except (ImportError, OSError):
        return False
    return True

"""The picture formats that are read, and the kind of a file by its first bytes.

Knows bytes, no files. A new format that Pillow decodes is a row of FORMATS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tod.system.file_kind import of_bytes
from tod.system.machine import install

HEAD_BYTES = 512  # the functions here need this much of a file

LFS_POINTER = "a git-lfs pointer instead of the picture; run 'git lfs pull'"
HEIC = f"HEIC, which is not read here; {install('heif')}, or convert it to JPEG (heif-convert)"
RAW = "a camera's raw picture, which is not read; export it as JPEG or PNG"
EMPTY = "an empty file"

# Sizes of a BMP file's second header; they are checked because a text may begin with "BM", too.
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_PNM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
_HEIF_BRANDS = (*_HEIC_BRANDS, b"mif1", b"msf1", b"heif")


@dataclass(frozen=True)
class Format:
    """A picture format.

    Args:
        suffixes: the suffixes of its files, in small letters.
        begins: tells whether a file's first bytes are those of the format.
    """

    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool]


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


def _bmp(head: bytes) -> bool:
    size = int.from_bytes(head[14:18], "little")
    return head.startswith(b"BM") and size in _BMP_HEADERS and head[6:10] == bytes(4)


def _webp(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


# The keys are Pillow's names. MPO files (JPEGs of stereo cameras) are opened by the JPEG reader.
FORMATS: dict[str, Format] = {
    "AVIF": Format((".avif",), lambda head: _has_brand(head, _AVIF_BRANDS)),
    "BMP": Format((".bmp",), _bmp),
    "GIF": Format((".gif",), _begins(b"GIF87a", b"GIF89a")),
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), _begins(b"\xff\xd8\xff")),
    "PNG": Format((".png",), _begins(b"\x89PNG\r\n\x1a\n")),
    "PPM": Format((".ppm", ".pgm", ".pbm", ".pnm"), lambda head: bool(_PNM.match(head))),
    "TIFF": Format((".tif", ".tiff"), _begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "WEBP": Format((".webp",), _webp),
}
SUFFIXES = frozenset(suffix for each in FORMATS.values() for suffix in each.suffixes)


def is_picture(head: bytes) -> bool:
    """Tell whether a file begins like a picture of a format in FORMATS."""
    return any(each.begins(head) for each in FORMATS.values())


def is_heic(head: bytes) -> bool:
    """Tell whether a file begins like a HEIF picture that is not AVIF (with AV1 pixels)."""
    return _has_brand(head, _HEIF_BRANDS, first=True) and not _has_brand(head, _AVIF_BRANDS)


def other_kind(head: bytes) -> str:
    """Describe a file that is not a picture, in words for a message; empty if its kind is
    unknown."""
    if not head:
        return EMPTY
    if head.startswith((b"version https://git-lfs.github.com/spec/", b"version https://hawser")):
        return LFS_POINTER
    if is_heic(head):
        return HEIC
    if head[4:12] == b"ftypcrx ":
        return RAW
    if not head.strip(b"\0"):
        return "not a picture (it begins with nothing but zeros)"
    kind = of_bytes(head)
    said = kind is not None and not is_picture(head) and not kind.name.endswith("picture")
    return f"not a picture ({kind.name})" if kind is not None and said else ""


def _has_brand(head: bytes, brands: tuple[bytes, ...], *, first: bool = False) -> bool:
    """Tell whether a file in the ISO base media format names one of `brands`: as its first brand
    or, unless `first`, among all brands that it is compatible with."""
    if head[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(head[:4], "big"), len(head))
    major, others = head[8:12], [head[i : i + 4] for i in range(16, size - 3, 4)]
    return major in brands or (not first and any(brand in brands for brand in others))

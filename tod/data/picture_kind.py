"""What a file is, by its first bytes: a picture, or which other kind. Knows bytes, no files."""

from __future__ import annotations

import re

from tod.system.file_kind import of_bytes

HEAD_BYTES = 512  # what the functions here want of a file

LFS_POINTER = "a git-lfs pointer instead of the picture; run 'git lfs pull'"
HEIC = "HEIC, which is not read here; pip install 'tod[heif]', or convert it to JPEG (heif-convert)"
RAW = "a camera's raw picture, which is not read; export it as JPEG or PNG"
EMPTY = "an empty file"

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Sizes of the second header of a BMP file: two letters alone begin many a text.
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_PNM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
_HEIF_BRANDS = (*_HEIC_BRANDS, b"mif1", b"msf1", b"heif")


def is_picture(head: bytes) -> bool:
    """Whether a file begins as a picture of a kind that Pillow is asked for."""
    if head.startswith(_MAGIC) or head.startswith(_TIFF):
        return True
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS and head[6:10] == bytes(4)
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return bool(_PNM.match(head)) or _has_brand(head, _AVIF_BRANDS)


def is_heic(head: bytes) -> bool:
    """Whether a file begins as a HEIF picture whose pixels are not AV1 (which is AVIF)."""
    return _has_brand(head, _HEIF_BRANDS, first=True) and not _has_brand(head, _AVIF_BRANDS)


def other_kind(head: bytes) -> str:
    """What a file is that is no picture, as words for a message; empty where nothing is known."""
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
    """Whether a file in the ISO base media format names one of some brands, as the first one or
    among all that it is compatible with."""
    if head[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(head[:4], "big"), len(head))
    major, others = head[8:12], [head[i : i + 4] for i in range(16, size - 3, 4)]
    return major in brands or (not first and any(brand in brands for brand in others))

"""PNG, TIFF and PGM files of any depth, order and layout: more than the libraries of others write.

Axes: H rows, W columns, C samples of a pixel.
"""

from __future__ import annotations

import struct
import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_ROWS_PER_STRIP = 3
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
NONE, DEFLATE = 1, 8  # TIFF's compression


def png(
    samples: NDArray[np.uint16],
    bits: int,
    colour_type: int,
    *,
    profile: bytes | None = None,
    clear: bytes | None = None,
    palette: bytes | None = None,
) -> bytes:
    """Samples [H, W, C]; `clear` is the content of tRNS."""
    height, width, count = samples.shape
    assert count == _PNG_SAMPLES[colour_type]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))]
    if profile:
        parts.append((b"iCCP", b"grey\0\0" + zlib.compress(profile)))
    parts += [(b"PLTE", palette)] if palette else []
    parts += [(b"tRNS", clear)] if clear else []
    rows = b"".join(b"\0" + _pack(row, bits, ">") for row in samples)
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def pgm(samples: NDArray[np.uint16], most: int, *, plain: bool = False) -> bytes:
    """Samples [H, W], whose white is `most`."""
    height, width = samples.shape
    head = f"P{2 if plain else 5}\n{width} {height}\n{most}\n".encode()
    if plain:
        return head + b"\n".join(b" ".join(b"%d" % value for value in row) for row in samples)
    return head + samples.astype(">u2" if most > 255 else "u1").tobytes()


def tiff(
    samples: NDArray[np.generic],
    bits: int,
    *,
    order: Literal["<", ">"] = "<",
    photometric: int = 1,
    sample_format: int = 1,
    extra: tuple[int, ...] = (),
    compression: int = NONE,
    predictor: int = 1,
    planar: bool = False,
    reversed_bits: bool = False,
    big: bool = False,
    palette: NDArray[np.uint16] | None = None,
    profile: bytes | None = None,
) -> bytes:
    """Samples [H, W, C] in strips of three rows.

    Args:
        bits: of a sample; 1, 2, 4 and 12 are packed.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 Lab.
        sample_format: 1 unsigned, 2 signed, 3 floating-point.
        extra: what the samples beyond the colour are: 0 nothing, 1 multiplied alpha, 2 alpha.
        predictor: 2 differences, 3 differences of floating-point bytes.
        planar: each sample in strips of its own.
        reversed_bits: the lowest bit of a byte comes first (fill order 2).
        big: a BigTIFF.
        palette: [3, 2**bits].
    """
    height, width, count = samples.shape
    planes = np.split(samples, count, axis=2) if planar else [samples]
    strips = [
        b"".join(_row(row, bits, order, predictor) for row in plane[top : top + _ROWS_PER_STRIP])
        for plane in planes
        for top in range(0, height, _ROWS_PER_STRIP)
    ]
    if compression == DEFLATE:
        strips = [zlib.compress(strip) for strip in strips]
    if reversed_bits:
        strips = [strip.translate(_REVERSED) for strip in strips]
    tags: dict[int, tuple[int, list[int] | bytes]] = {
        256: (_SHORT, [width]),
        257: (_SHORT, [height]),
        258: (_SHORT, [bits] * count),
        259: (_SHORT, [compression]),
        262: (_SHORT, [photometric]),
        266: (_SHORT, [2 if reversed_bits else 1]),
        273: (_LONG, []),
        277: (_SHORT, [count]),
        278: (_SHORT, [_ROWS_PER_STRIP]),
        279: (_LONG, [len(strip) for strip in strips]),
        284: (_SHORT, [2 if planar else 1]),
        317: (_SHORT, [predictor]),
        339: (_SHORT, [sample_format] * count),
    }
    if extra:
        tags[338] = (_SHORT, list(extra))
    if photometric == 6:
        tags[530] = (_SHORT, [1, 1])
    if palette is not None:
        tags[320] = (_SHORT, palette.ravel().tolist())
    if profile:
        tags[34675] = (_UNDEFINED, profile)
    return _file(tags, strips, order, big)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _file(
    tags: dict[int, tuple[int, list[int] | bytes]], strips: list[bytes], order: str, big: bool
) -> bytes:
    """Header, strips, the values that are too long for their tags, tags."""
    mark, word = (b"II" if order == "<" else b"MM"), ("Q" if big else "I")
    body = bytearray(16 if big else 8)
    offsets = []
    for strip in strips:
        offsets.append(len(body))
        body += strip + bytes(len(strip) % 2)
    tags[273] = (_LONG, offsets)
    room = struct.calcsize("=" + word)
    rows = b""
    for tag, (kind, values) in sorted(tags.items()):
        code = {_SHORT: "H", _LONG: "I"}.get(kind)
        data = struct.pack(f"{order}{len(values)}{code}", *values) if code else bytes(values)
        if len(data) > room:
            place = struct.pack(order + word, len(body))
            body += data + bytes(len(data) % 2)
        else:
            place = data.ljust(room, b"\0")
        rows += struct.pack(f"{order}HH{word}", tag, kind, len(values)) + place
    if big:
        body[:16] = mark + struct.pack(order + "HHHQ", 43, 8, 0, len(body))
        return bytes(body) + struct.pack(order + "Q", len(tags)) + rows + bytes(8)
    body[:8] = mark + struct.pack(order + "HI", 42, len(body))
    return bytes(body) + struct.pack(order + "H", len(tags)) + rows + bytes(4)


def _row(row: NDArray[np.generic], bits: int, order: str, predictor: int) -> bytes:
    """[W, C] -> the bytes of a row."""
    if predictor == 2:
        row = np.concatenate([row[:1], np.diff(row, axis=0)])
    data = _pack(row, bits, order)
    if predictor != 3:
        return data
    count = row.shape[1]
    planes = np.frombuffer(_pack(row, bits, ">"), np.uint8).reshape(-1, bits // 8).T.ravel()
    return np.concatenate([planes[:count], planes[count:] - planes[:-count]]).tobytes()


def _pack(row: NDArray[np.generic], bits: int, order: str) -> bytes:
    if bits % 8 == 0:
        return row.astype(f"{order}{row.dtype.kind}{bits // 8}").tobytes()
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((row.reshape(-1, 1) >> places & 1).astype(np.uint8)).tobytes()

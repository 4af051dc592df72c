"""Small colour profiles, written by hand: a curve that is known exactly, and what greys become.

Format: ICC.1:2001-04 (version 2.4), an input by its tone curve and a white of D50.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_D50 = (0.9642, 1.0, 0.8249)
# Adobe RGB (1998), its red, green and blue adapted to D50.
_PRIMARIES = {
    b"rXYZ": (0.60974, 0.31111, 0.01947),
    b"gXYZ": (0.20528, 0.62567, 0.06087),
    b"bXYZ": (0.14919, 0.06322, 0.74457),
}


@dataclass(frozen=True)
class Profile:
    """A profile of one space, "GRAY" or "RGB ", and its curve from value to light, both 0 to 1."""

    name: str
    space: str
    curve: NDArray[np.float64]  # [n], at n equal steps

    def light(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(values, np.linspace(0, 1, len(self.curve)), self.curve)

    def tobytes(self) -> bytes:
        words = (self.curve * 65535).round().astype(">u2").tobytes()
        curve = struct.pack(">4sII", b"curv", 0, len(self.curve)) + words
        name = self.name.encode()
        tags = {
            b"desc": struct.pack(">4sII", b"desc", 0, len(name) + 1) + name + bytes(1 + 78),
            b"cprt": b"text\0\0\0\0none\0",
            b"wtpt": _xyz(_D50),
        }
        if self.space == "GRAY":
            tags[b"kTRC"] = curve
        else:
            tags |= {tag: _xyz(colour) for tag, colour in _PRIMARIES.items()}
            tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        table, body = struct.pack(">I", len(tags)), b""
        for tag, data in tags.items():
            table += struct.pack(">4sII", tag, 128 + 4 + 12 * len(tags) + len(body), len(data))
            body += data + bytes(-len(data) % 4)
        return _header(self.space, 128 + len(table) + len(body)) + table + body


def _xyz(colour: tuple[float, float, float]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(part * 65536) for part in colour))


def _header(space: str, size: int) -> bytes:
    head = struct.pack(">I4sI", size, bytes(4), 0x02400000)
    head += b"mntr" + space.encode() + b"XYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head += b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head + bytes(128 - len(head))


def srgb(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light 0 to 1 -> the values of sRGB, 0 to 1 (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def from_srgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _gamma(exponent: float) -> NDArray[np.float64]:
    return np.linspace(0, 1, 4096) ** exponent


def _dot_gain(gain: float) -> NDArray[np.float64]:
    """Ink on paper: dots grow by `gain` at the middle (Murray and Davies)."""
    ink = np.linspace(1, 0, 256)
    return 1 - (ink + 4 * gain * ink * (1 - ink))


GREY_PROFILES = (
    Profile("grey1.0", "GRAY", np.linspace(0, 1, 2)),
    Profile("grey1.8", "GRAY", _gamma(1.8)),
    Profile("grey2.2", "GRAY", _gamma(2.2)),
    Profile("dotgain", "GRAY", _dot_gain(0.2)),
)
RGB_PROFILES = (
    Profile("srgb", "RGB ", from_srgb(np.linspace(0, 1, 4096))),
    Profile("adobe", "RGB ", _gamma(563 / 256)),
    Profile("linear", "RGB ", np.linspace(0, 1, 2)),
)

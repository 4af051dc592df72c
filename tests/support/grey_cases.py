"""One grey ramp in every file that can hold it, each with the values that it must come out with.

What is right follows from the numbers alone: a sample divided by the largest of its depth, through
the curve of its profile to light, from there to sRGB, and then laid on white by its alpha.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.grey_files import DEFLATE, NONE, pgm, png, tiff
from tests.support.grey_profiles import (
    GREY_PROFILES,
    RGB_PROFILES,
    Profile,
    srgb,
)

WIDTH, HEIGHT = 64, 7
# Each row begins elsewhere, so that a lost strip, row or order of bytes is seen.
RAMP = ((np.arange(WIDTH) + 9 * np.arange(HEIGHT)[:, None]) % WIDTH) / (WIDTH - 1)
SMOOTH = np.repeat(RAMP[:1], HEIGHT, 0)  # for lossy files
HALF = 128 / 255
FORMS = ((np.uint8, 8), (np.uint16, 16))


@dataclass(frozen=True)
class Case:
    """`expected` in 0 to 255, [H, W]; None where no value is right: it must be refused."""

    name: str
    data: bytes
    expected: NDArray[np.float64] | None
    profile: bool = False
    tolerance: float = 1

    @property
    def file_name(self) -> str:
        return self.name.replace(" ", "_").replace(":", "-") + "." + self.name.split()[0]


def stored(bits: int, ramp: NDArray[np.float64] = RAMP) -> NDArray[np.uint32]:
    """The ramp as whole numbers, black 0."""
    return (ramp * (2**bits - 1)).round().astype(np.uint32)


def right(
    samples: NDArray[np.generic],
    most: float,
    profile: Profile | None = None,
    alpha: float | NDArray[np.float64] = 1,
) -> NDArray[np.float64]:
    values = samples / most
    if profile:
        values = srgb(profile.light(values))
    return 255 * (values * alpha + 1 - alpha)


def cases() -> Iterator[Case]:
    """All; their names begin with the kind of file and say what is in it."""
    yield from _png_grey()
    yield from _png_alpha()
    yield from _png_colour()
    yield from _png_palette()
    yield from _tiff_grey()
    yield from _tiff_numbers()
    yield from _tiff_alpha()
    yield from _tiff_colour()
    yield from _pnm()
    yield from _others()


def _named(*parts: object) -> str:
    return " ".join(str(part) for part in parts if part not in ("", None))


def _profiles(matching: tuple[Profile, ...], other: tuple[Profile, ...]) -> Iterator[tuple]:
    """(file's profile, the one that counts): a profile for another kind of pixels is none."""
    yield None, None
    yield from ((profile, profile) for profile in matching)
    yield from ((profile, None) for profile in other[:2])


def _icc(profile: Profile | None) -> bytes | None:
    return profile.tobytes() if profile else None


def _label(profile: Profile | None) -> str | None:
    return profile.name if profile else None


def _png_grey() -> Iterator[Case]:
    """Colour type 0, also with one grey that stands for nothing."""
    for bits in (1, 2, 4, 8, 16):
        values = stored(bits)
        clear = int(values[0, WIDTH // 3])
        for (profile, counts), hole in product(
            _profiles(GREY_PROFILES, RGB_PROFILES), (False, True)
        ):
            alpha = 1.0 - (values == clear) if hole else 1
            yield Case(
                _named("png", f"grey{bits}", _label(profile), "trns" if hole else ""),
                png(
                    values[..., None],
                    bits,
                    0,
                    profile=_icc(profile),
                    clear=clear.to_bytes(2, "big") if hole else None,
                ),
                right(values, 2**bits - 1, counts, alpha),
                profile=profile is not None,
            )


def _with(values: NDArray[np.generic], last: int, times: int = 1) -> NDArray[np.generic]:
    """[H, W] -> [H, W, times + 1], the last sample the same for all pixels."""
    return np.dstack([values] * times + [np.full_like(values, last)])


def _alphas(bits: int) -> Iterator[tuple[str, int]]:
    yield from (("opaque", 2**bits - 1), ("half", round(HALF * (2**bits - 1))), ("clear", 0))


def _png_alpha() -> Iterator[Case]:
    """Colour type 4."""
    for bits in (8, 16):
        values, most = stored(bits), 2**bits - 1
        for (profile, counts), (said, alpha) in product(
            _profiles(GREY_PROFILES, RGB_PROFILES), _alphas(bits)
        ):
            yield Case(
                _named("png", f"greyalpha{bits}", _label(profile), said),
                png(_with(values, alpha), bits, 4, profile=_icc(profile)),
                right(values, most, counts, alpha / most),
                profile=profile is not None,
            )


def _png_colour() -> Iterator[Case]:
    """Colour types 2 and 6 with three equal samples."""
    for bits in (8, 16):
        values, most = stored(bits), 2**bits - 1
        grey = int(values[0, WIDTH // 3])
        for profile, counts in _profiles(RGB_PROFILES, GREY_PROFILES):
            icc, name = _icc(profile), _label(profile)
            opaque = np.dstack([values] * 3)
            known = profile is not None
            yield Case(
                _named("png", f"rgb{bits}", name),
                png(opaque, bits, 2, profile=icc),
                right(values, most, counts),
                profile=known,
            )
            yield Case(
                _named("png", f"rgb{bits}", name, "trns"),
                png(opaque, bits, 2, profile=icc, clear=grey.to_bytes(2, "big") * 3),
                right(values, most, counts, 1.0 - (values == grey)),
                profile=known,
            )
            for said, alpha in _alphas(bits):
                yield Case(
                    _named("png", f"rgba{bits}", name, said),
                    png(_with(values, alpha, 3), bits, 6, profile=icc),
                    right(values, most, counts, alpha / most),
                    profile=known,
                )


def _png_palette() -> Iterator[Case]:
    """Colour type 3, a palette of greys from white to black."""
    for bits in (1, 2, 4, 8):
        values, most = stored(bits), 2**bits - 1
        palette = b"".join(bytes([round(255 * (1 - i / most))] * 3) for i in range(most + 1))
        shown = most - values.astype(float)
        for profile, counts in _profiles(RGB_PROFILES, GREY_PROFILES):
            for said, alpha in (("", 255), ("half", 128)):
                clear = bytes([alpha]) * (most + 1) if said else None
                yield Case(
                    _named("png", f"palette{bits}", _label(profile), said),
                    png(
                        values[..., None], bits, 3,
                        profile=_icc(profile), clear=clear, palette=palette,
                    ),
                    right(shown, most, counts, alpha / 255),
                    profile=profile is not None,
                )  # fmt: skip


def _layouts() -> Iterator[tuple[str, dict]]:
    for (mark, order), compression in product((("II", "<"), ("MM", ">")), (NONE, DEFLATE)):
        yield (
            _named(mark, "deflate" if compression == DEFLATE else ""),
            {"order": order, "compression": compression},
        )


def _typed(values: NDArray[np.generic], bits: int) -> NDArray[np.generic]:
    """The smallest whole numbers that hold so many bits, as differences need them."""
    return values.astype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)


def _tiff_grey() -> Iterator[Case]:
    """Whole numbers, both meanings of zero; profiles where they can matter."""
    for bits, white_is_zero, (layout, options) in product(
        (1, 2, 4, 8, 12, 16, 32), (False, True), _layouts()
    ):
        values, most = stored(bits), 2**bits - 1
        kept = _typed(most - values if white_is_zero else values, bits)[..., None]
        name = _named("tiff", f"grey{bits}", "white" if white_is_zero else "", layout)
        options = {**options, "photometric": 0 if white_is_zero else 1}
        yield Case(name, tiff(kept, bits, **options), right(values, most))
        if options["compression"] == DEFLATE and bits % 8 == 0:
            data = tiff(kept, bits, predictor=2, **options)
            yield Case(_named(name, "predictor"), data, right(values, most))
        if bits <= 8 or bits == 16:
            data = tiff(kept, bits, reversed_bits=True, **options)
            yield Case(_named(name, "reversed"), data, right(values, most))
        if bits in (8, 16):
            data = tiff(kept, bits, big=True, **options)
            yield Case(_named(name, "bigtiff"), data, right(values, most))
        if layout == "II" and bits >= 8:
            for profile in GREY_PROFILES:
                yield Case(
                    _named(name, profile.name),
                    tiff(kept, bits, profile=profile.tobytes(), **options),
                    right(values, most, profile),
                    profile=True,
                )


def _tiff_numbers() -> Iterator[Case]:
    """Signed and floating-point numbers: black and white are defined for 0 to 1 only."""
    for (layout, options), predictor in product(_layouts(), (1, 3)):
        if predictor == 3 and options["compression"] == NONE:
            continue
        said = _named(layout, "predictor" if predictor == 3 else "")
        options = {**options, "sample_format": 3, "predictor": predictor}
        floats = RAMP.astype(np.float32)[..., None]
        for bits, kind in ((16, np.float16), (32, np.float32), (64, np.float64)):
            data = tiff(floats.astype(kind), bits, **options)
            yield Case(_named("tiff", f"float{bits}", said), data, right(RAMP, 1))
        white = tiff(1 - floats, 32, photometric=0, **options)
        yield Case(_named("tiff", "float32", "white", said), white, right(RAMP, 1))
        for name, scaled in (
            ("255", floats * 255),
            ("kelvin", floats * 30 + 280),
            ("signed", floats * 2 - 1),
            ("nan", np.where(floats == 0, np.nan, floats)),
        ):
            yield Case(_named("tiff", "float32", name, said), tiff(scaled, 32, **options), None)
        over = floats * 1.1 - 0.05
        yield Case(
            _named("tiff", "float32", "over", said),
            tiff(over, 32, **options),
            right(over[..., 0].clip(0, 1), 1),
        )
        if predictor == 1:
            for bits, kind in ((16, np.int16), (32, np.int32)):
                signed = (RAMP * 200 - 100).astype(kind)[..., None]
                options = {**options, "sample_format": 2}
                yield Case(
                    _named("tiff", f"signed{bits}", layout), tiff(signed, bits, **options), None
                )
    for profile in GREY_PROFILES:
        yield Case(
            _named("tiff", "float32", profile.name),
            tiff(floats, 32, sample_format=3, profile=profile.tobytes()),
            right(RAMP, 1, profile),
            profile=True,
        )
    few = (RAMP * 255).round().astype(np.uint32)[..., None]
    yield Case("tiff grey32 few", tiff(few, 32), None)


def _tiff_alpha() -> Iterator[Case]:
    """Grey and another sample: alpha, alpha that was multiplied in, or nothing."""
    for bits, (kind, extra), planar, (layout, options) in product(
        (8, 16), (("alpha", 2), ("premultiplied", 1), ("unspecified", 0)), (False, True), _layouts()
    ):
        values, most = stored(bits), 2**bits - 1
        for said, alpha in (("opaque", most), ("half", round(HALF * most))):
            seen = 1 if extra == 0 else alpha / most
            kept = (values * seen).round() if extra == 1 else values
            for profile in (None, GREY_PROFILES[0], GREY_PROFILES[3]):
                if profile and layout != "II":
                    continue
                yield Case(
                    _named(
                        "tiff", f"grey{bits}", kind, said,
                        "planar" if planar else "", layout, _label(profile),
                    ),
                    tiff(
                        _typed(_with(kept, alpha), bits), bits,
                        extra=(extra,), planar=planar, profile=_icc(profile), **options,
                    ),
                    right(values, most, profile, seen),
                    profile=profile is not None,
                    tolerance=3 if extra == 1 else 1,
                )  # fmt: skip


def _tiff_colour() -> Iterator[Case]:
    """RGB, palette, YCbCr, CMYK and Lab whose pixels are grey."""
    for layout, options in _layouts():
        for (bits, planar), (profile, counts) in product(
            product((8, 16), (False, True)), _profiles(RGB_PROFILES, GREY_PROFILES)
        ):
            values, most = stored(bits), 2**bits - 1
            where = ("planar" if planar else "", layout, _label(profile))
            options = {**options, "planar": planar, "profile": _icc(profile)}
            rgb = _typed(np.dstack([values] * 3), bits)
            yield Case(
                _named("tiff", f"rgb{bits}", *where),
                tiff(rgb, bits, photometric=2, **options),
                right(values, most, counts),
                profile=profile is not None,
            )
            half = round(HALF * most)
            yield Case(
                _named("tiff", f"rgba{bits}", "half", *where),
                tiff(
                    _typed(_with(values, half, 3), bits),
                    bits, photometric=2, extra=(2,), **options,
                ),
                right(values, most, counts, half / most),
                profile=profile is not None,
            )  # fmt: skip
        options = {**options, "planar": False, "profile": None}
        values = stored(8).astype(np.uint8)
        greys = np.repeat(np.arange(255, -1, -1, dtype=np.uint16)[None] * 257, 3, 0)
        data = tiff(255 - values[..., None], 8, photometric=3, palette=greys, **options)
        yield Case(_named("tiff", "palette8", layout), data, right(values, 255))
        neutral = np.full_like(values, 128)
        data = tiff(np.dstack([values, neutral, neutral]), 8, photometric=6, **options)
        yield Case(_named("tiff", "ycbcr8", layout), data, right(values, 255), tolerance=2)
        none = np.zeros_like(values)
        data = tiff(np.dstack([none, none, none, 255 - values]), 8, photometric=5, **options)
        yield Case(_named("tiff", "cmyk8", layout), data, right(values, 255), tolerance=2)
        lab = np.dstack([values, none, none])
        data = tiff(lab, 8, photometric=8, **options)
        lightness = 100 * (values / 255)
        light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389)
        yield Case(_named("tiff", "lab8", layout), data, 255 * srgb(light), tolerance=2)


def _pnm() -> Iterator[Case]:
    for most, plain in product((1, 7, 100, 255, 256, 1000, 4095, 65535), (False, True)):
        values = (RAMP * most).round().astype(np.uint16)
        name = _named("pgm", most, "plain" if plain else "")
        yield Case(name, pgm(values, most, plain=plain), right(values, most))
    floats = RAMP.astype("<f4")[::-1]
    head = f"Pf\n{WIDTH} {HEIGHT}\n-1.0\n".encode()
    yield Case("pfm", head + floats.tobytes(), right(RAMP, 1))
    yield Case("pfm 255", head + (floats * 255).tobytes(), None)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _others() -> Iterator[Case]:
    """What Pillow writes: JPEG, WebP, AVIF, BMP, GIF."""
    values = stored(8).astype(np.uint8)
    smooth = stored(8, SMOOTH).astype(np.uint8)
    grey, soft = Image.fromarray(values), Image.fromarray(smooth)
    for profile, counts in _profiles(GREY_PROFILES, RGB_PROFILES):
        # Quantised once more, before a curve that may be steep.
        steep = 8 if counts is GREY_PROFILES[0] else 3
        data = saved(soft, "JPEG", quality=100, icc_profile=_icc(profile))
        yield Case(
            _named("jpeg", "grey", _label(profile)),
            data,
            right(smooth, 255, counts),
            profile is not None,
            steep,
        )
    for profile, counts in _profiles(RGB_PROFILES, GREY_PROFILES):
        steep = 8 if counts is RGB_PROFILES[2] else 3
        icc, known = _icc(profile), profile is not None
        expected = right(smooth, 255, counts)
        data = saved(soft.convert("RGB"), "JPEG", quality=100, icc_profile=icc)
        yield Case(_named("jpeg", "rgb", _label(profile)), data, expected, known, steep)
        for said, alpha in (("", 255), ("half", 128)):
            image = grey.convert("RGB")
            if said:
                image.putalpha(alpha)
            yield Case(
                _named("webp", "rgb", _label(profile), said),
                saved(image, "WEBP", lossless=True, exact=True, icc_profile=icc or b""),
                right(values, 255, counts, alpha / 255),
                known,
            )
        data = saved(soft.convert("RGB"), "AVIF", quality=100, subsampling="4:4:4", icc_profile=icc)
        yield Case(_named("avif", "rgb", _label(profile)), data, expected, known, steep)
    nothing = Image.new("L", grey.size)
    for name, bands in (
        ("black", (nothing, nothing, nothing, Image.fromarray(255 - smooth))),
        ("inks", (*[Image.fromarray(255 - smooth)] * 3, nothing)),
    ):
        data = saved(Image.merge("CMYK", bands), "JPEG", quality=100)
        yield Case(_named("jpeg", "cmyk", name), data, right(smooth, 255), tolerance=3)
    yield Case(
        "avif grey",
        saved(soft, "AVIF", quality=100, subsampling="4:0:0"),
        right(smooth, 255),
        tolerance=3,
    )
    for kind in ("BMP", "GIF"):
        data = saved(grey, kind)
        yield Case(_named(kind.lower(), "grey8"), data, right(values, 255))
        bits = Image.fromarray(RAMP > 0.5)
        yield Case(_named(kind.lower(), "grey1"), saved(bits, kind), right(RAMP > 0.5, 1))
        yield Case(
            _named(kind.lower(), "rgb"), saved(grey.convert("RGB"), kind), right(values, 255)
        )
    backwards = Image.fromarray(255 - values)
    backwards.putpalette([255 - i // 3 for i in range(768)])
    yield Case("bmp palette8", saved(backwards, "BMP"), right(values, 255))
    yield Case("gif palette8", saved(backwards, "GIF"), right(values, 255))
    hole = right(values, 255, None, 1.0 - (values == 85))
    yield Case("gif trns", saved(grey, "GIF", transparency=85), hole)

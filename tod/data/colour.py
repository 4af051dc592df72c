"""Pillow's pixels of any mode -> mode RGB: sRGB, opaque on white.

Numbers of more than 8 bits become grey of 16 bits first (`Numbers`). A colour profile is used only
if it is made for the picture's kind of pixels, as the formats demand. It is applied before
transparent pixels are laid on white, so the white is that of sRGB.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tod.errors import PictureError

BAND_PX = 256  # rows that are converted at once; copies of the whole picture would take more memory
_NUMBERS = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
# Allowed excess over black and white: resizing with overshoot makes such numbers.
_OVERSHOOT = 0.1


@dataclass(frozen=True)
class Numbers:
    """The meaning of the numbers in a picture of more than 8 bits.

    Args:
        bits: white is the largest number with this many bits; for mode "F" white is 1.
        white_is_zero: white is 0, and black is the largest number.
        swapped: the bytes of each number are in the other order.
    """

    bits: int = 16
    white_is_zero: bool = False
    swapped: bool = False


def to_srgb(image: Image.Image, numbers: Numbers, *, grey_in_rgb: bool = False) -> Image.Image:
    """Convert a picture of any mode to mode RGB in sRGB.

    Args:
        numbers: their meaning, for the modes of more than 8 bits.
        grey_in_rgb: the file holds grey, which Pillow has copied into red, green and blue.

    Raises:
        PictureError: its numbers have no defined black and white.
    """
    profile = _profile_of(image)
    if image.mode in _NUMBERS:
        return _from_numbers(image, numbers, profile)
    if image.mode == "LAB":
        return _convert(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if image.has_transparency_data:
        return _on_white(image, profile, grey_in_rgb=grey_in_rgb)
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return _to_rgb(image, _transform(profile, image.mode, _flags(image.mode)))


def _profile_of(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    data = image.info.get("icc_profile")
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(data)) if data else None
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # a damaged profile is ignored, as viewers do


def _transform(
    profile: ImageCms.ImageCmsProfile | None,
    mode: str,
    flags: ImageCms.Flags = ImageCms.Flags.NONE,
) -> ImageCms.ImageCmsTransform | None:
    """Return None without a profile, or if it is damaged or made for another mode."""
    if profile is None:
        return None
    try:
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(profile, srgb, mode, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _flags(mode: str) -> ImageCms.Flags:
    """Turn off shortcuts that are coarse on steep curves, if that is cheap for the mode."""
    return ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE


def _to_rgb(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if transform is None:
        # convert would copy a picture that is RGB already.
        return image if image.mode == "RGB" else image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform, inPlace=image.mode == "RGB")
    return image if converted is None else converted


def _convert(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    transform = _transform(profile, image.mode)
    assert transform is not None
    return _to_rgb(image, transform)


def _on_white(
    image: Image.Image, profile: ImageCms.ImageCmsProfile | None, *, grey_in_rgb: bool
) -> Image.Image:
    grey = grey_in_rgb or image.mode in ("1", "L", "LA", "La")
    mode = "L" if grey else "RGB"
    transform = _transform(profile, mode, _flags(mode))
    opaque = Image.new("RGB", image.size)
    for box in bands(image):
        layer = image.crop(box)
        layer = layer.convert("LA" if grey and not grey_in_rgb else "RGBA")
        alpha = layer.getchannel("A")
        rgb = _to_rgb(layer.getchannel(0) if grey else layer.convert("RGB"), transform)
        rgb.putalpha(alpha)
        white = Image.new("RGBA", layer.size, "white")
        opaque.paste(Image.alpha_composite(white, rgb).convert("RGB"), box)
    return opaque


def _from_numbers(
    image: Image.Image, numbers: Numbers, profile: ImageCms.ImageCmsProfile | None
) -> Image.Image:
    _check_numbers(image, numbers)
    table = _table(profile)
    clear = image.info.get("transparency")  # one value may mean transparent
    rgb = Image.new("RGB", image.size)
    for box, values in _values(image, numbers):
        grey = _as_16_bits(values, numbers)
        if table is None:
            pixels = Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
        else:
            pixels = Image.fromarray(table[grey])
        if clear is not None:
            pixels.paste("white", mask=Image.fromarray(values == clear))
        rgb.paste(pixels, box)
    return rgb


def _table(profile: ImageCms.ImageCmsProfile | None) -> NDArray[np.uint8] | None:
    """Return sRGB [65536, 3] for each grey of 16 bits; None without a profile for grey."""
    # Turn off shortcuts that are coarse on steep curves: the table is made only once.
    transform = _transform(profile, "I;16", ImageCms.Flags.NOOPTIMIZE)
    if transform is None:
        return None
    greys = Image.fromarray(np.arange(1 << 16, dtype=np.uint16).reshape(256, 256))
    return np.asarray(_to_rgb(greys, transform)).reshape(-1, 3)


def _values(
    image: Image.Image, numbers: Numbers
) -> Iterator[tuple[tuple[int, int, int, int], NDArray[Any]]]:
    for box in bands(image):
        values = np.asarray(image.crop(box))
        if numbers.swapped:
            values = values.byteswap()
        # Pillow stores numbers of 32 bits as signed ones.
        yield box, values.view(np.uint32) if values.dtype == np.int32 else values


def _check_numbers(image: Image.Image, numbers: Numbers) -> None:
    if image.mode == "F":
        ends = np.array([(v.min(), v.max()) for _, v in _values(image, numbers)])
        least, most = ends[:, 0].min(), ends[:, 1].max()
        if not (least >= -_OVERSHOOT and most <= 1 + _OVERSHOOT):  # also of a NaN
            raise PictureError(
                f"its floating-point numbers reach from {least:.6g} to {most:.6g}, but only those"
                " from 0 (black) to 1 (white) have a meaning: divide them by their white"
            )
    elif numbers.bits == 32:
        most = max(int(v.max()) for _, v in _values(image, numbers))
        if 0 < most < 1 << 24:
            raise PictureError(
                f"its numbers of 32 bits reach {most:,} of {2**32 - 1:,} (white), so all would be"
                " black: save them with 16 bits or 8"
            )


def _as_16_bits(values: NDArray[Any], numbers: Numbers) -> NDArray[np.uint16]:
    """Numbers of any kind -> 0 (black) to 65,535 (white)."""
    if values.dtype == np.float32:
        grey = (values.clip(0, 1) * 65535).round()
    elif numbers.bits == 32:
        grey = values >> 16
    elif numbers.bits == 12:
        grey = values << 4 | values >> 8
    else:
        grey = values
    whole = grey.astype(np.uint16)
    return ~whole if numbers.white_is_zero else whole


def bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Divide the picture into boxes of some rows each, so that copies are small."""
    for top in range(0, image.height, BAND_PX):
        yield 0, top, image.width, min(top + BAND_PX, image.height)

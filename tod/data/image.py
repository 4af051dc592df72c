"""Any picture file -> uint8 RGB pixels, by Pillow.

Every result is sRGB, upright, opaque on white. Axes: S the side in pixels.
"""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import replace

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from tod.data import tiff
from tod.data.colour import Numbers, to_srgb
from tod.data.heif import heif_formats, heif_version
from tod.data.picture_kind import FORMATS, HEAD_BYTES, other_kind
from tod.data.picture_limits import check_codec, check_header, check_scans
from tod.errors import PictureError
from tod.format.manifest import InputSpec

# Increase this when the pixels of any picture change, so that earlier features are not used.
_PIXELS_VERSION = 3
# A small file may hold very many pixels. With this limit, Pillow's own (a quarter of a GiB at 3
# bytes a pixel), reading the largest picture takes less than 1 GB (docs/reliability.md).
_MAX_PIXELS = 89_478_485
# These decoders keep several copies of a picture; this limit allows a phone's 50 megapixels.
_MAX_PIXELS_OF = dict.fromkeys(("AVIF", "HEIF", "WEBP"), 8192 * 6144)
PillowImage = Image.Image
_UNKNOWN = "not a picture in a known format"
_MAX_SIDE_PX = 65_535  # the limit of JPEG and GIF; above it TIFF's tables outgrow the pixels
# A JPEG is decoded at a reduced scale that is at least this multiple of the wanted side (measured
# in docs/performance.md).
_DRAFT = 2
_ORDER = b"II" if sys.byteorder == "little" else b"MM"  # of a TIFF as this machine writes it
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_SAVE_OPTIONS: dict[str, dict[str, int | str]] = {
    "bmp": {},
    "png": {"compress_level": 6},
    # 4:4:4, because chroma subsampling is the loss that affects a network most.
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
}


def decodable() -> dict[str, bool]:
    """Try which formats this machine's Pillow can decode, because builds differ."""
    return {name: _comes_back(name) for name in FORMATS}


def _comes_back(format_name: str) -> bool:
    buffer = io.BytesIO()
    options: dict[str, str] = {"compression": "tiff_lzw"} if format_name == "TIFF" else {}
    try:
        Image.new("RGB", (8, 8)).save(buffer, format_name, **options)
        return Image.open(buffer, formats=(format_name,)).convert("RGB").size == (8, 8)
    except Exception:  # an encoder or decoder that is not built in fails in its own way
        return False


def decoder_version() -> str:
    """Name everything, beside the file, that a picture's pixels depend on."""
    heif = f", pillow-heif {heif_version()}" if heif_version() else ""
    return f"Pillow {PIL.__version__}, pixels {_PIXELS_VERSION}{heif}"


def load(data: bytes, spec: InputSpec, *, cropped: bool = False) -> NDArray[np.uint8]:
    """Decode a picture and resize it for a model.

    A picture of exactly S x S pixels is not resized: it was prepared for this model. A JPEG several
    times as large as wanted is decoded at a half, a quarter or an eighth of its size.

    Args:
        data: the picture file's bytes.
        spec: size, resize and interpolation.
        cropped: the picture was cropped already (a prepared dataset): it is only resized.

    Returns:
        uint8 [S, S, 3], RGB.

    Raises:
        PictureError: the reason why it cannot be read.
    """
    return np.asarray(_load(data, spec, cropped=cropped))


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a picture at its own size: uint8 [H, W, 3], sRGB, EXIF orientation applied.

    Grey, palette and 1-bit pictures become RGB, 12 to 32 bits keep their upper 8, CMYK and Lab
    are converted by their colour profile, transparency is laid on white. An animation gives its
    first frame.

    Raises:
        PictureError: not a picture, damaged, too large, or with numbers of no defined meaning.
    """
    return np.asarray(_decode(data))


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """Do what `decode` does for a Pillow image, which is not changed.

    Raises:
        PictureError: it cannot be decoded, or its numbers have no defined black and white.
    """
    try:
        upright = image.copy()
        _turn_upright(upright)
        return np.asarray(to_srgb(upright, Numbers()))
    except PictureError:
        raise
    except Exception as error:  # Pillow decodes its file only now
        raise PictureError(f"it cannot be decoded: {error or type(error).__name__}") from error


def fit(pixels: NDArray[np.uint8], spec: InputSpec, *, cropped: bool = False) -> NDArray[np.uint8]:
    """Resize the shorter side to `resize_px`, then crop the centre: [H, W, 3] -> [S, S, 3]. With
    the crop "none", resize the whole picture to S x S."""
    return np.asarray(_fit(Image.fromarray(pixels), spec, cropped=cropped))


def encode(pixels: NDArray[np.uint8], format_name: str) -> bytes:
    """Encode [H, W, 3] pixels as a picture file: "bmp" (24-bit), "png" or "jpeg" (quality 95,
    4:4:4)."""
    return _encode(Image.fromarray(pixels), format_name)


def prepare(
    data: bytes, spec: InputSpec, format_name: str, *, cropped: bool = False
) -> tuple[bytes, NDArray[np.uint8]]:
    """Return `encode` of the pixels that `load` gives, and the pixels that `decode` gives. The file
    is decoded only once if that is enough.

    Raises:
        PictureError: the reason why the picture cannot be read.
    """
    least_px = _DRAFT * _wanted_px(spec, cropped)
    whole = _decode(data)
    used = _decode(data, least_px=least_px) if _is_reduced(data, least_px) else whole
    return _encode(_fit(used, spec, cropped=cropped), format_name), np.asarray(whole)


def glance(data: bytes, width: int, height: int) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """Return the stored size of a picture, and a thumbnail uint8 [height, width, 3] of the whole
    picture. Cheaper than `decode`, because a large JPEG is decoded at a reduced size.

    Raises:
        PictureError: the reason why it cannot be read.
    """
    small = _decode(data, least_px=8 * max(width, height))
    with _opened(data) as image:
        size = image.size
    return size, np.asarray(small.resize((width, height), Image.Resampling.BOX))


def thumbnail(data: bytes, spec: InputSpec, side_px: int, *, cropped: bool = False) -> bytes:
    """A small JPEG of what a model sees of a picture: the same part of it, `side_px` x `side_px`.

    Args:
        data, spec, cropped: as for `load`.
        side_px: 120 for a list on a telephone.

    Raises:
        PictureError: the reason why it cannot be read.
    """
    resize_px = max(side_px, round(side_px * spec.resize_px / spec.size_px))
    small = replace(spec, size_px=side_px, resize_px=resize_px)
    buffer = io.BytesIO()
    _load(data, small, cropped=cropped).save(buffer, "jpeg", quality=72, optimize=True)
    return buffer.getvalue()


def _load(data: bytes, spec: InputSpec, *, cropped: bool) -> Image.Image:
    least_px = _DRAFT * _wanted_px(spec, cropped)
    return _fit(_decode(data, least_px=least_px), spec, cropped=cropped)


def _wanted_px(spec: InputSpec, cropped: bool) -> int:
    return spec.size_px if cropped or spec.crop == "none" else spec.resize_px


def _opened(data: bytes) -> Image.Image:
    """Open a picture: read its header, but no pixels yet."""
    return Image.open(io.BytesIO(data), formats=(*FORMATS, *heif_formats(data)))


def _is_reduced(data: bytes, least_px: int) -> bool:
    """Tell whether a picture is decoded at a reduced size if no side need be above `least_px`."""
    with _opened(data) as image:
        size = image.size
        image.draft(image.mode, (least_px, least_px))
        return image.size != size


def _encode(image: Image.Image, format_name: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **_SAVE_OPTIONS[format_name])
    return buffer.getvalue()


def _decode(data: bytes, least_px: int | None = None) -> Image.Image:
    """Decode a picture file to mode RGB. A JPEG may be decoded smaller, but not below `least_px` on
    either side."""
    try:
        check_header(data)
        inverted = False
        if tiff.is_tiff(data):
            data, inverted = _with_black_zero(data)
        with _opened(data) as image:
            # Pillow refuses only twice as many pixels, and warns at this limit.
            _check_size(image, data)
            if least_px is not None:
                image.draft(image.mode, (least_px, least_px))
            numbers, grey_in_rgb = _meaning(image, data)
            numbers = replace(numbers, white_is_zero=inverted)
            image.load()
            _turn_upright(image)
            return to_srgb(image, numbers, grey_in_rgb=grey_in_rgb)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        if tiff.is_tiff(data):
            samples = tiff.read_samples(data)
            text = f"a TIFF of a kind that is not read ({samples.bits} bits a sample)"
            raise PictureError(f"{text}: save it as PNG") from error
        kind = "it is damaged (HEIC)" if heif_formats(data) else other_kind(data[:HEAD_BYTES])
        raise PictureError(kind or _UNKNOWN) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise PictureError("it has too many pixels") from error
    # A decoder fed with arbitrary bytes raises almost anything (OSError, SyntaxError, TypeError,
    # struct.error ...); in all these cases only this picture is unreadable, not the others.
    except Exception as error:
        raise PictureError(f"it cannot be decoded: {error or type(error).__name__}") from error


def _with_black_zero(data: bytes) -> tuple[bytes, bool]:
    """Relabel a TIFF of more than 8 bits whose zero is white, so that its zero is black; return it
    and whether this was done. Pillow does not invert such files."""
    samples = tiff.read_samples(data)
    if not samples.white_is_zero or samples.bits <= 8:
        return data, False
    return tiff.as_black_is_zero(data), True


def _meaning(image: Image.Image, data: bytes) -> tuple[Numbers, bool]:
    """Return the meaning of the numbers in a picture of more than 8 bits, and whether it holds grey
    that Pillow copies into red, green and blue.

    Raises:
        PictureError: the numbers have no defined meaning, or Pillow would mix them up.
    """
    if image.format == "PNG":
        bits, colour_type = data[24], data[25]
        clear = image.info.get("transparency")
        if bits in (2, 4) and image.mode == "L" and isinstance(clear, int):
            # Pillow scales the greys to 8 bits, but not the grey that means transparent.
            image.info["transparency"] = clear * 255 // (2**bits - 1)
        return Numbers(), (bits, colour_type) == (16, 4)
    if image.format != "TIFF" or not isinstance(image, ImageFile.ImageFile):
        return Numbers(), False
    samples = tiff.read_samples(data)
    if samples.signed and samples.bits > 8:  # all programs read 8 bits as unsigned
        raise PictureError("its numbers have a sign: they have no defined black and white")
    by_libtiff = bool(image.tile) and image.tile[0].codec_name == "libtiff"
    if samples.planes and (image.mode in ("LA", "La") or (samples.bits == 16 and not by_libtiff)):
        raise PictureError("the samples of a pixel lie apart in it: save it with them together")
    # libtiff has swapped the bytes to this machine's order, and Pillow swaps them again.
    swapped = by_libtiff and image.mode == "F" and data[:2] != _ORDER
    return Numbers(samples.bits, swapped=swapped), False


def _check_size(image: Image.Image, data: bytes) -> None:
    """Refuse a picture that would take too much memory or time, before any pixel is decoded."""
    pixels = image.width * image.height
    if pixels > _MAX_PIXELS_OF.get(image.format or "", _MAX_PIXELS):
        raise PictureError("it has too many pixels")
    if max(image.size) > _MAX_SIDE_PX:
        raise PictureError(f"{image.width} x {image.height} px is too long and thin")
    if image.format in ("JPEG", "MPO"):
        check_scans(data, pixels)
    if isinstance(image, ImageFile.ImageFile) and image.tile:
        check_codec(image.tile[0].codec_name, pixels, len(data))


def _fit(image: Image.Image, spec: InputSpec, *, cropped: bool) -> Image.Image:
    side = spec.size_px
    if image.size == (side, side):
        return image
    resample = _FILTERS[spec.interpolation]
    if cropped or spec.crop == "none":
        return image.resize((side, side), resample)
    width, height = image.size
    scale = spec.resize_px / min(width, height)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if size[0] * size[1] > 64 * spec.resize_px**2:
        raise PictureError(f"{width} x {height} px is too long and thin for a square crop")
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    if size == image.size:
        return image.crop((left, top, left + side, top + side))
    # Resize only the part that the crop shows, not the whole picture.
    x, y = width / size[0], height / size[1]
    box = (left * x, top * y, (left + side) * x, (top + side) * y)
    return image.resize((side, side), resample, box=box)


def _turn_upright(image: Image.Image) -> None:
    # If the EXIF data is damaged, the pixels stay as they are stored.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)

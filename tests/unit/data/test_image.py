"""Every kind of picture ends as upright sRGB pixels, or is refused with its reason."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tod.data.image import decode, encode, fit, load
from tod.errors import PictureError
from tod.format.manifest import InputSpec

SPEC = InputSpec(224, 256, "bicubic", "center", "rgb", (0, 0, 0), (1, 1, 1))


def file_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def one_colour(data: bytes) -> tuple[int, ...]:
    pixels = decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    assert len(colours) == 1
    return tuple(int(value) for value in colours[0])


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (0, 0), (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (200, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 0x8000, (128, 128, 128)),
        ("I;16", 0xFFFF, (255, 255, 255)),
    ],
)
def test_modes(mode, colour, expected):
    assert one_colour(file_of(Image.new(mode, (6, 5), colour))) == expected


def test_palette_with_and_without_transparency():
    image = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(2)
    assert one_colour(file_of(image)) == (10, 200, 30)
    clear = image.getpixel((0, 0))
    assert one_colour(file_of(image, transparency=clear)) == (255, 255, 255)


def test_cmyk():
    """No ink is white and all ink is black, in JPEG's inverted form too."""
    for kind in ("JPEG", "TIFF"):
        assert one_colour(file_of(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), kind)) == (255,) * 3
        assert one_colour(file_of(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), kind)) == (0,) * 3


def test_embedded_profile_is_converted_to_srgb():
    """Lab's L 50 is sRGB 119, which a plain copy of the numbers would miss."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = file_of(Image.new("RGB", (4, 4), (119, 119, 119)), icc_profile=profile)
    assert one_colour(same) == (119, 119, 119)
    lab = file_of(Image.new("LAB", (4, 4), (128, 128, 128)), "TIFF")
    assert all(abs(value - 119) <= 2 for value in one_colour(lab))


def test_a_damaged_profile_is_ignored():
    data = file_of(Image.new("RGB", (4, 4), (1, 2, 3)), icc_profile=b"nonsense" * 20)
    assert one_colour(data) == (1, 2, 3)


def test_16_bit_keeps_the_upper_bits():
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    pixels = decode(file_of(Image.fromarray(values)))
    assert np.array_equal(pixels[:, :, 0], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "words"), [("F", "only those from 0"), ("I", "no defined black and white")]
)
def test_numbers_without_black_and_white_are_refused(mode, words):
    with pytest.raises(PictureError, match=words):
        decode(file_of(Image.new(mode, (4, 4), 2), "TIFF"))


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert one_colour(data) == (255, 0, 0)


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", file_of(Image.effect_noise((40, 40), 50))[:900]]
)
def test_garbage_is_refused(data):
    with pytest.raises(PictureError):
        decode(data)


def test_a_decompression_bomb_is_refused():
    bomb = file_of(Image.new("1", (20000, 20000)))
    assert len(bomb) < 100_000
    with pytest.raises(PictureError, match="too many pixels"):
        decode(bomb)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(data):
    try:
        assert decode(data).ndim == 3
    except PictureError as error:
        assert error.problem


@given(st.integers(1, 600), st.integers(1, 600))
def test_fit_gives_the_wanted_size(width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    try:
        assert fit(pixels, SPEC).shape == (224, 224, 3)
    except PictureError as error:
        assert "too long and thin" in error.problem
        assert max(width, height) > 16 * min(width, height)


def test_resize_then_centre_crop():
    """The middle of a wide picture stays, at 7/8 of its height: nothing is resized twice."""
    image = Image.new("RGB", (600, 400), "black")
    image.paste("white", (290, 0, 310, 400))
    pixels = fit(np.asarray(image), SPEC)
    scale = 256 / 400
    left = round(290 * scale) - (round(600 * scale) - 224) // 2
    assert pixels[112, left + 6].tolist() == [255, 255, 255]
    assert pixels[112, left - 6].tolist() == [0, 0, 0]
    already = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    assert np.array_equal(fit(already, SPEC), already[16:240, 16:240])


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    assert np.array_equal(load(encode(pixels, "bmp"), SPEC), pixels)


def test_bmp_is_24_bit_and_lossless():
    pixels = np.random.default_rng(0).integers(0, 255, (7, 5, 3), np.uint8)
    data = encode(pixels, "bmp")
    kind, bits = data[:2], struct.unpack_from("<H", data, 28)[0]
    assert (kind, bits) == (b"BM", 24)
    assert np.array_equal(decode(data), pixels)


@pytest.mark.parametrize("series", ["Landscape", "Portrait"])
def test_exif_orientation(test_data, series):
    """The same photo stored in eight orientations looks the same in all of them."""
    folder = test_data / "odd_images" / "exif_orientation"
    files = [folder / f"{series}_{number}.jpg" for number in range(9)]
    upright = load(files[1].read_bytes(), SPEC).astype(int)
    for file in files:
        difference = np.abs(load(file.read_bytes(), SPEC).astype(int) - upright)
        assert difference.mean() < 6, file


def test_a_large_jpeg_is_decoded_at_a_reduced_scale():
    """Twice as large as wanted is left; the pixels are those of the whole picture, nearly."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8))
    photo = coarse.resize((2400, 1600), Image.Resampling.BICUBIC)
    data = file_of(photo, "JPEG", quality=95)
    assert decode(data).shape == (1600, 2400, 3)
    whole = fit(decode(data), SPEC).astype(int)
    assert np.abs(load(data, SPEC).astype(int) - whole).mean() < 1
    smaller = file_of(photo.resize((1530, 1020)), "JPEG")
    assert np.array_equal(load(smaller, SPEC), fit(decode(smaller), SPEC))

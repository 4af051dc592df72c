"""HEIC: read where the extra `heif` is installed; elsewhere it is said what to do."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.conftest import make_pictures
from tod.data import image
from tod.data.dataset import Dataset
from tod.data.heif import heif_formats, heif_version
from tod.data.image import decode, decoder_version, glance
from tod.data.picture_kind import is_heic, is_picture
from tod.errors import PictureError


def heic(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr("tod.data.image.heif_formats", lambda data: ())
    monkeypatch.setattr("tod.data.walk.heif_version", lambda: "")


def phone_pictures(tree):
    make_pictures(tree, per_class=8)
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        data = heic(Image.fromarray(noise))
        (tree / "red" / f"phone{number}.HEIC").write_bytes(data + b"\0" * number)
        (tree / "red" / f"phone{number}.jpg").write_bytes(data + b"\0" * number)
    return tree


def test_a_heic_picture_is_read_upright():
    image = Image.new("RGB", (64, 48), (200, 40, 40))
    image.paste((40, 40, 200), (0, 0, 32, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    data = heic(image, exif=exif.tobytes())
    assert is_heic(data[:512])
    assert not is_picture(data[:512])
    pixels = decode(data)
    assert pixels.shape == (64, 48, 3)
    assert np.abs(pixels[8, 24].astype(int) - (40, 40, 200)).max() < 12
    assert np.abs(pixels[56, 24].astype(int) - (200, 40, 40)).max() < 12
    assert glance(data, 8, 8)[1].shape == (8, 8, 3)
    assert heif_version() in decoder_version()
    with pytest.raises(PictureError, match="damaged"):
        decode(data[: len(data) // 2])


def test_without_the_library_it_is_said_what_to_do(not_installed):
    data = heic(Image.new("RGB", (64, 48)))
    how = r"HEIC.*pip install -c constraints\.txt '\.\[heif\]'.*convert"
    with pytest.raises(PictureError, match=how):
        decode(data)


def test_a_class_of_heic_pictures(tmp_path):
    dataset = Dataset.open(phone_pictures(tmp_path), cache=False)
    assert (len(dataset.samples), dataset.left_out) == (36, ())


def test_a_class_of_heic_pictures_without_the_library(tmp_path, not_installed):
    dataset = Dataset.open(phone_pictures(tmp_path), cache=False)
    assert (len(dataset.samples), len(dataset.left_out)) == (24, 12)
    assert all("HEIC" in one.reason for one in dataset.left_out)


def test_too_large_a_picture_is_refused(monkeypatch):
    monkeypatch.setitem(image._MAX_PIXELS_OF, "HEIF", 64 * 64 - 1)
    data = heic(Image.new("RGB", (64, 64)))
    with pytest.raises(PictureError, match="too many pixels"):
        decode(data)


def test_avif_and_others_are_not_heic():
    avif = b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B"
    burst = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"
    for head in (avif, burst):
        assert is_picture(head)
        assert not is_heic(head)
        assert heif_formats(head) == ()
    assert heif_formats(b"\xff\xd8\xff") == ()

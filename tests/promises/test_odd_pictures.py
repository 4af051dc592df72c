"""973 odd pictures: each is decoded as other programs decode it, or refused with its reason; none
takes more than a gigabyte, nor does any that was made to."""

import csv
import functools
import io
import json
import os
import struct
import zlib
from itertools import repeat
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from tests.conftest import make_pictures, run
from tests.support.decode_all import SPEC, coarse, decode_all, difference
from tests.support.reference_pictures import TABLE
from tod.data import picture_limits
from tod.data.dataset import Dataset
from tod.data.image import decode, load
from tod.errors import PictureError
from tod.runtime.features import picture_features

GIGABYTE = 10**9
NAMED = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "MPO")
TOLERANCE = 3  # of 255: rounding of 16 bits, of premultiplied alpha and of colour profiles
# Where neither reference sees what we see, and why we stand by it.
TWINS = {
    # Its palette has 4 bytes for a colour, which ImageMagick reads as 3.
    "pillow/bmp__q__pal8os2v2.bmp": "pillow/bmp__g__pal8.bmp",
    # The fourth byte means nothing in this kind of BMP; ImageMagick takes it for transparency.
    "pillow/bmp__q__rgb32fakealpha.bmp": "pillow/bmp__g__rgb24.bmp",
    # ImageMagick shows it white, libvips paler: as it shows any CMYK picture without a profile.
    "pillow/tiff_tiled_cmyk_jpeg.tif": "pillow/tiff_strip_cmyk_jpeg.tif",
    # ImageMagick takes Lab's white for that of sRGB.
    "pillow/hopper.Lab.tif": "pillow/hopper.ppm",
}
DISPUTED = {
    # Turned as their XMP data says, which other viewers do not read.
    "pillow/avif__xmp_tags_orientation.avif",
    "pillow/xmp_tags_orientation.png",
    "pillow/xmp_tags_orientation_exiftool.png",
    # A grey scale, which ImageMagick shows in green and pink.
    "pillow/old-style-jpeg-compression.tif",
    "pillow/old-style-jpeg-compression-no-samplesperpixel.tif",
    # Damaged on purpose: nothing is right.
    "pillow/bmp__b__badrle.bmp",
    "pillow/bmp__b__pal8badindex.bmp",
}
NO_REFERENCE = {
    "pillow/bmp__b__badfilesize.bmp",
    "pillow/bmp__b__badplanes.bmp",
    "pillow/mmap_error.bmp",
}


@pytest.fixture(scope="module")
def odd(test_data) -> list[dict]:
    """The rows of the index, each with what became of the file."""
    folder = test_data / "odd_images"
    with (folder / "INDEX.csv").open() as index:
        rows = list(csv.DictReader(index))
    files = [folder / row["file"] for row in rows]
    found = decode_all(files, mode="decode", limit_bytes=GIGABYTE)
    return [row | one for row, one in zip(rows, found, strict=True)]


@pytest.mark.promise(
    "A picture is decoded right or refused with its reason, in less than 1 GB",
    "973 odd files against ImageMagick and libvips, under a limit of memory",
)
def test_odd_pictures_are_decoded_right_or_refused(odd, trials):
    table = json.loads(TABLE.read_text())
    looks = {row["file"]: row["coarse"] for row in odd if "coarse" in row}
    for index in trials(len(odd), soak=len(odd)):
        row, name = odd[index], odd[index]["file"]
        assert row["peak_mb"] < 1000
        if "refused" in row:
            assert row["refused"]
            # The index was made by Pillow when it forgives damage; we do not.
            good = row["decode"] == "ok" and row["format"] in NAMED
            no_black = row["mode"] in ("F", "I")
            assert not good or no_black or row["exif_orientation"] == "err", name
        elif name in TWINS:
            assert difference(row["coarse"], looks[TWINS[name]]) <= 12, name
        elif name not in DISPUTED | NO_REFERENCE:
            size = "x".join(map(str, row["size"]))
            seen = [look.split() for look in table[name]]
            near = [difference(look, row["coarse"]) for wanted, look in seen if wanted == size]
            assert min(near) <= TOLERANCE, name


def test_how_many_odd_pictures_are_decoded(odd):
    """docs/reliability.md has these figures."""
    decoded = [row["file"] for row in odd if "coarse" in row]
    compared = set(decoded) - TWINS.keys() - DISPUTED - NO_REFERENCE
    assert (len(odd), len(decoded), len(compared)) == (973, 802, 788)


def test_the_look_tells_pictures_apart(test_data):
    """The comparison above would notice a turned, a mirrored or a slightly darker picture."""
    pixels = decode((test_data / "odd_images/exif_orientation/Landscape_1.jpg").read_bytes())
    for other in (pixels[::-1, ::-1], pixels[:, ::-1], pixels[:, :, ::-1], pixels // 20 * 19):
        assert difference(coarse(other), coarse(pixels)) > TOLERANCE


def test_one_grey_of_16_bits_may_be_transparent(test_data):
    pixels = decode((test_data / "odd_images/pillow/i_trns.png").read_bytes())
    assert (pixels == 255).all(axis=2).sum() > 500
    assert (pixels == 0).all(axis=2).sum() > 500


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *extra: bytes, pixels: bytes | None = None) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = zlib.compress(bytes((width + 1) * height)) if pixels is None else pixels
    parts = [head, *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(width: int, height: int, *extra: tuple[int, int, int, int], big: int = 0) -> bytes:
    """Grey, uncompressed; with `big` a BigTIFF in which the last tag stands so many times."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 64)]
    tags += extra
    if not big:
        body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + body + bytes(1_000_000)
    body = (
        b"".join(struct.pack("<HHQQ", *tag) for tag in tags) + struct.pack("<HHQQ", *tags[-1]) * big
    )
    return struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(tags) + big) + body + bytes(1000)


def jpeg(side: int, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), 100).save(buffer, "JPEG", quality=50, **options)
    return buffer.getvalue()


def more_scans(side: int, times: int) -> bytes:
    """A progressive JPEG whose last scan, a few bytes for all pixels, comes again and again."""
    data = jpeg(side, progressive=True)
    last = data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))
    return data[:-2] + data[last:-2] * times + b"\xff\xd9"


def gif(screen: int, frame: int, comment: int = 0) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    said = b"!\xfe" + (b"\xff" + bytes(255)) * comment + b"\0" if comment else b""
    body = b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x4c\x01\x00;"
    return head + said + body


def bmp(width: int, height: int, data: bytes) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return head + info + bytes(1024) + data


def save(mode: str, size: tuple[int, int], kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def zeros(megabytes: int) -> bytes:
    """So many, in a thousandth of their bytes."""
    pack, million = zlib.compressobj(), bytes(10**6)
    return b"".join(map(pack.compress, repeat(million, megabytes))) + pack.flush()


# Name -> how it is made, and the reason that it is refused for; None where it may be decoded.
BOMBS = {
    "huge.png": (lambda: png(2**31 - 1, 2**31 - 1, pixels=b""), "too many pixels"),
    "square.png": (lambda: png(9500, 9500, pixels=b""), "too many pixels"),
    "iccp.png": (lambda: png(8, 8, chunk(b"iCCP", b"x\0\0" + zeros(200))), "too large"),
    "ztxt.png": (lambda: png(8, 8, chunk(b"zTXt", b"x\0\0" + zeros(200))), "too large"),
    "itxt.png": (lambda: png(8, 8, chunk(b"iTXt", b"x\0\1\0\0\0" + zeros(200))), "too large"),
    "many_texts.png": (
        lambda: png(8, 8, *[chunk(b"zTXt", b"%d\0\0" % i + zeros(1)) for i in range(100)]),
        "Too much memory used in text chunks",
    ),
    "long_pixels.png": (lambda: png(8, 8, pixels=zeros(200)), None),
    "many_chunks.png": (lambda: png(8, 8, chunk(b"abCd", b"") * 10**6), "over 100,000 chunks"),
    "screen.gif": (lambda: gif(65535, 65535), "too many pixels"),
    "frame.gif": (lambda: gif(8, 65535), "too many pixels"),
    "comment.gif": (lambda: gif(8, 8, 40_000), "over 1 MiB before its pixels"),
    "huge.tif": (lambda: tiff(100_000, 100_000), "too many pixels"),
    "strips.tif": (lambda: tiff(1, 80_000_000), "too long and thin"),
    "tags.tif": (lambda: tiff(8, 8, *[(40000 + i % 9, 7, 4, 8) for i in range(60_000)]), None),
    "overlap.tif": (
        lambda: tiff(8, 8, *[(40000 + i, 7, 10**6, 8) for i in range(2000)]), None
    ),
    "many_tags.tif": (
        lambda: tiff(8, 8, (40000, 7, 4, 8), big=10**6), "it has 1,000,010 tags"
    ),
    "huge.webp": (lambda: save("L", (7200, 7200), "WEBP", method=0), "too many pixels"),
    "scans.jpg": (lambda: more_scans(5000, 200), "25,000,000 pixels are sent in too many scans"),
    "few_scans.jpg": (lambda: more_scans(500, 200), None),
    "segments.jpg": (
        lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 10**6 + jpeg(8)[2:], "over 10,000 segments"
    ),
    "filling.jpg": (lambda: b"\xff\xd8" + b"\xff" * 2 * 10**7 + jpeg(8)[2:], "over 16 MiB"),
    "exif.jpg": (
        lambda: jpeg(8, exif=b"Exif\0\0" + tiff(8, 8, *[(i + 1000, 7, 60000, 0)
                                                      for i in range(5000)])[:65000]),
        None,
    ),
    "icc.jpg": (lambda: jpeg(8, icc_profile=struct.pack(">I", 2**31) + bytes(10**6)), None),
    "plain.ppm": (lambda: b"P2\n2000 2000\n255\n" + b"1 " * 4_000_000, "read up to 2,097,152"),
    "values.ppm": (lambda: b"P6\n2000 2000\n1000\n" + bytes(24_000_000), "read up to 2,097,152"),
    "runs.bmp": (lambda: bmp(9000, 9000, b"\1\1" * 10**6), "read up to 2,097,152"),
    "deltas.bmp": (lambda: bmp(8, 8, b"\0\2\0\0" * 5 * 10**6), "read up to 2,097,152"),
}  # fmt: skip


@pytest.mark.promise(
    "A picture made to fill memory or to take hours is refused",
    "small files that ask for much: pixels, profiles, texts, tags, chunks, scans, comments",
)
def test_bombs_are_refused_or_decoded_within_limits(tmp_path, trials):
    """Refused before the work, by a count; so a limit of time is not needed."""
    for name, (make, _) in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    found = decode_all([tmp_path / name for name in BOMBS], mode="load", limit_bytes=GIGABYTE)
    for index in trials(len(BOMBS), soak=len(BOMBS)):
        (name, (_, reason)), said = list(BOMBS.items())[index], found[index]
        assert said["peak_mb"] < 400, name
        if reason is not None:
            assert reason in said.get("refused", "decoded"), name


def turned_with_profile(mode: str, size: tuple[int, int], kind: str, **options) -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return save(mode, size, kind, exif=exif, icc_profile=profile, **options)


LARGEST = [
    lambda: save("1", (9459, 9459), "PNG"),
    lambda: turned_with_profile("RGB", (8192, 6144), "WEBP", method=0),
    lambda: turned_with_profile("RGBA", (8192, 6144), "WEBP", method=0),
    lambda: turned_with_profile("RGBA", (9459, 9459), "PNG", compress_level=1),
    lambda: turned_with_profile("LA", (9459, 9459), "PNG", compress_level=1),
    lambda: turned_with_profile("RGB", (9459, 9459), "JPEG", progressive=True, subsampling=0),
    lambda: turned_with_profile("RGBA", (8192, 6144), "AVIF", speed=10),
    lambda: save("CMYK", (9459, 9459), "TIFF", compression="tiff_lzw"),
    lambda: save("LAB", (9459, 9459), "TIFF", compression="tiff_lzw"),
    lambda: save("I;16", (9459, 9459), "PNG", compress_level=1),
    lambda: save("P", (9459, 9459), "PNG", transparency=0),
]


@pytest.mark.promise(
    "The largest pictures that are read take less than 1 GB each",
    "the most pixels of each kind, turned and with a profile, under a limit of memory",
)
def test_the_largest_pictures_take_less_than_a_gigabyte(tmp_path, trials):
    for index in trials(2, soak=len(LARGEST)):
        (tmp_path / "x").write_bytes(LARGEST[index]())
        (found,) = decode_all([tmp_path / "x"], mode="load", limit_bytes=2 * GIGABYTE)
        assert "coarse" in found, found
        assert found["peak_mb"] < 1000


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(picture_limits.MAX_FILE_BYTES + 1)
    with pytest.raises(PictureError, match=r"x\.png: cannot be read: it is over 256 MiB"):
        picture_features(None, SPEC, [tmp_path / "x.png"])
    with pytest.raises(PictureError, match="over 256 MiB"):
        load(bytes(picture_limits.MAX_FILE_BYTES + 1), SPEC)


@pytest.fixture
def trapped(tmp_path) -> Path:
    """Class folders in which some pictures are none, and would never end."""
    root = make_pictures(tmp_path / "pictures", per_class=8)
    os.mkfifo(root / "red" / "pipe.png")
    (root / "red" / "zero.png").symlink_to("/dev/zero")
    (root / "red" / "to_pipe.png").symlink_to("pipe.png")
    (root / "red" / "good_link.png").symlink_to(root / "red" / "0.png")
    with (root / "red" / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    return root


def test_only_regular_files_are_opened(trapped):
    dataset = Dataset.open(trapped)
    assert len(dataset.samples) == 25
    passed = sorted(n.removeprefix(f"{trapped}/red/") for n in dataset.notices)
    assert passed == [
        "huge.png was passed over: cannot be read: it is over 256 MiB",
        "pipe.png was passed over: it is no regular file",
        "to_pipe.png was passed over: it is no regular file",
        "zero.png was passed over: it is no regular file",
    ]


def test_predict_and_prepare_open_only_regular_files(trapped, tiny, tmp_path):
    run("net_runner", "-f", tiny, "-d", trapped, "-c", 1, "-q")
    trained, red = tiny.with_name("tiny_trained.tod"), trapped / "red"
    done = run("tod", "predict", "-f", trained, red / "0.png", red / "pipe.png", red / "zero.png")
    assert done.returncode == 3
    assert f"{red / 'pipe.png'}: cannot be read: it is no regular file" in done.stderr
    assert "/zero.png: cannot be read: it is no regular file" in done.stderr
    done = run("tod", "prepare-dataset", trapped, tmp_path / "out")
    assert done.stderr.count("it is no regular file") == 3

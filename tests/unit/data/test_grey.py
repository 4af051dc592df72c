"""A grey ramp in every kind of file comes out as its numbers say, or is refused with the reason."""

import fnmatch

import numpy as np
import pytest

from tests.support.grey_cases import cases
from tod.data.image import decode
from tod.errors import PictureError

# What Pillow does not read, or would mix up; the picture is named with this reason.
REFUSED = {
    "tiff grey8 white * reversed": "unknown raw mode",
    "tiff grey* bigtiff": "a TIFF of a kind that is not read",
    "tiff grey12* MM*": "a TIFF of a kind that is not read (12 bits a sample): save it as PNG",
    "tiff grey16* reversed": "a TIFF of a kind that is not read (16 bits a sample)",
    "tiff grey32* MM*": "a TIFF of a kind that is not read (32 bits a sample)",
    "tiff float16*": "a TIFF of a kind that is not read (16 bits a sample)",
    "tiff float64*": "a TIFF of a kind that is not read (64 bits a sample)",
    "tiff grey16 alpha*": "a TIFF of a kind that is not read",
    "tiff grey16 premultiplied*": "a TIFF of a kind that is not read",
    "tiff grey16 unspecified*": "",
    "tiff grey8 * planar*": "",
    "tiff rgb16 planar ??": "the samples of a pixel lie apart in it",
    "tiff rgb16 planar ?? [!d]*": "the samples of a pixel lie apart in it",
    "tiff rgba16 half planar ??": "the samples of a pixel lie apart in it",
    "tiff rgba16 half planar ?? [!d]*": "the samples of a pixel lie apart in it",
}
ALL = list(cases())
KINDS = sorted({" ".join(case.name.split()[:2]) for case in ALL})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_grey_ramp(kind):
    wrong = {}
    for case in (case for case in ALL if " ".join(case.name.split()[:2]) == kind):
        reason = next((r for k, r in REFUSED.items() if fnmatch.fnmatchcase(case.name, k)), None)
        try:
            found = decode(case.data)
        except PictureError as error:
            if case.expected is not None and (reason is None or reason not in error.problem):
                wrong[case.name] = error.problem
            continue
        if case.expected is None:
            wrong[case.name] = "it has no defined values, and was read"
        else:
            difference = np.abs(found - case.expected[..., None]).max()
            if difference > case.tolerance + 0.5:
                wrong[case.name] = f"{difference:.1f} of 255"
    assert not wrong


@pytest.mark.parametrize(
    ("name", "row"),
    [("LA-opaque.png", [0, 137, 188, 225, 254]), ("grey16-white.tif", None)],
)
def test_those_met_in_the_field(test_data, name, row):
    pixels = decode((test_data / "field_cases" / "grey" / name).read_bytes())
    assert (pixels[..., 0] == pixels[..., 1]).all()
    if row is None:
        other = test_data / "field_cases" / "grey" / name
        from PIL import Image

        stored = np.asarray(Image.open(other)) >> 8
        np.testing.assert_array_equal(pixels[..., 0], 255 - stored)
    else:
        assert np.abs(pixels[0, [0, 16, 32, 48, 63], 0].astype(int) - row).max() <= 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiff float32 255 II", "reach from 0 to 255, but only those from 0 (black) to 1 (white)"),
        ("tiff float32 nan II", "reach from nan to nan"),
        ("tiff grey32 few", "so all would be black: save them with 16 bits or 8"),
        ("tiff signed16 II", "its numbers have a sign: they have no defined black and white"),
    ],
)
def test_what_has_no_black_and_white_says_so(name, words):
    (case,) = (case for case in ALL if case.name == name)
    with pytest.raises(PictureError) as caught:
        decode(case.data)
    assert words in caught.value.problem

"""Samples that are no pictures: shapes, dtypes, and pictures that become such samples."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tod.data.pictures import array_of, batches, each
from tod.data.tensors import fits, random_samples, tensor_of
from tod.errors import PictureError, UsageError
from tod.format.manifest import InputSpec, TensorSpec

VECTOR = TensorSpec((3,))
GREY = TensorSpec((1, 8, 8))
BYTES = TensorSpec((2, 2), "uint8")


@pytest.mark.parametrize(
    ("found", "wanted", "ok"),
    [
        ((3,), (3,), True),
        ((784,), (1, 28, 28), True),
        ((28, 28), (1, 28, 28), True),
        ((1, 28, 28, 1), (1, 28, 28), True),
        ((), (1,), True),
        ((28, 28), (14, 56), False),  # the numbers would lie elsewhere
        ((4,), (3,), False),
        ((3, 28, 28), (28, 28, 3), False),
    ],
)
def test_which_shapes_stand_for_which(found, wanted, ok):
    assert fits(found, wanted) is ok


@given(arrays.arrays(np.uint8, (2, 2)))
def test_whole_numbers_come_through_as_they_are(values):
    assert (tensor_of(values.astype(np.float64), BYTES) == values).all()
    floats = tensor_of(values, TensorSpec((4,)))
    assert floats.dtype == np.float32
    assert (floats == values.reshape(-1)).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, 1], [2, 256]]), "not from 0 to 255"),
        (np.array([[0, 1], [2, -1]]), "not from 0 to 255"),
        (np.array([[0, 1], [2, 0.5]]), "not whole"),
        (np.array([[0, 1], [2, np.nan]]), "not whole"),
        (np.zeros((2, 2), complex), "complex128, no numbers"),
        (np.array([["a", "b"], ["c", "d"]]), "no numbers"),
        (np.zeros(5), r"its shape is \[5\], the model takes \[2, 2\]"),
    ],
)
def test_what_uint8_does_not_have_is_refused(values, said):
    with pytest.raises(PictureError, match=said):
        tensor_of(values, BYTES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_in_float32_is_refused(value):
    with pytest.raises(PictureError, match="not finite in float32"):
        tensor_of(np.array([1.0, 2.0, value]), VECTOR)


def picture(mode="RGB", size=(8, 8)):
    generator = np.random.default_rng(0)
    colours = Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8))
    return colours.convert(mode)


def png(image):
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_a_picture_becomes_grey_as_in_pillow():
    image = picture()
    made = array_of(png(image), GREY)
    assert made.dtype == np.float32
    assert (made[0] == np.asarray(image.convert("L"))).all()
    # What is grey already stays as it is.
    grey = picture("L")
    assert (array_of(png(grey), GREY)[0] == np.asarray(grey)).all()


def test_a_picture_keeps_its_colours_in_both_orders():
    image = picture()
    first = array_of(image, TensorSpec((3, 8, 8), "uint8"))
    last = array_of(image, TensorSpec((8, 8, 3), "uint8"))
    assert (first.transpose(1, 2, 0) == np.asarray(image)).all()
    assert (last == np.asarray(image)).all()


def test_a_picture_is_resized_to_the_side_of_the_sample():
    assert array_of(picture(size=(20, 12)), TensorSpec((8, 8))).shape == (8, 8)


def test_a_picture_is_no_vector():
    with pytest.raises(PictureError, match=r"no sample of this model, which takes \[3\]"):
        array_of(picture(), VECTOR)


@pytest.mark.parametrize(
    ("samples", "count"),
    [
        ([1, 2, 3], 1),
        ([[1, 2, 3], [4, 5, 6]], 2),
        (np.zeros((5, 3)), 5),
        (np.zeros(3), 1),
        ([np.zeros(3), np.zeros((1, 3))], 2),
        ([[0, 0, 0]] * 2, 2),
    ],
)
def test_a_program_gives_one_or_several(samples, count):
    assert len(each(samples, VECTOR)) == count
    (made,) = batches(samples, VECTOR, 16)
    assert made.shape == (count, 3)
    assert made.dtype == np.float32


@pytest.mark.parametrize("samples", [[], [1, 2], np.zeros((2, 4)), [[1, 2, 3], [4]], ["a", 1], {}])
def test_what_is_no_sample_is_refused(samples):
    with pytest.raises(UsageError, match="the samples are"):
        each(samples, VECTOR)


@given(
    st.sampled_from(
        [VECTOR, GREY, BYTES, InputSpec(4, 4, "bicubic", "center", "rgb", (0,) * 3, (1,) * 3)]
    )
)
def test_random_samples_are_samples(spec):
    made = random_samples(spec, 3)
    assert made.shape == (3, *spec.shape)
    assert made.dtype == spec.dtype
    assert (random_samples(spec, 3) == made).all()

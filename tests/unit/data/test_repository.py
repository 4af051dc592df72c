"""NNStreamer's data repositories, byte for byte against files computed by hand."""

import json
import struct
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tod.data import flexible_tensor, tensor_caps
from tod.data.dataset import Dataset
from tod.data.repository import open_repository, order, pattern_files, write_repository
from tod.errors import DataError, UsageError

CAPS = (
    "other/tensors, format=(string)static, framerate=(fraction)30/1, num_tensors=(int)2, "
    "dimensions=(string)2:1:1:1.3:1:1:1, types=(string)uint8.float32"
)
TENSORS = arrays.arrays(
    st.sampled_from([np.dtype(name) for name in tensor_caps.TYPES]),
    arrays.array_shapes(max_dims=4, max_side=4),
    elements=st.integers(0, 100),
)


def by_hand(tmp_path, count=10, **changes):
    """Samples of two bytes and a one-hot label of three float32."""
    data = b"".join(
        bytes([index, 255 - index]) + struct.pack("<3f", *np.eye(3)[index % 3])
        for index in range(count)
    )
    said = {"gst_caps": CAPS, "total_samples": count, "sample_size": 14} | changes
    (tmp_path / "d.data").write_bytes(data)
    (tmp_path / "d.json").write_text(json.dumps(said))
    return tmp_path / "d.json"


def test_a_static_repository(tmp_path):
    found = open_repository(by_hand(tmp_path))
    assert found.total == 10
    pixels, label = found.sample(4)
    assert pixels.tolist() == [4, 251]
    assert label.tolist() == [0, 1, 0]
    assert found.column(0).shape == (10, 2)


def test_it_is_a_dataset(tmp_path):
    dataset = Dataset.open(by_hand(tmp_path, 40))
    assert dataset.classes == ("0", "1", "2")
    assert [s.label for s in dataset.samples[:4]] == [0, 1, 2, 0]
    assert dataset.source(dataset.samples[7]).tolist() == [7, 248]
    assert set(dataset.counts().values()) != {0}


def test_a_label_of_numbers(tmp_path):
    dataset = Dataset.open(by_hand(tmp_path, 40), numbers=True)
    assert dataset.classes == ("10", "11", "12")
    assert dataset.samples[4].targets == (0.0, 1.0, 0.0)


def test_what_we_write_is_what_the_sink_writes(tmp_path):
    """The bytes of `by_hand`, and the members that datareposrc reads."""
    wanted = by_hand(tmp_path).with_suffix(".data").read_bytes()
    samples = [
        (np.array([i, 255 - i], np.uint8), np.eye(3, dtype=np.float32)[i % 3]) for i in range(10)
    ]
    write_repository(tmp_path / "ours.json", samples)
    assert (tmp_path / "ours.data").read_bytes() == wanted
    said = json.loads((tmp_path / "ours.json").read_text())
    assert (said["total_samples"], said["sample_size"]) == (10, 14)
    assert "dimensions=(string)2:1:1:1.3:1:1:1, types=(string)uint8.float32" in said["gst_caps"]
    assert "num_tensors=(int)2" in said["gst_caps"]


def header(kind, dimensions, form, filled=0):
    axes = [*dimensions, *[0] * (16 - len(dimensions))]
    words = [0xFEEDCCED, 0xDE001000, kind, *axes, form, 4, filled]
    return struct.pack("<22I", *words) + bytes(128 - 88)


def test_a_flexible_tensor_by_hand():
    data = header(7, (3, 2), 1) + struct.pack("<6f", *range(6))
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert (flexible_tensor.decode(data) == values).all()
    assert flexible_tensor.encode(values) == data


def test_a_sparse_tensor_by_hand():
    values = np.zeros((2, 3), np.int16)
    values[0, 1], values[1, 2] = 5, -7
    data = header(2, (3, 2), 2, 2) + struct.pack("<2h2I", 5, -7, 1, 5)
    assert flexible_tensor.encode(values, sparse=True) == data
    assert (flexible_tensor.decode(data) == values).all()


@given(TENSORS, st.booleans())
def test_tensors_round_trip(values, sparse):
    back = flexible_tensor.decode(flexible_tensor.encode(values, sparse=sparse))
    assert back.dtype == values.dtype
    assert (back.reshape(-1) == values.reshape(-1)).all()


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data):
    with pytest.raises(ValueError, match=r".+"):
        flexible_tensor.decode(data)


@given(st.data())
def test_a_header_that_lies_is_refused_or_read(data):
    good = bytearray(
        flexible_tensor.encode(np.arange(6, dtype=np.float32), sparse=data.draw(st.booleans()))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        values = flexible_tensor.decode(bytes(good))
    except ValueError:
        return
    assert values.nbytes <= tensor_caps.MAX_BYTES


@pytest.mark.parametrize("form", ["flexible", "sparse"])
def test_samples_of_several_shapes(tmp_path, form):
    samples = [
        (np.full((index + 1, 2), index, np.float32), np.array([index], np.int32))
        for index in range(6)
    ]
    write_repository(tmp_path / "f.json", samples, format_=form)
    found = open_repository(tmp_path / "f.json")
    for index, sample in enumerate(samples):
        for ours, wanted in zip(found.sample(index), sample, strict=True):
            assert (ours == wanted).all()
    said = json.loads((tmp_path / "f.json").read_text())
    assert said["tensor_count"] == [0, 2, 4, 6, 8, 10]
    assert said["sample_offset"][1] == sum(said["tensor_size"][:2])
    with pytest.raises(DataError, match="differ in tensor 0"):
        found.column(0)
    with pytest.raises(DataError, match="only flexible can hold them"):
        write_repository(tmp_path / "s.json", samples)


def test_class_names_come_along(tmp_path):
    samples = [(np.zeros(2, np.uint8) + i, np.array([i % 2], np.uint8)) for i in range(20)]
    write_repository(tmp_path / "d.json", samples, classes=("cat", "dog"))
    assert Dataset.open(tmp_path / "d.json").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"total_samples": 11}, "11 samples of 14 bytes do not make the 140 bytes"),
        ({"total_samples": 1 << 62}, "do not make the 140 bytes"),
        ({"total_samples": -1}, "do not make"),
        ({"total_samples": 0}, "do not make"),
        ({"sample_size": 15}, "sample_size is 15"),
        ({"total_samples": "10"}, "describes no data repository"),
        ({"gst_caps": "other/tensors, format=static"}, "describes no data repository"),
        ({"gst_caps": CAPS.replace("uint8", "uint9")}, "the type is 'uint9'"),
        ({"gst_caps": CAPS.replace("2:1:1:1", "2:0:1:1")}, "the dimensions are 2:0:1:1"),
        ({"gst_caps": CAPS.replace("2:1:1:1", "9999999999:9999999999")}, "at most"),
        ({"gst_caps": CAPS.replace("num_tensors=(int)2", "num_tensors=(int)3")}, "do not fit"),
        ({"gst_caps": "video/x-raw, format=RGB"}, "holds video/x-raw"),
        ({"gst_caps": CAPS.replace("static", "other")}, "the format is 'other'"),
    ],
)
def test_numbers_that_lie_are_refused(tmp_path, changes, said):
    with pytest.raises(DataError, match=said):
        open_repository(by_hand(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_offset": [0, 10_000]}, {"sample_offset": [0, -1]}, {"sample_offset": [8, 300]},
        {"tensor_size": [1 << 40, 132]}, {"tensor_size": [0, 132]}, {"tensor_count": [0, 9]},
        {"tensor_count": [1, 1]}, {"tensor_count": [0]}, {"total_samples": 3},
    ],
)  # fmt: skip
def test_places_that_lie_are_refused(tmp_path, changes):
    write_repository(tmp_path / "f.json", [[np.zeros(1, np.float32)]] * 2, format_="flexible")
    said = json.loads((tmp_path / "f.json").read_text()) | changes
    (tmp_path / "f.json").write_text(json.dumps(said))
    with pytest.raises(DataError):
        open_repository(tmp_path / "f.json")


def test_missing_and_damaged_files(tmp_path):
    path = by_hand(tmp_path)
    (tmp_path / "d.data").unlink()
    with pytest.raises(DataError, match=r"data file d\.data is missing"):
        open_repository(path)
    path.write_text("[" * 5000)
    with pytest.raises(DataError, match="describes no data repository"):
        open_repository(path)
    with pytest.raises(DataError, match="not a file"):
        open_repository(tmp_path / "none.json")


def test_tensors_are_chosen_by_number(tmp_path):
    with pytest.raises(DataError, match="there is no tensor 7"):
        Dataset.open(by_hand(tmp_path), target=["7"])
    with pytest.raises(UsageError, match="wanted the number of one tensor"):
        Dataset.open(by_hand(tmp_path), target=["label"])


@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_an_epoch_takes_each_sample_once_and_keeps_its_part(first, second, epochs, shuffle, seed):
    parts = [range(first), range(first, first + second)]
    taken = list(order(parts, epochs=epochs, shuffle=shuffle, seed=seed))
    assert len(taken) == epochs * (first + second)
    for start in range(0, len(taken), first + second):
        epoch = taken[start : start + first + second]
        assert sorted(epoch[:first]) == list(parts[0])
        assert sorted(epoch[first:]) == list(parts[1])
    assert taken == list(order(parts, epochs=epochs, shuffle=shuffle, seed=seed))


def test_every_order_is_as_likely_as_any_other():
    """Also in the first epoch. Each of 6 orders has 1/6; upstream's have 4/27 and 5/27."""
    found = Counter(tuple(order([range(3)], shuffle=True, seed=seed)) for seed in range(6000))
    assert len(found) == 6
    assert all(abs(times - 1000) < 130 for times in found.values())  # 4.5 standard deviations


def test_a_stream_without_end():
    assert list(islice(order([range(2)], epochs=-1), 7)) == [0, 1, 0, 1, 0, 1, 0]


def test_files_of_a_pattern(tmp_path):
    for index in range(4):
        (tmp_path / f"img_{index:04d}.png").touch()
    pattern = str(tmp_path / "img_%04d.png")
    assert len(list(pattern_files(pattern))) == 4
    assert [p.name for p in pattern_files(pattern, start=1, stop=2)] == [
        "img_0001.png",
        "img_0002.png",
    ]


@given(st.text(max_size=60))
def test_no_description_crashes_the_reader(text):
    try:
        found = tensor_caps.parse(text)
    except ValueError:
        return
    assert found.format in ("static", "flexible", "sparse")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(tensor_caps.TYPES), st.lists(st.integers(1, 9), min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_descriptions_round_trip(kinds):
    tensors = [tensor_caps.info(dtype, axes) for dtype, axes in kinds]
    assert tensor_caps.parse(tensor_caps.text("static", tensors)).tensors == tuple(tensors)


def test_descriptions_of_other_versions():
    """Commas between tensors, quotes, no types of the fields."""
    for text in (
        'other/tensors,format=static,num_tensors=2,dimensions="28:28:1:1,10:1:1:1",types="float32,float32"',
        "other/tensors,num_tensors=2,framerate=0/1,dimensions=28:28:1.10:1:1:1,types=float32.float32",
    ):
        found = tensor_caps.parse(text).tensors
        assert [one.shape for one in found] == [(28, 28), (10,)]

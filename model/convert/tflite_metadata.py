"""What a TFLite file says about itself: labels, the kind of picture it takes, its classes.

The tables are those of
https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
(identifier M001), which Android's and MediaPipe's image classifiers read. No small package writes
them, so the numbers of the fields stand here. Labels lie in a zip archive behind the model.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers

from model.convert import tflite_file
from tod.format.inference_texts import TEXTS, inference_texts
from tod.format.manifest import InputSpec, SampleSpec, Task

_IDENTIFIER = b"M001"
_NAME = "TFLITE_METADATA"
LABELS = "labels.txt"
_PARSER = "1.0.0"
_TENSOR_AXIS_LABELS, _RGB = 2, 1
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES, _NORMALIZATION = 2, 1, 1  # members of unions
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal models give equal bytes
Field = Callable[[Any], None]


@dataclass(frozen=True)
class Described:
    """What is written: the model's name, its classes, its input and what its answers are."""

    name: str
    classes: tuple[str, ...]
    input: SampleSpec
    task: Task


def described(data: bytes, what: Described) -> bytes:
    """A TFLite file with its metadata.

    Args:
        data: a file without.
        what: to say.
    """
    model = tflite_file.unpack(data)
    model.buffers.append(tflite_file.buffer(_metadata(what)))
    entry = tflite_file.schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return tflite_file.pack(model) + _archive(what)


def _archive(what: Described) -> bytes:
    """The labels, a line each; and what `tod.runtime.read_model` wants of the file."""
    lines = "".join(f"{' '.join(name.splitlines())}\n" for name in what.classes)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EPOCH), lines.encode())
        texts = inference_texts(what.classes, what.input, what.task)
        archive.writestr(zipfile.ZipInfo(TEXTS, _EPOCH), json.dumps(texts, ensure_ascii=False))
    return made.getvalue()


def _metadata(what: Described) -> bytes:
    builder = flatbuffers.Builder(1024)
    graph = _table(
        builder,
        10,
        (2, _vector(builder, [_input(builder, what)])),
        (3, _vector(builder, [_output(builder, what)])),
    )
    text = (
        f"{what.name}, made by TOD. Takes {_taken(what.input)}; the normalisation is part of the "
        "graph."
    )
    root = _table(
        builder,
        8,
        (0, builder.CreateString(what.name)),
        (1, builder.CreateString(text)),
        (3, _vector(builder, [graph])),
        (7, builder.CreateString(_PARSER)),
    )
    builder.Finish(root, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _taken(spec: SampleSpec) -> str:
    if not isinstance(spec, InputSpec):
        return f"{spec.dtype} {list(spec.shape)}"
    crop = "the centre" if spec.crop == "center" else "the whole picture"
    return f"{crop} of a picture at {spec.size_px} x {spec.size_px}"


def _input(builder: Any, what: Described) -> int:
    spec = what.input
    if isinstance(spec, InputSpec):
        return _picture(builder, spec)
    fields = [(0, builder.CreateString(spec.name))]
    if spec.inputs:
        fields.append((1, builder.CreateString(f"The numbers of {', '.join(spec.inputs)}.")))
    fields.append((3, _union(builder, 2, _FEATURE_PROPERTIES, _table(builder, 0))))
    return _table(builder, 8, *fields)


def _picture(builder: Any, spec: InputSpec) -> int:
    side = spec.size_px
    builder.StartObject(2)
    builder.PrependUint32Slot(0, side, 0)
    builder.PrependUint32Slot(1, side, 0)
    size = builder.EndObject()
    builder.StartObject(2)
    builder.PrependInt8Slot(0, _RGB, 0)
    builder.PrependUOffsetTRelativeSlot(1, size, 0)
    image = builder.EndObject()
    content = _union(builder, 2, _IMAGE_PROPERTIES, image)
    # Nothing is to be done to the pixels: (x - 0) / 1.
    means, stds = (_floats(builder, [number]) for number in (0.0, 1.0))
    unit = _union(builder, 2, _NORMALIZATION, _table(builder, 2, (0, means), (1, stds)))
    text = (
        f"Pixels 0 to 255, RGB, resized ({spec.interpolation}) to {side} x {side}. Inside, they "
        f"are brought to mean {_numbers(spec.mean)} and spread {_numbers(spec.std)} of 0..1, "
        f"{spec.colour}."
    )
    highest, lowest = (_floats(builder, [number]) for number in (255.0, 0.0))
    return _table(
        builder,
        8,
        (0, builder.CreateString("image")),
        (1, builder.CreateString(text)),
        (3, content),
        (4, _vector(builder, [unit])),
        (5, _table(builder, 2, (0, highest), (1, lowest))),
    )


def _output(builder: Any, what: Described) -> int:
    regression = what.task == "regression"
    content = _union(builder, 2, _FEATURE_PROPERTIES, _table(builder, 0))
    fields = [
        (0, builder.CreateString("value" if regression else "probability")),
        (1, builder.CreateString(
            "The quantities that are measured." if regression
            else "The probability of each class, in the order of the labels."
        )),
        (3, content),
    ]  # fmt: skip
    if not regression:
        ends = [_floats(builder, [number]) for number in (1.0, 0.0)]
        fields.append((5, _table(builder, 2, (0, ends[0]), (1, ends[1]))))
    file = builder.CreateString(LABELS)
    about = builder.CreateString("The names of the answers, a line each.")
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, file, 0)
    builder.PrependUOffsetTRelativeSlot(1, about, 0)
    builder.PrependInt8Slot(2, _TENSOR_AXIS_LABELS, 0)
    fields.append((6, _vector(builder, [builder.EndObject()])))
    return _table(builder, 8, *fields)


def _table(builder: Any, count: int, *fields: tuple[int, int]) -> int:
    """A table whose fields are all made before: (number, place)."""
    builder.StartObject(count)
    for number, place in fields:
        builder.PrependUOffsetTRelativeSlot(number, place, 0)
    return int(builder.EndObject())


def _union(builder: Any, count: int, member: int, place: int) -> int:
    """A table that begins with a union: which member, and the member."""
    builder.StartObject(count + 1)
    builder.PrependUint8Slot(0, member, 0)
    builder.PrependUOffsetTRelativeSlot(1, place, 0)
    return int(builder.EndObject())


def _vector(builder: Any, places: Sequence[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def _floats(builder: Any, numbers: Sequence[float]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependFloat32(number)
    return int(builder.EndVector())


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)

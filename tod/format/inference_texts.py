"""What a model file of another runtime says of its pictures and answers, as texts by name.

An ONNX file holds them in `metadata_props`; a TFLite file in `tod.json`, in the zip archive behind
the model, where TFLite's own labels lie too.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import msgspec

from tod.format.manifest import InputSpec, SampleSpec, Task, TensorSpec

TEXTS = "tod.json"
_MAX_BYTES = 1 << 20


def inference_texts(classes: Sequence[str], spec: SampleSpec, task: Task) -> dict[str, str]:
    """Give the texts of a model.

    Args:
        classes: the class names, or the names of the quantities.
        spec: what a sample is.
        task: what the answers are.
    """
    return {
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "tensor" if isinstance(spec, TensorSpec) else "input": json.dumps(asdict(spec)),
        "task": task,
    }


def sample_of_texts(texts: Mapping[str, str]) -> SampleSpec:
    """What a sample is, from a model's texts.

    Raises:
        KeyError: they do not say it.
        ValueError: it cannot be read.
    """
    if "tensor" in texts:
        return msgspec.json.decode(texts["tensor"], type=TensorSpec)
    return msgspec.json.decode(texts["input"], type=InputSpec)


def texts_of_tflite(data: bytes) -> dict[str, str]:
    """Read the texts of a TFLite file; none if it has none, or damaged ones."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.getinfo(TEXTS).file_size > _MAX_BYTES:
                return {}
            return msgspec.json.decode(archive.read(TEXTS), type=dict[str, str])
    # zipfile has an error of another type for each way in which an archive can be damaged.
    except (zipfile.BadZipFile, KeyError, RuntimeError, ValueError, EOFError, OSError):
        return {}

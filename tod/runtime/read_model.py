"""A model file of any kind -> the graph that answers: .tod, .onnx, .ort, .tflite, by content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tod.errors import ArtifactError, UsageError
from tod.format.container import MAX_FILE_BYTES
from tod.format.graph import metadata
from tod.format.inference_texts import texts_of_tflite
from tod.runtime.delegates.runner import Graph
from tod.runtime.engine import texts_of
from tod.runtime.model import Model
from tod.system import file_kind
from tod.system.files import read_regular

# Words of the kinds of files -> what reads the texts that such a file carries.
_TEXTS: dict[str, Callable[[bytes, str], dict[str, str]]] = {
    "ONNX": lambda data, _: metadata(data),
    "ORT": texts_of,
    "TFLite": lambda data, _: texts_of_tflite(data),
}
_SUFFIXES = (".onnx", ".ort", ".tflite")


def read_model(
    path: str | os.PathLike[str] | None,
    content: bytes | None = None,
    *,
    require_signature: str | Path | None = None,
) -> Graph:
    """The graph from inputs to answers.

    Args:
        path: a .tod file, whose graphs and parameters become one graph; .onnx, .ort or .tflite.
        content: the bytes of .onnx, .ort or .tflite instead.
        require_signature: see `Model.load`; only a .tod file can be signed.

    Raises:
        ArtifactError: it cannot be read, or is no model.
        UsageError: a .tod file whose classes are still open; or a signature is wanted of another.
    """
    if path is None:
        return _foreign(content or b"", "the model", require_signature)
    file = Path(path)
    if is_tod(file):
        model = Model.load(file, threads=1, cache=False, require_signature=require_signature)
        data = model.inference_graph()
        return Graph(data, str(file), metadata(data))
    try:
        data, _ = read_regular(file, limit_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror}") from error
    return _foreign(data, str(file), require_signature)


def is_tod(file: Path) -> bool:
    """Whether it is to be read as a .tod file, however damaged; a folder is, because the reader of
    those says which models are in it."""
    if not file.is_file():
        return file.suffix == ".tod" or file.is_dir()
    kind = file_kind.look(file)
    return kind is file_kind.TOD or (kind is None and file.suffix not in _SUFFIXES)


def _foreign(data: bytes, name: str, require_signature: str | Path | None) -> Graph:
    kind = file_kind.of_bytes(data[: file_kind.START_BYTES])
    words = "" if kind is None else kind.name
    read_texts = next((read for word, read in _TEXTS.items() if f" {word} " in words), None)
    if read_texts is None:
        raise ArtifactError(
            f"{name}: it is {words or 'nothing known'}, wanted a .tod, .onnx, .ort or .tflite file",
            hint="" if kind is None else kind.as_model,
        )
    if require_signature is not None:
        raise UsageError(
            f"{name}: only a .tod file can be signed", hint="give one, or ask for no signature"
        )
    return Graph(data, name, read_texts(data, name))

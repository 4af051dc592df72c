"""Tell the kind of a file by its first bytes, for messages about a wrong file.

Decides nothing: readers try a file first, and ask here only after they failed.
"""

from __future__ import annotations

import contextlib
import os
import re
from codecs import getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path

from tod.system.files import read_start

START_BYTES = 1024
_EXPORT = "TOD trains what 'tod export' makes: give it the network itself, see tod export --help"
_ANSWERS = f"tod predict and tod compare take it as it is. {_EXPORT}"
_WEIGHTS = (
    "these are weights, not a model that trains: tod export --weights FILE makes one, "
    "or tod export my_net.py of a network of your own"
)
_UNPACK = "unpack it, and give what was in it"
CLASSES = "give the folder that holds one folder per class"
_PREDICT = "one picture is answered by: tod predict -f MODEL.tod PICTURE"


@dataclass(frozen=True)
class Kind:
    """The kind of a file.

    Attributes:
        name: with its article: "a JPEG picture".
        as_model: hint for a user who gave it as a model.
        as_data: hint for a user who gave it as a folder of pictures.
    """

    name: str
    as_model: str = "give a .tod file; 'tod export' makes one"
    as_data: str = CLASSES


def _model(name: str, hint: str = _EXPORT) -> Kind:
    return Kind(name, hint, f"a model is given with -f; for the data, {CLASSES}")


def _picture(name: str) -> Kind:
    return Kind(f"a {name} picture", _PREDICT, f"{CLASSES}; {_PREDICT}")


def _archive(name: str) -> Kind:
    return Kind(f"a {name} archive", _UNPACK, f"unpack it, then {CLASSES}")


FOLDER = Kind("a folder", "give the .tod file in it")
TOD = Kind("a .tod file", "", f"a model is given with -f; for the data, {CLASSES}")
EMPTY = Kind("an empty file", "copy or download it again")
TEXT = Kind("a text file")
_TOD_BEGINS = rb"PK\x03\x04.{26}manifest\.json"
# Patterns of a file's beginning; the first match decides.
_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (rb"version https://(git-lfs|hawser)", Kind(
        "a pointer of git-lfs, not the file itself", "git lfs pull fetches the file",
        f"git lfs pull fetches the files; {CLASSES}",
    )),
    (rb"(\xef\xbb\xbf)?\s*(?i:<!doctype html|<html|<head)", Kind(
        "a web page: the download failed", "download it again"
    )),
    # torch pads the headers of its members with Z.
    (rb"PK\x03\x04.{26}[^/]{1,200}/.{1,80}FB..Z",
     _model("a file of torch", _WEIGHTS)),
    (rb"(?!%s)PK\x03\x04" % _TOD_BEGINS, _archive("ZIP")),
    (rb"\x1f\x8b\x08", _archive("gzip")),
    (rb"BZh[1-9]", _archive("bzip2")),
    (rb"\xfd7zXZ\x00", _archive("xz")),
    (rb"\x28\xb5\x2f\xfd", _archive("zstd")),
    (rb"7z\xbc\xaf\x27\x1c", _archive("7z")),
    (rb"Rar!", _archive("RAR")),
    (rb".{257}ustar", _archive("tar")),
    (rb"\xff\xd8\xff", _picture("JPEG")),
    (rb"\x89PNG\r\n\x1a\n", _picture("PNG")),
    (rb"GIF8", _picture("GIF")),
    (rb"BM.{4}\0{4}", _picture("BMP")),
    (rb"II\*\0|MM\0\*", _picture("TIFF")),
    (rb"RIFF.{4}WEBP", _picture("WebP")),
    (rb".{4}ftypavif", _picture("AVIF")),
    (rb".{4}ftyp(hei|hev|mif|msf)", _picture("HEIC")),
    (rb"%PDF", Kind("a PDF document")),
    (rb"\xd0\xcf\x11\xe0", Kind("an Office document")),
    (rb"(\xef\xbb\xbf)?\s*(<svg|<\?xml.*<svg)", Kind("SVG, a drawing")),
    (rb"8BPS", Kind("a Photoshop file")),
    (rb"\0\0\x01\0", Kind("an icon")),
    (rb"\0{3}\x0cJXL |\xff\x0a", Kind("JPEG XL")),
    (rb"\0{3}\x0cjP  ", Kind("JPEG 2000")),
    (rb".{4}ftypcrx ", Kind("a camera's raw picture")),
    (rb"\x1aE\xdf\xa3|\0\0\x01[\xba\xb3]|FLV\x01|0&\xb2u\x8ef\xcf\x11|RIFF.{4}AVI |.{4}ftyp",
     Kind("a video")),
    (rb"ID3|OggS|fLaC|RIFF.{4}WAVE", Kind("a sound")),
    (rb"SQLite format 3", Kind("a database")),
    (rb"\x7fELF", Kind("a program")),
    (rb"\x93NUMPY", Kind("a NumPy array")),
    (rb"\x89HDF\r\n\x1a\n", _model("an HDF5 file, as Keras writes")),
    (rb".{4}TFL3", _model("a TFLite model", _ANSWERS)),
    (rb".{4}ORTM", _model("an ORT model, onnxruntime's own format", _ANSWERS)),
    (rb".{4}MSL[0-9]", _model("a MindSpore Lite model")),
    (rb'.{5}\0{3}\{"', _model("a safetensors file", _WEIGHTS)),
    (rb"\x80[\x02-\x05][\x8a\x95]", _model("a pickle, as torch.save formerly wrote", _WEIGHTS)),
    # ir_version, then a producer's name or version, a domain, a model's version or a graph.
    (rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]",
     _model("an ONNX model, which holds no training step", _ANSWERS)),
)  # fmt: skip


def look(path: str | Path) -> Kind | None:
    """Return the kind of a file; None if it is unknown or the file cannot be read."""
    try:
        if os.path.isdir(path):
            return FOLDER
        start = read_start(path, START_BYTES)
        return TOD if re.match(_TOD_BEGINS, start, re.DOTALL) else of_bytes(start)
    except OSError:
        return None


def of_bytes(start: bytes) -> Kind | None:
    """Return the kind of a file with these first 1024 bytes (or all, if it is shorter); None if
    unknown, and for a .tod file, even if it is damaged."""
    if not start:
        return EMPTY
    for pattern, kind in _STARTS:
        if re.match(pattern, start, re.DOTALL):
            return kind
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return TEXT  # UTF-16
    with contextlib.suppress(UnicodeDecodeError):
        text = getincrementaldecoder("utf-8")().decode(start)
        if all(character.isprintable() or character in "\t\n\r\f" for character in text):
            return TEXT
    return None

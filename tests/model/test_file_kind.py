"""A file that is none of TOD's is named by what it is."""

import bz2
import gzip
import io
import lzma
import shutil
import sqlite3
import tarfile
import warnings
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file

from tests.conftest import ROOT
from tod.data.dataset import Dataset
from tod.errors import ArtifactError, DataError
from tod.format import artifact
from tod.format.manifest import GRAPHS
from tod.system import file_kind


def torch_file(path, **how):
    torch.save({"weight": torch.zeros(3, 3)}, path, **how)


def script(path):
    with warnings.catch_warnings():  # torch would have it replaced by torch.export
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def onnx_file(path):
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), path, format="protobuf")


def exported(path):
    path.write_bytes(artifact.read(Path(__file__).parents[1] / "files/tiny.tod").graphs[GRAPHS[0]])


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("pictures/cat/1.png", b"x" * 40)


def tar(path):
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("pictures/1.png"), io.BytesIO())


def picture(kind):
    return lambda path: Image.new("RGB", (9, 9)).save(path, kind)


def database(path):
    with sqlite3.connect(path) as file:
        file.execute("create table t (x)")


FILES = {
    "torch": (torch_file, "a file of torch"),
    "formerly": (lambda p: torch_file(p, _use_new_zipfile_serialization=False), "a pickle"),
    "script": (script, "a file of torch"),
    "safetensors": (lambda p: save_file({"a": torch.zeros(2)}, p), "a safetensors file"),
    "onnx": (onnx_file, "an ONNX model"),
    "exported": (exported, "an ONNX model"),
    "tflite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(40)), "a TFLite model"),
    "ms": (lambda p: p.write_bytes(b"\x1c\0\0\0MSL2" + bytes(40)), "a MindSpore Lite model"),
    "keras": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40)), "an HDF5 file"),
    "zip": (archive, "a ZIP archive"),
    "tar": (tar, "a tar archive"),
    "gz": (lambda p: p.write_bytes(gzip.compress(b"x")), "a gzip archive"),
    "bz2": (lambda p: p.write_bytes(bz2.compress(b"x")), "a bzip2 archive"),
    "xz": (lambda p: p.write_bytes(lzma.compress(b"x")), "a xz archive"),
    **{kind: (picture(kind), f"a {kind} picture") for kind in ("JPEG", "PNG", "GIF", "BMP")},
    "TIFF": (picture("TIFF"), "a TIFF picture"),
    "webp": (picture("WEBP"), "a WebP picture"),
    "avif": (picture("AVIF"), "a AVIF picture"),
    "lfs": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3"),
        "a pointer of git-lfs",
    ),
    "page": (lambda p: p.write_text("\n<!DOCTYPE HTML><html>404</html>"), "a web page"),
    "text": (lambda p: p.write_text("file,größe\n" * 500), "a text file"),
    "empty": (lambda p: p.write_bytes(b""), "an empty file"),
}  # fmt: skip


@pytest.mark.parametrize("which", FILES)
def test_a_foreign_file_is_named(tmp_path, which):
    make, name = FILES[which]
    path = tmp_path / "file.tod"
    make(path)
    kind = file_kind.look(path)
    assert kind is not None
    assert kind.name.startswith(name)
    with pytest.raises(ArtifactError) as refused:
        artifact.read(path)
    assert refused.value.problem == f"{path}: not a readable .tod file: it is {kind.name}"
    assert refused.value.hint == kind.as_model != ""
    with pytest.raises(DataError) as refused:
        Dataset.open(path)
    assert refused.value.problem == f"{path}: it is {kind.name}, no folder"
    assert refused.value.hint == kind.as_data
    assert "folder per class" in kind.as_data


def test_a_folder_a_model_and_nothing(tiny, tmp_path):
    shutil.copy(tiny, tiny.with_name("b.tod"))
    with pytest.raises(ArtifactError, match=r"it is a folder\nhint: it holds b\.tod, tiny\.tod"):
        artifact.read(tiny.parent)
    with pytest.raises(ArtifactError, match=r"it is a folder\nhint: give a \.tod file"):
        artifact.read(tmp_path)
    with pytest.raises(DataError, match=r"it is a \.tod file, no folder\nhint: a model is given w"):
        Dataset.open(tiny)
    with pytest.raises(DataError, match="no such folder"):
        Dataset.open(tmp_path / "none")
    with pytest.raises(DataError, match=r"/dev/null: it is no folder"):
        Dataset.open("/dev/null")


@given(st.binary(max_size=40), st.sampled_from([b"", b"PK\x03\x04", b"\x08\x07", b"\x80"]))
def test_any_beginning_is_looked_at(rest, start):
    kind = file_kind.of_bytes(start + rest)
    assert kind is None or kind.name


def test_commands_say_it(call, tiny, pictures, tmp_path):
    weights, zipped = tmp_path / "w.pt", tmp_path / "x.zip"
    torch_file(weights)
    archive(zipped)
    tflite = ROOT / "tests" / "files" / "bound.tflite"
    for command, code, text in [
        (("net_runner", "-f", weights, "-d", pictures), 4, "tod export --weights FILE"),
        (("net_runner", "-f", tiny, "-d", zipped), 3, "unpack it, then give the folder"),
        (("tod", "eval", "-f", tflite, "-d", pictures), 4, "tod compare take it as it is"),
        (("tod", "report", tflite, "-d", pictures), 4, "tod compare take it as it is"),
        (("tod", "check", zipped), 3, "unpack it, then give the folder"),
        (("tod", "prepare-dataset", zipped, tmp_path / "out"), 3, "unpack it, then give"),
        (("tod", "export", weights), 2, f"--weights {weights} for a backbone by name"),
        (("tod", "export", tiny), 2, "a Python file (.py) that defines build(), this is a .tod"),
    ]:
        done = call(*command, cwd=tmp_path)
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr
        assert "internal" not in done.stderr

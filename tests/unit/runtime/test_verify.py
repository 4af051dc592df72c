"""tod verify: what is proved is proved whole, and what cannot be compared is said."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import run
from tod.cli.verify import verify_artifact
from tod.errors import ArtifactError, DeviceError
from tod.format import artifact as artifacts
from tod.format.arrays import arrays_from_bytes, arrays_to_bytes
from tod.format.artifact import read
from tod.format.signature import Signature
from tod.runtime.verify import run_vectors


def with_vectors(path, change):
    """The same file with other test vectors, whole and with right hashes."""
    artifact = read(path)
    vectors = arrays_from_bytes(artifact.vectors, where="test")
    change(vectors)
    artifacts.write(replace(artifact, vectors=arrays_to_bytes(vectors)))
    return read(path)


def test_every_output_of_every_graph_is_compared(tiny):
    names = set(arrays_from_bytes(read(tiny).vectors, where="test"))
    outputs = sorted(name for name in names if "/out." in name)
    assert len(outputs) >= 5
    for name in outputs:
        fresh = with_vectors(
            tiny, lambda vectors, name=name: vectors.update({name: one_more(vectors[name])})
        )
        graph = name.split("/")[0]
        wrong = [v.graph for v in run_vectors(fresh) if not v.difference <= v.allowed]
        assert wrong == [graph], name
        with_vectors(
            tiny, lambda vectors, name=name: vectors.update({name: one_less(vectors[name])})
        )
    verify_artifact(read(tiny), as_json=True)


def one_more(array):
    return array + np.ones((), array.dtype)


def one_less(array):
    return array - np.ones((), array.dtype)


def test_the_machine_says_by_how_much_it_differs(tiny, capsys):
    artifact = with_vectors(
        tiny,
        lambda v: v.update({"features.onnx/out.features": v["features.onnx/out.features"] * 1.25}),
    )
    with pytest.raises(DeviceError, match=r"features\.onnx by 0\.2 \(at most 0\.001 is right\)"):
        verify_artifact(artifact, as_json=False)
    assert "2.0e-01" in capsys.readouterr().out


@pytest.mark.parametrize("checked", [False, True])
def test_json_says_whose_signature_it_is(tiny, capsys, checked):
    for signed in (None, Signature("ed25519", "SHA256:abc", "A" * 88)):
        artifact = replace(read(tiny), signature=signed)
        verify_artifact(artifact, as_json=True, signature_checked=checked and signed is not None)
        found = json.loads(capsys.readouterr().out)
        wanted = ("SHA256:abc", checked) if signed else (None, False)
        assert {(v["signed_by"], v["signature_checked"]) for v in found} == {wanted}
        assert [v["graph"] for v in found] == ["features.onnx", "train.onnx", "predict.onnx"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_equals_what_is_not_finite(tiny, value):
    """Not even itself: a file whose expected outputs are NaN proves nothing."""
    key = "predict.onnx/out.logits"
    artifact = with_vectors(tiny, lambda v: v.update({key: np.full_like(v[key], value)}))
    with pytest.raises(DeviceError, match=r"predict\.onnx by nan"):
        verify_artifact(artifact, as_json=False)


def test_a_nan_that_this_machine_computes_is_wrong(tiny):
    key = "predict.onnx/in.features"
    artifact = with_vectors(tiny, lambda v: v.update({key: np.full_like(v[key], np.nan)}))
    with pytest.raises(DeviceError, match=r"predict\.onnx by nan"):
        verify_artifact(artifact, as_json=False)


@pytest.mark.parametrize(
    "key",
    [
        "features.onnx/in.pixels",
        "features.onnx/out.features",
        "train.onnx/in.lr",
        "train.onnx/out.next.head.weight",
        "predict.onnx/out.logits",
    ],
)
def test_missing_vectors(tiny, key):
    artifact = with_vectors(tiny, lambda vectors: vectors.pop(key))
    with pytest.raises(ArtifactError, match=f"test vectors are missing: {key}"):
        verify_artifact(artifact, as_json=False)


def test_no_vectors_at_all_is_one_sentence(tiny):
    with_vectors(tiny, lambda vectors: vectors.clear())
    done = run("tod", "verify", tiny)
    assert done.returncode == 4
    assert done.stderr.startswith(
        f"error: {tiny}: test vectors are missing: features.onnx/in.pixels"
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("features.onnx/out.features", lambda a: a[:, :1]),  # would be spread over the row
        ("train.onnx/out.next.head.weight", lambda a: a[:, :1]),
        ("train.onnx/out.loss", lambda a: np.full((5,), a)),
        ("predict.onnx/out.logits", lambda a: a.ravel()),
    ],
)
def test_vectors_of_another_shape(tiny, key, change):
    def reshape(vectors):
        vectors[key] = change(vectors[key])

    with pytest.raises(ArtifactError, match=r"its test vector is|not of the shape"):
        verify_artifact(with_vectors(tiny, reshape), as_json=False)

"""A .tod file is read back as written, and nothing but a good one is read at all."""

import contextlib
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.conftest import FILES
from tod.errors import ArtifactError
from tod.format import artifact, container, manifest, manifest_checks
from tod.format.arrays import arrays_from_bytes, arrays_to_bytes
from tod.training.session import TrainSession

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.int64]),
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=4),
)


def equal(left, right) -> bool:
    same_names = sorted(left) == sorted(right)
    return same_names and all(
        left[n].dtype == right[n].dtype and left[n].tobytes() == right[n].tobytes() for n in left
    )


@given(st.dictionaries(NAMES.filter(lambda n: n != "__metadata__"), ARRAYS, max_size=4))
def test_arrays_round_trip(tensors):
    data = arrays_to_bytes(tensors)
    assert data == arrays_to_bytes(dict(reversed(tensors.items())))
    back = arrays_from_bytes(data, where="x")
    assert equal(back, tensors)
    assert all(back[name].shape == tensors[name].shape for name in tensors)


def test_read_write_round_trip(tiny):
    first = artifact.read(tiny)
    artifact.write(replace(first, path=tiny.with_name("copy.tod")))
    assert tiny.with_name("copy.tod").read_bytes() == tiny.read_bytes()
    assert zipfile.ZipFile(tiny).testzip() is None


def test_manifest_round_trip(tiny):
    found = artifact.read(tiny).manifest
    assert manifest_checks.decode(manifest.encode(found), where="x") == found


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_noticed(tiny_file, tmp_path_factory, data):
    """Anywhere in the file: in a member, its header or the directory."""
    original = tiny_file.read_bytes()
    position = data.draw(st.integers(0, len(original) * 8 - 1))
    changed = bytearray(original)
    changed[position // 8] ^= 1 << position % 8
    path = tmp_path_factory.mktemp("flip") / "x.tod"
    path.write_bytes(changed)
    with pytest.raises(ArtifactError) as caught:
        artifact.read(path)
    assert str(path) in caught.value.problem


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_noticed(tiny, share):
    data = tiny.read_bytes()
    tiny.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match="not a readable"):
        artifact.read(tiny)


def rewrite(path, change):
    """The file again with its members changed; its ZIP is as TOD writes it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    path.write_bytes(container.pack(list(members.items())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("train.onnx"), "members are missing"),
        (lambda m: m.update(extra=b""), "it holds"),
        (lambda m: m.update({"train.onnx": m["predict.onnx"]}), "train.onnx is not what"),
        (lambda m: m.update({"manifest.json": b"{}"}), "does not declare the format"),
        (lambda m: m.update({"manifest.json": b"["}), "manifest is not valid"),
        (lambda m: m.update({"manifest.json": b"[" * 100000}), "manifest is not valid"),
        (
            lambda m: m.update(
                {"manifest.json": m["manifest.json"].replace(b'"schema": 1', b'"schema": 3')}
            ),
            "schema 3, this program reads 1 to 2",
        ),
        (
            lambda m: m.update(
                {"manifest.json": m["manifest.json"].replace(b'"size_px": 16', b'"size_px": 0')}
            ),
            "manifest is not valid: .*size_px",
        ),
    ],
)
def test_other_content_is_refused(tiny, change, message):
    rewrite(tiny, change)
    with pytest.raises(ArtifactError, match=message):
        artifact.read(tiny)


def test_state_that_does_not_fit_is_refused(tiny):
    first = artifact.read(tiny)
    wrong = {"head.weight": np.zeros((3, 9), np.float32)}
    bound = replace(first.manifest, class_names=("a", "b", "c"), class_count=3)
    artifact.write(replace(first, manifest=bound, state=wrong))
    with pytest.raises(ArtifactError) as caught:
        artifact.read(tiny)
    assert "head.bias is missing, wanted ((3,), 'float32')" in caught.value.problem
    assert "head.weight is ((3, 9), 'float32'), wanted ((3, 8), 'float32')" in caught.value.problem


@pytest.mark.parametrize("name", ["no.tod", "text.tod", "folder.tod"])
def test_what_is_no_artifact(tmp_path, name):
    (tmp_path / "text.tod").write_text("hello")
    (tmp_path / "folder.tod").mkdir()
    with pytest.raises(ArtifactError):
        artifact.read(tmp_path / name)


@pytest.fixture
def checkpoint(tiny):
    """A slim checkpoint beside its base."""
    session = TrainSession.load(tiny)
    session.bind(["a", "b"])
    session.state = replace(session.state, run=RUN)
    path = tiny.with_name("tiny_trained_1.tod")
    session.save_checkpoint(path)
    return path


RUN = manifest.Run(
    cycles=2, batch_size=1, lr=0.1, eval_every=0, target_accuracy=1, patience=0, save_every=1,
    seed=0, split_seed=0, pictures={}, data_sha256="", cycle=1,
)  # fmt: skip


def test_a_checkpoint_is_slim_and_finds_its_base(checkpoint, tiny):
    assert zipfile.ZipFile(checkpoint).namelist() == ["manifest.json", "state.safetensors"]
    assert checkpoint.stat().st_size < 12_000
    found = artifact.read(checkpoint)
    assert found.graphs == artifact.read(tiny).graphs
    assert found.manifest.base == "tiny.tod"


def test_the_base_may_have_another_name(checkpoint, tiny):
    tiny.rename(tiny.with_name("renamed.tod"))
    assert artifact.read(checkpoint).source == tiny.with_name("renamed.tod")


def test_the_base_need_not_end_in_tod(tiny, tmp_path):
    tiny.rename(tiny.with_name("tiny.model"))
    session = TrainSession.load(tiny.with_name("tiny.model"))
    session.bind(["a", "b"])
    session.state = replace(session.state, run=RUN)
    session.save_checkpoint(tiny.with_name("c.tod"))
    assert artifact.read(tiny.with_name("c.tod")).source == tiny.with_name("tiny.model")


def test_without_its_base(checkpoint, tiny):
    tiny.unlink()
    with pytest.raises(ArtifactError, match=r"its base tiny.tod is not in .*"):
        artifact.read(checkpoint)


def test_another_models_base_is_not_taken(checkpoint, tiny, tiny_file, monkeypatch):
    """Also where it takes the place of the right one while that is read."""
    opened = container.opened

    @contextlib.contextmanager
    def replaced_when_read(path):
        with opened(path) as file:
            yield file
        if path == tiny:
            shutil.copy(FILES / "numbers.tod", tiny)

    monkeypatch.setattr(container, "opened", replaced_when_read)
    graphs = artifact.read(tiny).graphs
    shutil.copy(tiny_file, tiny)
    assert artifact.read(checkpoint).graphs == graphs
    with pytest.raises(ArtifactError, match=r"its base tiny.tod cannot be used: .*another model"):
        artifact.read(checkpoint)


def test_a_damaged_base_is_said_to_be_damaged(checkpoint, tiny):
    data = bytearray(tiny.read_bytes())
    data[-9000] ^= 1
    tiny.write_bytes(data)
    with pytest.raises(ArtifactError) as base:
        artifact.read(tiny)
    with pytest.raises(ArtifactError) as caught:
        artifact.read(checkpoint)
    wanted = f"{checkpoint}: its base tiny.tod cannot be used: {base.value.problem}"
    assert caught.value.problem == wanted


def test_a_base_without_its_graphs_is_none(checkpoint, tiny):
    artifact.write(artifact.read(tiny), slim=True)
    with pytest.raises(ArtifactError, match=r"its base tiny.tod cannot be used: .* are missing"):
        artifact.read(checkpoint)


def test_elsewhere_a_checkpoint_is_whole(tiny, tmp_path):
    session = TrainSession.load(tiny)
    session.bind(["a", "b"])
    session.state = replace(session.state, run=RUN)
    path = tmp_path / "elsewhere.tod"
    session.save_checkpoint(path)
    shutil.rmtree(tiny.parent)
    assert artifact.read(path).manifest.base == "tiny.tod"


def test_a_file_that_cannot_be_written(tiny):
    session = TrainSession.load(tiny)
    session.bind(["a", "b"])
    with pytest.raises(ArtifactError, match="cannot be written: No such file or directory"):
        session.save(tiny.parent / "no" / "folder.tod")

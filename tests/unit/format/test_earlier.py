"""A model that is written where another one lies: the earlier one stays as a generation."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import FILES
from tod.errors import ArtifactError
from tod.format import artifact, earlier
from tod.format.generations import folder_of, look
from tod.format.manifest import HistoryEntry

TINY = FILES / "bound.tod"


def model(score: float | None, seed: int = 0) -> bytes:
    """A trained model with a score on validation pictures."""
    entry = HistoryEntry(
        cycles=1, kept_cycle=1, batch_size=1, lr=0.1, seed=seed, split_seed=0, stopped="cycles",
        pictures={}, data_sha256="0" * 64, test_accuracy=None, validation_accuracy=score,
        runtime="",
    )  # fmt: skip
    read = artifact.read(TINY)
    return artifact.packed(replace(read, manifest=replace(read.manifest, history=(entry,))))[1]


def write(path, data, **options):
    return earlier.write(path, data, what="trained", source=TINY, **options)


def kept(path):
    """What every generation holds, by number."""
    return {number: file.read_bytes() for number, file in look(path).kept.items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.tod"


def test_the_earlier_one_stays_to_the_byte(path):
    first, second = model(0.9), model(0.4)
    assert write(path, first) is None
    assert not folder_of(path).exists()
    gave_way = write(path, second)
    assert gave_way.generation == 1
    assert gave_way.last.validation_accuracy == 0.9
    assert path.read_bytes() == second
    assert kept(path) == {1: first}


def test_the_same_bytes_again_change_nothing(path):
    data = model(0.9)
    write(path, data)
    assert write(path, data) is None
    assert not folder_of(path).exists()


def test_overwrite_keeps_nothing(path):
    write(path, model(0.9))
    assert write(path, model(0.4), overwrite=True) is None
    assert not folder_of(path).exists()


def test_overwrite_leaves_what_was_kept_before(path):
    first, second, third = model(0.9), model(0.4), model(0.5)
    for data in (first, second):
        write(path, data)
    assert write(path, third, overwrite=True) is None
    assert path.read_bytes() == third
    assert first in kept(path).values()
    assert second not in kept(path).values()


@pytest.mark.parametrize("content", [b"", b"notes of mine", model(0.9)[:-7]])
def test_a_file_that_is_no_model_stays_too(path, content):
    path.write_bytes(content)
    gave_way = write(path, model(0.4))
    assert gave_way.last is None
    assert kept(path) == {1: content}


def test_of_a_link_the_file_behind_it_is_replaced(path, tmp_path):
    first, second = model(0.9), model(0.4)
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "real.tod"
    real.write_bytes(first)
    path.symlink_to(real)
    write(path, second)
    assert path.is_symlink()
    assert real.read_bytes() == second
    assert kept(real) == {1: first}


def test_a_disk_without_links_gets_a_copy(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = model(0.9)
    write(path, first)
    write(path, model(0.4))
    assert kept(path) == {1: first}


def test_a_log_that_cannot_be_read_is_found_before_the_work(path):
    write(path, model(0.9))
    write(path, model(0.4))
    served = path.read_bytes()
    (folder_of(path) / "log.json").write_bytes(b"{")
    with pytest.raises(ArtifactError, match=r"log\.json"):
        earlier.check(path)
    with pytest.raises(ArtifactError, match=r"log\.json"):
        write(path, model(0.5))
    assert path.read_bytes() == served


@settings(max_examples=25)
@given(
    scores=st.lists(st.sampled_from([None, 0.25, 0.5, 0.75]), min_size=2, max_size=7),
    keep=st.integers(1, 3),
)
def test_the_best_and_the_newest_stay(tmp_path_factory, scores, keep):
    path = tmp_path_factory.mktemp("runs") / "x.tod"
    models = [model(score, seed) for seed, score in enumerate(scores)]
    for data in models:
        write(path, data, keep=keep)
    assert path.read_bytes() == models[-1]
    there = [*kept(path).values(), path.read_bytes()]
    assert all(data in there for data in models[-keep:])
    known = [(score, seed) for seed, score in enumerate(scores) if score is not None]
    if known:
        assert models[max(known)[1]] in there
    assert len(set(there)) <= keep + 2

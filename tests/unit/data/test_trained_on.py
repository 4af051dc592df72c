"""No picture that a model was trained on counts in a score."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tod
from tests.conftest import make_pictures, run
from tod.data.trained_on import marks, with_more, without_trained
from tod.errors import ArtifactError, DataError
from tod.format import artifact
from tod.training.session import TrainSession


def trained(tiny, data, output, **settings):
    session = TrainSession.load(tiny, cache=False)
    tod.train(
        session, tod.Dataset.open(data, cache=False, **settings), output=output, cycles=3
    ).run()
    return output


def learned(data, seed=0):
    return {s.pixels for s in tod.Dataset.open(data, seed=seed, cache=False).split("train")}


def test_a_model_knows_what_it_was_trained_on(tiny, pictures, tmp_path):
    path = trained(tiny, pictures, tmp_path / "m.tod")
    found = artifact.read(path).trained_on
    wanted = sorted(int(pixels[:8], 16) for pixels in learned(pictures))
    assert found.tolist() == wanted
    assert len(artifact.read(tiny).trained_on) == 0


def test_what_it_was_trained_on_adds_up(tiny, pictures, tmp_path):
    first = trained(tiny, pictures, tmp_path / "first.tod")
    second = trained(first, pictures, tmp_path / "second.tod", seed=1)
    both = learned(pictures) | learned(pictures, seed=1)
    assert len(artifact.read(second).trained_on) == len(both)


def test_another_seed_does_not_score_what_was_learned(tiny, pictures, tmp_path):
    path = trained(tiny, pictures, tmp_path / "m.tod")
    other = tod.Dataset.open(pictures, seed=1, cache=False)
    known = [s for s in other.split("validation") if s.pixels in learned(pictures)]
    assert known
    session = TrainSession.load(path, cache=False)
    records = list(tod.evaluate(session, other))
    said = [r.text for r in records if isinstance(r, tod.records.Notice)]
    assert any(f"{len(known)} of the validation split" in text for text in said)
    assert records[-1].total == len(other.split("validation")) - len(known)
    assert session.evaluate(other).pictures == records[-1].total


@pytest.mark.parametrize("metadata", ["comment", "other format"])
def test_a_learned_picture_is_known_in_other_files(tiny, pictures, tmp_path, metadata):
    """Also as a prepared dataset, and with other metadata or in another format."""
    path = trained(tiny, pictures, tmp_path / "m.tod")
    copy = tmp_path / "copy"
    for file in pictures.rglob("*.png"):
        target = copy / file.parent.name / f"new name {file.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        if metadata == "comment":
            Image.open(file).save(target, dpi=(72, 72))
        else:
            Image.open(file).save(target.with_suffix(".bmp"))
    for data in (copy, tmp_path / "prepared"):
        if data != copy:
            assert run("tod", "prepare-dataset", copy, data, "--size", 16).returncode == 0
        dataset = tod.Dataset.open(data, cache=False)
        assert set(marks(dataset.split("train"))) == set(artifact.read(path).trained_on)
        everything = replace(
            dataset, samples=tuple(replace(s, split="validation") for s in dataset.samples)
        )
        left = TrainSession.load(path, cache=False).match(everything)
        assert {s.path for s in left.samples} == {
            s.path for s in dataset.samples if s.split != "train"
        }


def test_labels_drawn_by_lot_stay_at_chance_on_growing_data(tiny, tmp_path):
    """A nightly run: what the model can only have learned by heart must not look like skill."""
    generator = np.random.default_rng(0)
    data = tmp_path / "data"
    count = 0

    def add(pictures):
        nonlocal count
        for _ in range(pictures):
            for name in ("a", "b", "c"):
                (data / name).mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(data / name / f"{count}.png")
                count += 1

    add(40)
    path = trained(tiny, data, tmp_path / "m.tod")
    for night in range(3):
        add(2)
        dataset = tod.Dataset.open(data, cache=False)
        session = TrainSession.load(path, cache=False)
        known = marks(dataset.split("validation"))
        assert not np.isin(known, session.trained_on).any()
        path = tmp_path / f"{night}.tod"
        tod.train(session, dataset, output=path, cycles=3).run()


def test_a_split_that_was_learned_whole(tiny, pictures, tmp_path):
    path = trained(tiny, pictures, tmp_path / "m.tod")
    dataset = tod.Dataset.open(pictures, cache=False)
    swapped = {"train": "validation", "validation": "train", "test": "test"}
    samples = tuple(replace(s, split=swapped[s.split]) for s in dataset.samples)
    with pytest.raises(DataError, match="validation split has no picture that can be read and"):
        tod.evaluate(TrainSession.load(path, cache=False), replace(dataset, samples=samples)).run()


def test_promotion_leaves_out_what_either_model_knows(tiny, pictures, tmp_path):
    served = trained(tiny, pictures, tmp_path / "served.tod", seed=1)
    new = trained(tiny, pictures, tmp_path / "new.tod")
    validation = tod.Dataset.open(pictures, cache=False).split("validation")
    kept = [s for s in validation if s.pixels not in learned(pictures, seed=1)]
    done = run("tod", "promote", new, served, "-d", pictures, "--json")
    assert done.returncode in (0, 9), done.stderr
    assert f"{len(validation) - len(kept)} of the validation split" in done.stdout
    if done.returncode == 9:
        assert f"of {len(kept)})" in done.stderr


def test_a_checkpoint_and_its_merged_model_know_it_too(tiny, pictures, tmp_path):
    session = TrainSession.load(tiny, cache=False)
    dataset = tod.Dataset.open(pictures, cache=False)
    tod.train(session, dataset, output=tmp_path / "m.tod", cycles=4, save_every=2).run()
    checkpoint = tmp_path / "m_trained_2.tod"
    assert run("tod", "merge", checkpoint, "-o", tmp_path / "merged.tod").returncode == 0
    wanted = artifact.read(tmp_path / "m.tod").trained_on.tolist()
    assert len(wanted) == len(dataset.split("train"))
    for path in (checkpoint, tmp_path / "merged.tod"):
        assert artifact.read(path).trained_on.tolist() == wanted


@pytest.mark.parametrize(
    "wrong",
    [np.array([2, 1], np.uint32), np.array([1, 1], np.uint32), np.ones((1, 1), np.uint32),
     np.array([1], np.int64)],
    ids=["falling", "twice", "two axes", "other type"],
)  # fmt: skip
def test_forged_marks_are_refused(tiny, tmp_path, wrong):
    found = artifact.read(tiny)
    artifact.write(replace(found, path=tmp_path / "forged.tod", trained_on=wrong))
    with pytest.raises(ArtifactError, match=r"trained_on is .* wanted rising uint32"):
        artifact.read(tmp_path / "forged.tod")


def test_nothing_is_left_out_without_training(pictures):
    dataset = tod.Dataset.open(pictures, cache=False)
    nothing = with_more(np.empty(0, np.uint32), [])
    assert without_trained(dataset, [("m.tod", nothing)]) is dataset


def test_equal_pixels_stay_together_plain_and_prepared(tmp_path):
    """45 pairs of the same pixels in other files, in both forms."""
    tree = make_pictures(tmp_path / "tree", per_class=15)
    for file in list(tree.rglob("*.png")):
        picture = Image.open(file)
        picture.save(file.with_name(f"{file.stem} again.tif"))
        shutil.copystat(file, file.with_name(f"{file.stem} again.tif"))
    plain = tod.Dataset.open(tree, cache=False)
    by_pixels = {}
    for sample in plain.samples:
        by_pixels.setdefault(sample.pixels, set()).add(sample.split)
    assert len(by_pixels) == 45
    assert {len(splits) for splits in by_pixels.values()} == {1}
    assert run("tod", "prepare-dataset", tree, tmp_path / "out", "--size", 16).returncode == 0
    prepared = tod.Dataset.open(tmp_path / "out", cache=False)
    assert {s.pixels: s.split for s in prepared.samples} == {
        s.pixels: s.split for s in plain.samples
    }

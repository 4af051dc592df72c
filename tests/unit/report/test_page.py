"""The page of a report: whatever names come, nothing in it acts; it stays small and complete."""

import html
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import FILES
from tests.support.hostile_names import NAMES
from tests.support.pages import Page, harmless
from tod.data.check import Doubt, Finding
from tod.data.image import encode
from tod.format import artifact
from tod.format.manifest import HistoryEntry, LossSpec, Run, with_classes
from tod.report.contents import Before, Contents, Shot
from tod.report.course import Course
from tod.report.examination import THUMBNAIL_BYTES
from tod.report.markup import Markup, name, tag, text
from tod.report.page import page
from tod.runtime.calibration import calibration
from tod.runtime.scoring import score
from tod.system.text import shown
from tod.training.records import CycleDone, Evaluated, Notice, Started, Stopped

TINY = artifact.read(FILES / "tiny.tod").manifest
RUN = Run(
    cycles=40, batch_size=4, lr=0.1, eval_every=10, target_accuracy=1, patience=2, save_every=0,
    seed=0, split_seed=0, pictures={}, data_sha256="",
)  # fmt: skip
LIMIT_BYTES = 2_000_000


def course(names=("a", "b"), model="a.tod", cycles=40) -> Course:
    made = Course()
    made.add(Started(model, "net", tuple(names), {}, 9, "sgd", RUN, 1, 2), 0.5)
    made.add(Notice(f"{model} was passed over"), 0.6)
    for cycle in range(1, cycles + 1):
        made.add(CycleDone(cycle, 40, 2 / cycle, 2 / cycle, 0.1), 1 + cycle / 100)
        if cycle % 10 == 0:
            made.add(Evaluated("test", cycle, 0.5, 0.5, 1, 2), 1 + cycle / 100)
    made.add(Stopped("patience", cycles, 20), 2.0)
    made.add(Evaluated("validation", 20, 0.6, 0.6, 3, 5), 2.0)
    return made


def contents(names, *, photo=None, files=None, per_class=2) -> Contents:
    """A report with these names everywhere a name can stand."""
    names = tuple(names)
    files = tuple(files or names)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(names)), per_class)
    outputs = rng.normal(size=(len(labels), len(names))).astype(np.float32)
    outputs[np.arange(0, len(labels), 2), labels[::2]] += 9
    found = score("single-label", outputs, labels, "validation", names)
    shots = tuple(
        Shot(file, names[i % len(names)], ((names[0], 0.7), (names[-1], 0.2)), 0.1, False, photo)
        for i, file in enumerate(files[:12])
    )
    return Contents(
        model=files[0], data=files[-1], made="2026-01-01 00:00",
        manifest=with_classes(TINY, names), trained=True, evaluation=found,
        calibration=calibration(rng.random(50), rng.random(50) > 0.5), worst=shots,
        doubtful=shots, pictures={"train": 10, "test": 5, "validation": 5},
        findings=(
            Finding("near_leak", "warn", f"twice: {files[0]}", "keep one", (files[:2], files[-2:])),
            Finding("doubtful", "remark", "labels", "look", tuple(
                Doubt(file, names[0], 0.1, names[-1], 0.9) for file in files)),
            Finding("unreadable", "wrong", "bad", "", ((files[0], names[0]),)),
        ),
        thumbnails=dict.fromkeys(files[:60], photo) if photo else {},
        before=Before(files[0], found), course=course(names, files[0]),
        facts={"Timing": (("one answer", files[0]),)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def photo() -> bytes:
    """Noise, of which JPEG saves least."""
    pixels = np.random.default_rng(0).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    return encode(pixels, "jpeg")


def test_200_hostile_names_are_text(photo):
    found = harmless(page(contents(NAMES, photo=photo)))
    assert len(NAMES) == 200
    for one in NAMES[:6]:
        assert shown(one) in found.text  # as they were written, in the tables
    assert found.values("alt")


@pytest.mark.parametrize("hostile", NAMES, ids=range(len(NAMES)))
def test_each_hostile_name_alone(hostile):
    """In a small report, where the matrix shows the classes."""
    found = harmless(page(contents(("cat", hostile), files=(hostile, "b.png"))))
    assert "matrix" in found.values("class")


@settings(max_examples=60)
@given(st.lists(st.text(max_size=90), min_size=2, max_size=5, unique=True))
def test_any_names_are_harmless(names):
    assert harmless(page(contents(names))).open == []


@given(st.text())
def test_text_comes_back_as_it_is_shown(written):
    """Escaping loses nothing of what is printable: a browser shows the text itself."""
    made = tag("p", written, title=written)
    found = Page(made)
    assert found.text == shown(written)
    assert found.values("title") == [shown(written)]
    assert html.unescape(text(written)) == shown(written)


def test_what_is_markup_is_not_escaped_again_and_all_else_is():
    assert tag("p", tag("b", "<"), "&") == "<p><b>&lt;</b>&amp;</p>"
    assert tag("a", href=Markup('"><b>')) == '<a href="&quot;&gt;&lt;b&gt;"></a>'
    assert tag("line", x1=1.23456, stroke_width=2, class_="a") == (
        '<line x1="1.235" stroke-width="2" class="a"></line>'
    )
    # Put together by hand it is text again, which is then escaped: the safe way to be wrong.
    assert text(tag("b", "x") + "<i>") == "&lt;b&gt;x&lt;/b&gt;&lt;i&gt;"


def test_a_long_name_is_cut_in_the_middle():
    made = Page(name("a" * 500 + ".png")).text
    assert len(made) < 80
    assert made.startswith("aaa")
    assert made.endswith(".png")


def test_365_classes_and_many_pictures_stay_below_2_mb(photo):
    """The largest thumbnails that there is room for; all tables full; long names."""
    names = tuple(f"{i} {chr(39) * 1000}" for i in range(365))  # ' takes six bytes as &#x27;
    files = tuple(f"{i}/{'&' * 4000}.png" for i in range(365))
    shown = 12 + 12 + 2 + 6  # worst, doubtful, twins, labels in doubt
    small = photo * (THUMBNAIL_BYTES // shown // len(photo)) or photo[: THUMBNAIL_BYTES // shown]
    whole = contents(names, photo=small, files=files, per_class=5)
    notices = [f"{i} {'<' * 4000}" for i in range(50)]
    made = page(replace(whole, course=replace(whole.course, notices=notices)))
    assert made.count("data:image/jpeg") == shown
    assert len(made.encode()) < LIMIT_BYTES
    assert "A matrix of 365 classes fits no screen" in made
    assert "more pairs are left out" in made
    assert "the other 340 classes" in made
    assert 'class="matrix"' not in made


def test_a_report_shows_all_it_should(photo):
    made = harmless(page(contents(("cat", "dog", "owl"), photo=photo))).text
    for wanted in (
        "Training ended after cycle 40: the test accuracy has not risen for too long",
        "Cycle 20 is kept", "early stop", "kept 20", "Loss", "Accuracy", "Learning rate",
        "Before and after", "precision", "recall", "F1", "Confusion", "Worst pictures",
        "Most doubtful pictures", "Calibration", "expected calibration error", "Keep one.",
        "Settings, versions, timing", "one answer", "patience", "weight_decay",
    ):  # fmt: skip
        assert wanted in made, wanted


def test_a_model_alone_has_all_but_the_curves():
    whole = contents(("cat", "dog"))
    entry = HistoryEntry(40, 20, 4, 0.1, 0, 0, "patience", {}, "", 0.5, 0.6, "onnxruntime 1")
    alone = replace(
        whole, course=None, before=None, manifest=replace(whole.manifest, history=(entry,))
    )
    made = harmless(page(alone))
    assert "#curves" not in made.values("href")
    assert "#before" not in made.values("href")
    assert "#confusion" in made.values("href")
    assert "20 of 40" in made.text


def test_a_model_before_that_cannot_be_compared_is_said():
    one = replace(contents(("cat", "dog")), before=Before("<old>.tod", None, "it has <others>"))
    assert "<old>.tod, was not compared: it has <others>" in harmless(page(one)).text


def of_task(task, loss):
    names, rng = ("cat", "dog"), np.random.default_rng(0)
    labels = rng.random((20, 2)).astype(np.float32).round(0 if task == "multi-label" else 3)
    found = score(task, rng.normal(size=(20, 2)).astype(np.float32), labels, "validation", names)
    whole = contents(names)
    return replace(
        whole, evaluation=found, manifest=replace(whole.manifest, loss=LossSpec(loss)),
        before=Before("a.tod", found),
    )  # fmt: skip


def test_several_classes_for_a_picture():
    made = harmless(page(of_task("multi-label", "binary_cross_entropy"))).text
    assert "yes as yes" in made
    assert "The share of right answers about each class" in made
    assert "accuracy over all pictures and classes" in made


def test_numbers_have_a_chart_of_points_instead():
    points = {"<x>": tuple((float(i), i + 0.5) for i in range(9)), "flat": ((1.0, 1.0),)}
    one = of_task("regression", "mean_squared_error")
    one = replace(one, calibration=None, points=points, doubtful=())
    one = replace(one, evaluation=replace(one.evaluation, by_class={"<x>": 0.5, "flat": 1.0}))
    made = harmless(page(replace(one, before=None)))
    assert "R2 -" in made.text
    assert "2 quantities, 20 pictures" in made.text
    assert "R2: the share of the variance that is explained" in made.text
    assert "<x>, R2 0.5000" in made.text
    assert "#confusion" not in made.values("href")


def test_short_names_head_the_columns_of_the_matrix():
    """Digits beside numbers of classes would confuse."""
    made = page(contents(("0", "<i>")))
    assert '<th scope="col"><bdi>&lt;i&gt;</bdi></th>' in made
    assert '<th scope="col">2</th>' not in made
    assert '<th scope="col">2</th>' in page(contents(("0", "<img>")))

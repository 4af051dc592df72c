"""Precision, recall, F1, the confusion matrix and calibration: by their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tod.runtime.calibration import calibration
from tod.runtime.class_score import ClassScore
from tod.runtime.scoring import confused, mean_f1, score

CLASSES = ("cat", "dog", "owl")


def outputs_for(answers, classes=3):
    return np.eye(classes, dtype=np.float32)[answers]


def test_scores_of_one_class_for_each_picture():
    labels = np.array([0, 0, 0, 1, 1, 2])
    found = score("single-label", outputs_for([0, 0, 1, 1, 1, 0]), labels, "validation", CLASSES)
    assert found.confusion == ((2, 1, 0), (0, 2, 0), (1, 0, 0))
    assert found.scores["cat"] == ClassScore(3, 2 / 3, 2 / 3, 2 / 3)
    assert found.scores["dog"] == ClassScore(2, 2 / 3, 1.0, 0.8)
    assert found.scores["owl"] == ClassScore(1, None, 0.0, 0.0)
    assert found.by_class == {"cat": 2 / 3, "dog": 1.0, "owl": 0.0}
    assert confused(found.confusion) == [(0, 1, 1), (2, 0, 1)]
    assert mean_f1(found.scores.values()) == pytest.approx((2 / 3 + 0.8) / 3)


def test_a_class_without_pictures_has_no_recall():
    found = score("single-label", outputs_for([0, 1]), np.array([0, 1]), "validation", CLASSES)
    assert found.scores["owl"] == ClassScore(0, None, None, None)
    assert mean_f1(found.scores.values()) == 1
    assert mean_f1([ClassScore(0, None, None, None)]) is None


def test_scores_of_yes_and_no_for_each_class():
    true = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.float32)
    said = np.array([[2, -1], [-1, 3], [1, -2], [-1, 1]], np.float32)
    found = score("multi-label", said, true, "validation", CLASSES[:2])
    assert found.confusion == ((1, 1, 1, 1), (2, 0, 0, 2))
    assert found.scores["cat"] == ClassScore(2, 0.5, 0.5, 0.5)
    assert found.scores["dog"] == ClassScore(2, 1.0, 1.0, 1.0)
    assert found.by_class == {"cat": 0.5, "dog": 1.0}


def test_numbers_have_neither():
    found = score("regression", np.ones((2, 1), np.float32), np.ones((2, 1)), "validation", ("x",))
    assert found.scores == {}
    assert found.confusion == ()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_the_matrix_adds_up(pairs):
    labels, answers = np.array(pairs).T
    names = tuple("abcde")
    found = score("single-label", outputs_for(answers, 5), labels, "validation", names)
    matrix = np.array(found.confusion)
    assert matrix.sum() == found.total == len(pairs)
    assert matrix.trace() == found.correct
    assert matrix.sum(axis=1).tolist() == [found.scores[name].pictures for name in names]
    assert sum(count for *_, count in confused(found.confusion)) == found.total - found.correct
    for name in names:
        one = found.scores[name]
        # F1 lies between the two it is made of, and is the harmonic mean where both are there.
        if one.precision is not None and one.recall is not None and one.precision + one.recall:
            mean = 2 * one.precision * one.recall / (one.precision + one.recall)
            assert one.f1 == pytest.approx(mean)
        if one.pictures:
            assert one.recall == found.by_class[name]


def test_calibration_of_a_model_that_knows_itself():
    """Of ten answers at 75 %, which bin 8 holds, eight are right: 5 points off."""
    found = calibration(np.full(10, 0.75), np.arange(10) < 8)
    assert found.error == pytest.approx(0.05)
    full = [one for one in found.bins if one.answers]
    assert [(one.low, one.high, one.answers) for one in full] == [(0.7, 0.8, 10)]
    assert full[0].confidence == pytest.approx(0.75)
    assert full[0].accuracy == pytest.approx(0.8)


def test_calibration_of_a_model_that_is_too_sure():
    assert calibration(np.ones(4), np.zeros(4, bool)).error == 1
    assert calibration(np.zeros(0), np.zeros(0, bool)).error == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=80))
def test_every_answer_is_in_one_bin(answers):
    confidence = np.array([share for share, _ in answers], np.float32)
    found = calibration(confidence, np.array([right for _, right in answers], bool))
    assert sum(one.answers for one in found.bins) == len(answers)
    assert 0 <= found.error <= 1
    for one in found.bins:
        if one.answers:
            assert one.low - 1e-6 <= one.confidence <= one.high + 1e-6

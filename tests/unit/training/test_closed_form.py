"""Heads in closed form: right by hand, and a floor on real pictures."""

import numpy as np
import pytest

from tod.training.closed_form import _RIDGES, imprint, ridge


def problem(rows, features, classes=3):
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((classes, features)) * 2
    labels = np.arange(rows) % classes
    return (centres[labels] + generator.standard_normal((rows, features))).astype("f"), labels


def test_imprinted_rows_point_to_their_class():
    features, labels = problem(30, 8)
    weight, bias = imprint(features, labels, 4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for label in range(3):
        mean = unit[labels == label].mean(axis=0)
        cosine = mean @ weight[label] / np.linalg.norm(mean) / np.linalg.norm(weight[label])
        assert cosine == pytest.approx(1)
    assert not weight[3].any()  # no picture of it
    assert not bias.any()
    assert ((features @ weight.T).argmax(1) == labels).mean() > 0.9


@pytest.mark.parametrize(("rows", "features"), [(20, 50), (200, 6)], ids=["wide", "tall"])
def test_ridge_is_the_least_squares_solution_of_its_penalty(rows, features):
    """The direction of its weights is that of scikit-learn's formula for one of the penalties."""
    x, labels = problem(rows, features)
    weight, _ = ridge(x, labels, 3)
    centred = x.astype(float) - x.mean(axis=0)
    targets = np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)
    gram = centred.T @ centred
    values = np.linalg.eigvalsh(centred @ centred.T if rows <= features else gram)
    values = values[values > values[-1] * 1e-12] if rows > features else values
    cosines = []
    for share in _RIDGES:
        penalty = share * values.mean()
        wanted = np.linalg.solve(gram + penalty * np.eye(features), centred.T @ targets).T
        cosines.append((wanted * weight).sum() / np.linalg.norm(wanted) / np.linalg.norm(weight))
    assert max(cosines) == pytest.approx(1, abs=1e-6)


def test_the_penalty_is_that_of_the_least_left_out_error():
    """Checked by leaving each picture out in turn, the slow way, with the mean left in."""
    from tod.training.closed_form import _left_out

    x, labels = problem(12, 5)
    x = x.astype(float) - x.mean(axis=0)
    targets = np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)
    penalty = 3.0
    errors = []
    ones = np.hstack([x, np.ones((12, 1))])
    shrink = np.diag([penalty] * 5 + [0])
    for i in range(12):
        kept = np.arange(12) != i
        solved = np.linalg.solve(ones[kept].T @ ones[kept] + shrink, ones[kept].T @ targets[kept])
        errors.append(np.square(ones[i] @ solved - targets[i]))
    values, vectors = np.linalg.eigh(x @ x.T)
    found = _left_out(
        np.maximum(values, 0), vectors, vectors.T @ targets, np.square(vectors), targets, penalty
    )
    assert found == pytest.approx(np.mean(errors), rel=1e-6)

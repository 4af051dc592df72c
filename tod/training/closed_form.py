"""Compute linear heads in closed form, without training steps.

Axes: N pictures, F features, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Head = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight [C, F], bias [C]
# Penalties to try, as shares of the mean eigenvalue.
_RIDGES = tuple(10.0**e for e in np.arange(-4, 2.1, 0.5))


def imprint(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> Head:
    """Set the weights of each class to the mean direction of its pictures' features.

    Source: Qi, Brown and Lowe, "Low-Shot Learning with Imprinted Weights",
    https://arxiv.org/abs/1712.07136. The scale of the logits changes no prediction; it is chosen
    for the least cross entropy on these pictures.

    Args:
        features: [N, F].
        labels: [N]; a class without a picture gets the direction zero.
        classes: C.
    """
    directions = _unit(features.astype(np.float64))
    means = _one_hot(labels, classes).T @ directions
    return _scaled(features, labels, _unit(means), np.zeros(classes))


def ridge(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> Head:
    """Fit the one-hot labels by least squares with a penalty on the squared weights.

    The penalty is chosen for the least leave-one-out error. That error has a closed form (Golub,
    Heath and Wahba 1979; generalised cross-validation is derived from it): with the eigenvectors of
    the pictures' inner products, each penalty costs two matrix products.

    Args:
        features: [N, F].
        labels: [N].
        classes: C.
    """
    x, targets = features.astype(np.float64), _one_hot(labels, classes)
    centre, share = x.mean(axis=0), targets.mean(axis=0)
    x, targets = x - centre, targets - share
    if len(x) <= x.shape[1]:
        values, vectors = np.linalg.eigh(x @ x.T)
    else:
        # With more pictures than features, this smaller matrix gives the same eigenvectors.
        values, right = np.linalg.eigh(x.T @ x)
        kept = values > values[-1] * 1e-12
        values, right = values[kept], right[:, kept]
        vectors = x @ right / np.sqrt(values)
    values = np.maximum(values, 0)
    projected, squares = vectors.T @ targets, np.square(vectors)
    best = min(
        (share * max(values.mean(), 1e-30) for share in _RIDGES),
        key=lambda penalty: _left_out(values, vectors, projected, squares, targets, penalty),
    )
    weight = ((vectors / (values + best)) @ projected).T @ x
    return _scaled(features, labels, weight, share - weight @ centre)


def _left_out(
    values: NDArray[np.float64],
    vectors: NDArray[np.float64],
    projected: NDArray[np.float64],
    squares: NDArray[np.float64],
    targets: NDArray[np.float64],
    penalty: float,
) -> float:
    """Return the mean squared error of leave-one-out predictions; the mean counts as one more
    direction."""
    shrink = values / (values + penalty)
    fitted = vectors @ (shrink[:, None] * projected)
    leverage = np.minimum(squares @ shrink + 1 / len(targets), 1 - 1e-9)
    return float(np.square((targets - fitted) / (1 - leverage)[:, None]).mean())


def _scaled(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> Head:
    """Scale weight and bias for the least cross entropy, so that training starts from logits that
    are good probabilities."""
    logits = features @ weight.T + bias
    logits = logits - logits.max(axis=1, keepdims=True)
    rows = np.arange(len(labels))

    def cross_entropy(scale: float) -> float:
        scaled = logits * scale
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, labels]).mean())

    # Convex in the scale: a grid of powers, then a finer one around the best.
    spread = float(logits.std()) or 1.0
    scale = 1 / spread
    for step in (2.0, 1.1):
        scale = min([scale * step**e for e in range(-10, 11)], key=cross_entropy)
    return (weight * scale).astype(np.float32), (bias * scale).astype(np.float32)


def _one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    return np.eye(classes)[labels]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)

"""Find the layers that must stay in float, by measurement. Knows nothing of networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

Progress = Callable[[int, int], None]


def rank(
    layers: Sequence[str],
    cosine: Callable[[Collection[str]], float],
    progress: Progress = lambda done, total: None,
) -> list[str]:
    """Sort layers by the harm that each does when only it is quantized, the worst first.

    Args:
        layers: their names.
        cosine: gives the cosine between the features and float32 features, with the given layers in
            float.
        progress: called with the layers done and to do.
    """
    harms = []
    for index, layer in enumerate(layers):
        harms.append(cosine([other for other in layers if other != layer]))
        progress(index + 1, len(layers))
    return [layers[i] for i in sorted(range(len(layers)), key=lambda i: harms[i])]


def fewest(
    ranked: Sequence[str],
    cosine: Callable[[Collection[str]], float],
    *,
    target: float,
    most: int,
) -> tuple[str, ...]:
    """Find the smallest number of top-ranked layers that, left in float, reaches the target.

    It is found by bisection, because more layers in float do no harm except for noise.

    Args:
        ranked: the worst layer first.
        cosine: as for `rank`.
        target: the cosine to reach.
        most: largest number of layers; also the result if even this number does not reach the
            target.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if cosine(ranked[:middle]) >= target:
            high = middle
        else:
            low = middle + 1
    return tuple(ranked[:high])

"""Which layers must stay in float: found by measurement, knowing nothing of networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

Progress = Callable[[int, int], None]


def rank(
    layers: Sequence[str],
    cosine: Callable[[Collection[str]], float],
    progress: Progress = lambda done, total: None,
) -> list[str]:
    """The layers by the harm that each does when it alone is quantized, the worst first.

    Args:
        layers: their names.
        cosine: of the features to those of float32, with the given layers in float.
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
    """The shortest beginning of a ranking that, left in float, reaches the target.

    Bisection: more layers in float do no harm, but for noise.

    Args:
        ranked: the worst layer first.
        cosine: as for `rank`.
        target: the cosine to reach.
        most: largest number of layers; these, if not even they reach it.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if cosine(ranked[:middle]) >= target:
            high = middle
        else:
            low = middle + 1
    return tuple(ranked[:high])

"""Named arrays: convert them to and from safetensors bytes, and check them against the manifest.

The only user of safetensors. Knows the manifest's table of tensors; knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError
from tod.format.manifest import CLASSES_AXIS, Manifest

Arrays = Mapping[str, NDArray[Any]]
BEST = "best."  # prefix of the names of the parameters that a run falls back on
TRAINED_ON = "trained_on"  # uint32, see `tod.data.trained_on`; absent if nothing was trained
# Names and shapes of a state; the largest network has 100 kB of them.
_MAX_TABLE_BYTES = 2 << 20


def arrays_to_bytes(arrays: Arrays) -> bytes:
    """Write arrays in the safetensors format, sorted by name."""
    # safetensors' own save_file neither syncs nor keeps file modes; only its bytes are used.
    import safetensors.numpy

    ordered = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    return safetensors.numpy.save(ordered)


def arrays_from_bytes(data: bytes, *, where: str) -> dict[str, NDArray[Any]]:
    """The inverse of `arrays_to_bytes`.

    Raises:
        ArtifactError: not in the safetensors format.
    """
    import safetensors
    import safetensors.numpy

    table_bytes = int.from_bytes(data[:8], "little")
    if table_bytes > _MAX_TABLE_BYTES:
        raise ArtifactError(f"{where}: its table of tensors has {table_bytes:,} bytes")
    try:
        # The library's own order differs from call to call.
        return dict(sorted(safetensors.numpy.load(data).items()))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{where}: it is not a readable safetensors file: {error}") from error


def check_arrays(manifest: Manifest, arrays: Arrays, *, where: str) -> None:
    """Compare the stored arrays with the manifest's table, before any of them is used.

    Raises:
        ArtifactError: a tensor is missing, unknown, or has another shape or dtype. All
            differences are named at once.
    """
    # Files of earlier versions hold no `best.` parameters before the first evaluation.
    evaluated = manifest.run is not None and manifest.run.best_accuracy is not None
    stored = any(name.startswith(BEST) for name in arrays)
    expected = _expected(manifest, with_best=evaluated or stored)
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    problems = [
        f"{name} is {found.get(name, 'missing')}, wanted {expected.get(name, 'no such tensor')}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
    if problems:
        raise ArtifactError(f"{where}: state.safetensors does not fit: {'; '.join(problems)}")


def check_trained_on(found: NDArray[Any], *, where: str) -> NDArray[np.uint32]:
    """Check the array of pictures that a model was trained on.

    Raises:
        ArtifactError: it is not a rising sequence of uint32.
    """
    if found.dtype != np.uint32 or found.ndim != 1 or not np.all(found[1:] > found[:-1]):
        raise ArtifactError(
            f"{where}: {TRAINED_ON} is {found.dtype} {list(found.shape)}, wanted rising uint32 [N]"
        )
    return found


def _expected(manifest: Manifest, *, with_best: bool) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of each array that the file must store."""
    resuming = manifest.kind == "checkpoint"
    expected: dict[str, tuple[tuple[int, ...], str]] = {}
    for tensor in manifest.tensors:
        if manifest.class_count is None and CLASSES_AXIS in tensor.shape:
            continue
        wanted = (tensor.resolve(manifest.class_count or 0), tensor.dtype)
        model = tensor.role in ("parameter", "statistic")
        if model or (resuming and tensor.role == "slot"):
            expected[tensor.name] = wanted
        if resuming and with_best and model:
            expected[BEST + tensor.name] = wanted
    return expected

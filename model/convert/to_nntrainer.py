"""A trained model's weights in nntrainer's order, for the INI file that it was exported from.

Axes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.networks.nntrainer import weights
from model.networks.nntrainer.load import HEAD, Ini, load
from tod.errors import UsageError
from tod.format.manifest import Manifest, Task

_ENDS: Mapping[Task, Callable[[torch.Tensor], torch.Tensor]] = {
    "single-label": lambda logits: torch.softmax(logits, 1),
    "multi-label": torch.sigmoid,
    "regression": lambda logits: logits,
}


@dataclass(frozen=True)
class Target:
    """What the file is for.

    Attributes:
        ini: the INI file.
        weights: nntrainer's weights that the export took; None: every layer trained.
    """

    ini: Path
    weights: Path | None = None


def convert(target: Target, manifest: Manifest, parameters: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a .bin file.

    Args:
        target: the INI file that the model was exported from.
        manifest: of the model.
        parameters: parameters and statistics by name.

    Raises:
        UsageError: it is another network, or a layer that did not train is missing.
    """
    made = load(target.ini, weights_file=target.weights)
    _check_network(made, target, manifest)
    net = made.network.build(made.classes).head
    stored = {f"{HEAD}{one.name}": one.tensor for one in net.stored()}
    wrong = [
        f"{name} {list(value.shape)}"
        for name, value in parameters.items()
        if name not in stored or tuple(stored[name].shape) != value.shape
    ]
    if wrong:
        raise UsageError(
            f"{target.ini} is not the network of this model: it has no {', '.join(wrong[:4])}",
            hint="give the INI file that the model was exported from",
        )
    if missing := [name for name in stored if name not in parameters and target.weights is None]:
        raise UsageError(
            f"{', '.join(missing[:4])} did not train, so the .tod file does not have it by name",
            hint="give the .bin file of the export with --weights",
        )
    with torch.no_grad():
        for name, value in parameters.items():
            stored[name].copy_(torch.from_numpy(np.array(value)))
    return weights.to_bytes(net)


def runner(
    target: Target, data: bytes, task: Task
) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """What answers for a sample as nntrainer would with these weights."""
    net = load(target.ini).build().eval()
    weights.fill(net, data, "the new file")

    def run(sample: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = _ENDS[task](net(torch.from_numpy(sample))).numpy()
        return found

    return run


def _check_network(made: Ini, target: Target, manifest: Manifest) -> None:
    if manifest.tensor is None or manifest.tensor.shape != made.network.input.shape:
        found = list(manifest.samples.shape)
        raise UsageError(
            f"{target.ini} takes {list(made.network.input.shape)}, this model {found}",
            hint="give the INI file that the model was exported from",
        )

"""nntrainer's files of weights: raw float32 in the order of its graph, then what it was at.

They have no header, no names and no shapes, so their size is all that can be checked: the weights,
then nothing; or epoch (uint32) and iteration (uint64); or b"adam", two moments of each trainable
number, and the same. Source: nntrainer's models/neuralnet.cpp.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.networks.backbone import sha256
from model.networks.nntrainer.network import IniNetwork, Stored
from tod.errors import DataError, UsageError
from tod.format.manifest import Weights

_TAIL = 12  # epoch and iteration
_ADAM = b"adam"


def load(net: IniNetwork, path: Path) -> Weights:
    """Fill a network from a file.

    Raises:
        UsageError: there is no such file, or its size is not that of the network's weights.
        DataError: it cannot be read, or holds numbers that are not finite.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"--weights {path}: no such file", hint="give a .bin file") from None
    except OSError as error:
        raise DataError(f"--weights {path}: it cannot be read: {error.strerror}") from error
    fill(net, data, f"--weights {path}")
    return Weights(f"file {path.name}", sha256(path), "as stated where the file came from")


def fill(net: IniNetwork, data: bytes, where: str) -> None:
    """Fill a network from a file's bytes; see `load`.

    Args:
        net: changed.
        data: the bytes.
        where: what they are, for messages.
    """
    stored = list(net.stored())
    count = sum(one.tensor.numel() for one in stored)
    _check_size(data, stored, where)
    numbers = np.frombuffer(data, "<f4", count)
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(
            f"{where}: number {place:,} of {count:,} is not finite",
            hint="it is damaged, or belongs to another INI file",
        )
    start = 0
    for one in stored:
        shape = _swapped(one.tensor.shape) if one.swapped else tuple(one.tensor.shape)
        part = np.array(numbers[start : start + one.tensor.numel()]).reshape(shape)
        start += part.size
        with torch.no_grad():
            one.tensor.copy_(torch.from_numpy(part.swapaxes(0, 1) if one.swapped else part))


def to_bytes(net: IniNetwork) -> bytes:
    """The network's weights as nntrainer writes them, at epoch and iteration 0."""
    parts = []
    for one in net.stored():
        array = one.tensor.detach().numpy().astype("<f4")
        parts.append((array.swapaxes(0, 1) if one.swapped else array).tobytes())
    return b"".join(parts) + bytes(_TAIL)


def _check_size(data: bytes, stored: list[Stored], where: str) -> None:
    weights = 4 * sum(one.tensor.numel() for one in stored)
    moments = len(_ADAM) + 8 * sum(one.tensor.numel() for one in stored if one.trains)
    adam = data[weights : weights + len(_ADAM)] == _ADAM
    rest = len(data) - weights
    if rest in (0, _TAIL) or (adam and rest in (moments, moments + _TAIL)):
        return
    raise UsageError(
        f"{where}: it has {len(data):,} bytes; this network's weights are {weights:,} "
        f"bytes ({weights // 4:,} numbers), with {_TAIL} more or with Adam's moments "
        f"({moments:,}, or {moments + _TAIL:,}) after them",
        hint="give the file that was trained with this very INI file: it has no names, so a file "
        "of another network would be read as nonsense",
    )


def _swapped(shape: torch.Size) -> tuple[int, ...]:
    return (shape[1], shape[0], *shape[2:])

"""The record of a pretrained backbone, the same for every source.

Axes: N pictures, S side in pixels, F features.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from tod.errors import DataError, UsageError, first_line
from tod.format.manifest import InputSpec, Weights
from tod.system import file_kind

Features = Literal["pooled", "logits"]
TORCHVISION = "torchvision:"

RANDOM = Weights("random numbers (--weights none)", "", "")


@dataclass(frozen=True)
class Backbone:
    """A pretrained network and its facts.

    Attributes:
        name: the name that the user gave.
        module: float32 [N, 3, S, S], normalised -> features [N, F].
        feature_count: F.
        input: how pictures become its input.
        weights: where its weights came from.
        head_name: the network's name for the layer that the head replaces; empty if the head gets
            the logits of that layer.
    """

    name: str
    module: nn.Module
    feature_count: int
    input: InputSpec
    weights: Weights
    head_name: str = ""


def resized(spec: InputSpec, size_px: int) -> InputSpec:
    """Return the spec for another size, with the same share of the picture."""
    resize_px = round(size_px * spec.resize_px / spec.size_px)
    return replace(spec, size_px=size_px, resize_px=resize_px)


def load_file(net: nn.Module, path: Path) -> Weights:
    """Load a complete state dict.

    Raises:
        UsageError: there is no such file, or it does not fit the network.
        DataError: it cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(
            f"--weights {path}: no such file",
            hint="give a file, or auto, or none",
        ) from None
    except OSError as error:
        raise DataError(
            f"--weights {path}: cannot be read: {error.strerror or first_line(error)}"
        ) from error
    except Exception as error:  # torch.load raises whatever unpickling raises
        kind = file_kind.look(path)
        # What unpickling says of a file that is none would be a riddle.
        what = first_line(error) if kind is None or "torch" in kind.name else f"it is {kind.name}"
        raise DataError(
            f"--weights {path}: not a readable file of weights: {what}",
            hint="give a file that torch.save wrote from a state dict",
        ) from error
    try:
        net.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = str(error).splitlines()
        raise UsageError(
            f"--weights {path}: it does not fit this backbone: {' '.join(lines[:3])[:400]}",
            hint="choose the backbone that the weights were made for with --backbone",
        ) from error
    return Weights(f"file {path.name}", sha256(path), "as stated where the file came from")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

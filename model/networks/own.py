"""A user's own network: one Python file that defines `build(classes) -> TransferNet`.

It may also define `INPUT` (settings of `tod.format.manifest.InputSpec`, at least `size_px`; if its
samples are no pictures, of `TensorSpec`, at least `shape`), `TRAINABLE` (as --trainable) and
`WEIGHTS` (where its weights came from). docs/networks.md has examples.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import torch

from model.networks.network import Network
from model.transfer_net import TransferNet
from tod.errors import TodError, UsageError
from tod.format.manifest import InputSpec, SampleSpec, TensorSpec, Weights
from tod.format.manifest_checks import tensor_problems
from tod.system import file_kind

_WEIGHTS = (
    "weights go with a network: --weights {} for a backbone by name, or load them in build() of a "
    "file of your own"
)
_INPUT: dict[str, Any] = {
    "size_px": 224,
    "interpolation": "bilinear",
    "crop": "center",
    "colour": "rgb",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def load(where: str, *, seed: int) -> Network:
    """Read the file and make a `Network` from its definitions.

    Args:
        where: "my_net.py", or "my_net.py:build" for another name of the function.
        seed: for torch's random numbers, set before each call of the function.

    Raises:
        UsageError: the file or what it defines cannot be used.
    """
    file, _, function = where.rpartition(":") if ":" in where else (where, "", "build")
    path = Path(file)
    module = _module(path)
    if not callable(getattr(module, function, None)):
        raise UsageError(
            f"{path} defines no function '{function}'",
            hint="define build(classes) that returns a TransferNet, or name the function: "
            f"--model {path}:NAME",
        )
    source = getattr(module, "WEIGHTS", "the network's own file")
    return Network(
        name=path.stem,
        build=_builder(path, function, getattr(module, function), seed),
        input=_input(path, getattr(module, "INPUT", {})),
        weights=Weights(str(source), "", ""),
        head="own",
        trainable=str(getattr(module, "TRAINABLE", "head")),
    )


def _module(path: Path) -> Any:
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "no such file"
        raise UsageError(f"{path}: {found}", hint="give a Python file that defines build()")
    if path.suffix != ".py":
        kind = file_kind.look(path)
        raise UsageError(
            f"{path}: wanted a Python file (.py) that defines build()"
            + (f", this is {kind.name}" if kind else ""),
            hint=_WEIGHTS.format(path)
            if kind and "torch" in kind.name
            else "docs/networks.md shows such a file",
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The file may import other files from its folder.
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except TodError:
        raise
    except PermissionError as error:
        raise UsageError(f"{path}: it cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever the user's file raises
        raise _failed(path, "reading it", error) from error
    finally:
        sys.path.pop(0)
    return module


def _builder(
    path: Path, function: str, build: Callable[[int], Any], seed: int
) -> Callable[[int], TransferNet]:
    def checked(classes: int) -> TransferNet:
        torch.manual_seed(seed)
        try:
            net = build(classes)
        except TodError:
            raise
        except Exception as error:  # whatever the user's function raises
            raise _failed(path, f"{function}({classes})", error) from error
        if not isinstance(net, TransferNet):
            raise UsageError(
                f"{path}: {function} returned a {type(net).__name__}, wanted a TransferNet",
                hint="from model.transfer_net import TransferNet; build returns one",
            )
        return net

    return checked


def _input(path: Path, given: Any) -> SampleSpec:
    if isinstance(given, dict) and "shape" in given:
        return _tensor(path, given)
    known = {field.name for field in fields(InputSpec)}
    if not isinstance(given, dict) or not set(given) <= known:
        raise UsageError(f"{path}: INPUT is {given!r}, wanted a dict with some of {sorted(known)}")
    settings = {**_INPUT, **given}
    if isinstance(settings["size_px"], int):
        settings.setdefault("resize_px", round(settings["size_px"] * 256 / 224))
    try:
        spec = msgspec.convert(settings, InputSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: INPUT: {error}") from error
    if not 1 <= spec.size_px <= spec.resize_px <= 4096 or not all(s > 0 for s in spec.std):
        raise UsageError(f"{path}: INPUT: wanted 1 <= size_px <= resize_px <= 4096 and std above 0")
    return spec


def _tensor(path: Path, given: dict[str, Any]) -> TensorSpec:
    known = {"shape", "dtype", "mean", "std"}
    if not set(given) <= known:
        raise UsageError(f"{path}: INPUT is {given!r}, wanted a dict with some of {sorted(known)}")
    settings = dict(given)
    for name in ("mean", "std"):
        if isinstance(settings.get(name), int | float):
            settings[name] = (settings[name],)
    try:
        spec = msgspec.convert(settings, TensorSpec)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{path}: INPUT: {error}", hint='for example {"shape": (1, 28, 28)}'
        ) from error
    if found := tensor_problems(spec):
        raise UsageError(f"{path}: INPUT: {'; '.join(found)}")
    return spec


def _failed(path: Path, what: str, error: Exception) -> UsageError:
    lines = str(error).splitlines()
    said = lines[0] if lines else ""
    return UsageError(
        f"{path}: {what} failed: {type(error).__name__}: {said}",
        hint="--debug shows where",
    )

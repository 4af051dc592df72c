"""The delegates by name: where each one runs, what it computes with, and how to get it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from tod.errors import DeviceError, TodWarning, UsageError
from tod.runtime.delegates.runner import Graph, Runner
from tod.runtime.engine import CPU, providers
from tod.system.machine import install, instructions

CPU_NAME = "cpu"
LITERT = "litert"
OPENVINO = "openvino"


@dataclass(frozen=True)
class Choice:
    """Who is to compute.

    Attributes:
        names: of delegates, in the order in which they are tried; empty for the one that fits the
            file. A later one takes over where an earlier one is not installed or cannot load the
            graph: only who names it gets it. Nothing takes over in the middle of the work, because
            the features of two delegates are not the same.
        bf16: compute in bf16 instead of float32: faster, with about three digits.
    """

    names: tuple[str, ...] = ()
    bf16: bool = False


DEFAULT = Choice()


@dataclass(frozen=True)
class Delegate:
    """Who computes a graph.

    Attributes:
        platforms: where it runs.
        precisions: what it computes with.
        install: how to get it.
        provider: onnxruntime's execution provider; empty for a library of its own.
        module: the library otherwise.
    """

    platforms: str
    precisions: str
    install: str
    provider: str = ""
    module: str = ""


# Platforms and precisions as the makers state them: onnxruntime.ai/docs/execution-providers and
# docs.openvino.ai. A wheel of onnxruntime holds the providers that it was built with, no others.
DELEGATES: dict[str, Delegate] = {
    CPU_NAME: Delegate("all", "float32, int8", "pip install onnxruntime", CPU),
    OPENVINO: Delegate(
        "Intel x86-64, Arm64", "float32, bf16", install(OPENVINO), module="openvino"
    ),
    LITERT: Delegate(
        "Linux, macOS, Windows; .tflite files", "float32, float16, int8",
        install("tflite"), module="ai_edge_litert",
    ),
    "xnnpack": Delegate(
        "Arm, x86-64", "float32", "build onnxruntime with --use_xnnpack; Android's package has it",
        "XnnpackExecutionProvider",
    ),
    "nnapi": Delegate(
        "Android 8.1 or newer", "float32, float16, int8", "onnxruntime's package for Android",
        "NnapiExecutionProvider",
    ),
    "coreml": Delegate(
        "macOS, iOS", "float32, float16", "pip install onnxruntime (on macOS)",
        "CoreMLExecutionProvider",
    ),
    "cuda": Delegate(
        "NVIDIA, x86-64", "float32, float16", "pip install onnxruntime-gpu",
        "CUDAExecutionProvider",
    ),
    "tensorrt": Delegate(
        "NVIDIA, x86-64", "float32, float16, int8", "pip install onnxruntime-gpu and TensorRT",
        "TensorrtExecutionProvider",
    ),
    "qnn": Delegate(
        "Snapdragon", "float16, int8", "pip install onnxruntime-qnn", "QNNExecutionProvider"
    ),
    "webgpu": Delegate(
        "Windows, macOS, Linux", "float32, float16", "build onnxruntime with --use_webgpu",
        "WebGpuExecutionProvider",
    ),
    "directml": Delegate(
        "Windows 10 or newer", "float32, float16", "pip install onnxruntime-directml",
        "DmlExecutionProvider",
    ),
    "acl": Delegate(
        "Arm", "float32", "build onnxruntime with --use_acl", "ACLExecutionProvider"
    ),
}  # fmt: skip


def available() -> dict[str, bool]:
    """Which delegates are installed here."""
    built = providers()
    return {
        name: each.provider in built if each.provider else find_spec(each.module) is not None
        for name, each in DELEGATES.items()
    }


def names_in(text: str) -> tuple[str, ...]:
    """The names of delegates in a text with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def installed(names: Iterable[str]) -> tuple[str, ...]:
    """Those that are installed here, in their order; a warning tells of each of the others.

    Raises:
        UsageError: no delegate has this name.
        DeviceError: not one is installed; what is here, and how to get it.
    """
    wanted, here = tuple(name.lower() for name in names), available()
    for name in wanted:
        if name not in DELEGATES:
            near = difflib.get_close_matches(name, DELEGATES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"engine {name!r} is none of {', '.join(DELEGATES)}", hint=hint + _here(here)
            )
    found = tuple(name for name in wanted if here[name])
    if wanted and not found:
        how = "; ".join(f"{name}: {DELEGATES[name].install}" for name in wanted)
        raise DeviceError(
            f"the engine {' or '.join(wanted)} is not installed here", hint=f"{how}; {_here(here)}"
        )
    for name in wanted:
        if name not in found:
            _passed_over(name, "it is not installed here")
    return found


def open_runner(
    graph: Graph,
    choice: Choice = DEFAULT,
    *,
    threads: int,
    parallel: int = 1,
    others: Iterable[object] = (),
) -> Runner:
    """A graph in the first delegate that can load it; a warning tells of those before it.

    Args:
        graph: an ONNX file or a TFLite one.
        choice: who is asked.
        threads: for one run.
        parallel: runs that are made at once.
        others: delegates that LiteRT has loaded, passed on to it.

    Raises:
        UsageError: a delegate for another kind of file, or none that exists.
        DeviceError: none of them can load it.
    """
    is_tflite = graph.is_tflite
    names = installed(choice.names) or (LITERT if is_tflite else CPU_NAME,)
    reading = [name for name in names if (name == LITERT) == is_tflite]
    if not reading:
        kind = "a TFLite" if is_tflite else "an ONNX or ORT"
        raise UsageError(
            f"{graph.name}: the engine {', '.join(names)} does not read {kind} file",
            hint="leave it away, or convert the model: tod convert --to "
            f"{'onnx' if is_tflite else 'tflite'}",
        )
    *first, last = reading
    for name in first:
        try:
            return _open(graph, name, choice.bf16, threads, parallel, others)
        except DeviceError as error:
            _passed_over(name, error.problem)
    return _open(graph, last, choice.bf16, threads, parallel, others)


def _open(
    graph: Graph, name: str, bf16: bool, threads: int, parallel: int, others: Iterable[object]
) -> Runner:
    # Each of these loads a library.
    if name == LITERT:
        from tod.runtime.delegates.litert import LiteRtRunner

        if bf16:
            raise UsageError(f"{graph.name}: the engine {LITERT} does not compute in bf16")
        return LiteRtRunner(graph.data, graph.name, threads, list(others))
    if name == OPENVINO:
        from tod.runtime.delegates.openvino import OpenVinoRunner

        return OpenVinoRunner(graph.data, graph.name, threads, parallel=parallel, bf16=bf16)
    from tod.runtime.delegates.onnx import OnnxRunner

    if bf16 and (name != CPU_NAME or "bf16" not in instructions()):
        other = ", or try --engine openvino" if available()[OPENVINO] else ""
        raise DeviceError(
            "onnxruntime computes in bf16 only on Arm processors that have it",
            hint=f"leave --precision away{other}",
        )
    return OnnxRunner(graph.data, graph.name, threads, DELEGATES[name].provider, bf16=bf16)


def _here(here: dict[str, bool]) -> str:
    return f"here are: {', '.join(name for name, there in here.items() if there)}"


def _passed_over(name: str, reason: str) -> None:
    warnings.warn(f"the engine {name} is passed over: {reason}", TodWarning, stacklevel=2)

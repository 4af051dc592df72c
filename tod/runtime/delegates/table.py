"""The delegates by name: where each one runs, what it computes with, and how to get it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

from tod.errors import DeviceError, UsageError
from tod.runtime.delegates.runner import Graph, Runner
from tod.runtime.engine import CPU, providers
from tod.system.machine import install

CPU_NAME = "cpu"
LITERT = "litert"
OPENVINO = "openvino"
_TFLITE_MAGIC = b"TFL3"


@dataclass(frozen=True)
class Choice:
    """Who is to compute.

    Attributes:
        names: of delegates, in the order in which they are tried; empty for the one that fits the
            file. A later one takes over where an earlier one cannot load the graph: only who names
            it gets it.
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


def check(names: Iterable[str]) -> None:
    """Refuse delegates that do not exist, or are not installed.

    Raises:
        UsageError: no delegate has this name.
        DeviceError: it is not installed; what is here, and how to get it.
    """
    here = available()
    for name in names:
        if name not in DELEGATES:
            raise UsageError(f"engine {name!r} is none of {', '.join(DELEGATES)}", hint=_here(here))
        if not here[name]:
            raise DeviceError(
                f"the engine {name} is not installed here", hint=f"{DELEGATES[name].install}; "
                f"{_here(here)}",
            )  # fmt: skip


def open_runner(
    graph: Graph,
    choice: Choice = DEFAULT,
    *,
    threads: int,
    parallel: int = 1,
    others: Iterable[object] = (),
) -> Runner:
    """A graph in the first delegate that can load it.

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
    is_tflite = graph.data[4:8] == _TFLITE_MAGIC
    names = choice.names or (LITERT if is_tflite else CPU_NAME,)
    check(names)
    for name in names:
        if (name == LITERT) != is_tflite:
            kind = "a TFLite" if is_tflite else "an ONNX or ORT"
            raise UsageError(
                f"{graph.name}: the engine {name} does not read {kind} file",
                hint="leave it away, or convert the model: tod convert --to "
                f"{'onnx' if is_tflite else 'tflite'}",
            )
    *first, last = names
    for name in first:
        with suppress(DeviceError):
            return _open(graph, name, choice.bf16, threads, parallel, others)
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

    return OnnxRunner(graph.data, graph.name, threads, DELEGATES[name].provider, bf16=bf16)


def _here(here: dict[str, bool]) -> str:
    return f"here are: {', '.join(name for name, there in here.items() if there)}"

"""Run the three graphs: arrays in, arrays out. The only user of onnxruntime.

Knows graph and tensor names; knows no files, pictures or classes.
Axes: N pictures, B batch, C classes, S side in pixels.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import DeviceError, first_line
from tod.format.arrays import Arrays
from tod.runtime.delegates.runner import Runner

# Called with the graph name, its inputs and its outputs by name; `net_runner -v` prints them.
Observer = Callable[[str, Arrays, Arrays], None]
CPU = "CPUExecutionProvider"


class Engine:
    """The graphs of one artifact in onnxruntime, each loaded when it is first used.

    By default `features.onnx` runs in one thread, because callers run several batches at once (see
    `tod.runtime.features`).

    Args:
        graphs: ONNX bytes by name.
        threads: for a step and a prediction. A head's step is too short for several threads: with
            two threads on two cores it takes 1.3 to 1.7 times as long at batch 32. A step with
            convolutions takes half as long (docs/performance.md).
        features_threads: for one run of `features.onnx`.
        frozen: `features.onnx` in another delegate.
        observe: called after each run.
    """

    def __init__(
        self,
        graphs: Mapping[str, bytes],
        *,
        threads: int = 1,
        features_threads: int = 1,
        frozen: Runner | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._frozen = frozen
        self._graphs = graphs
        self.threads = threads
        self._features_threads = features_threads
        self._observe = observe
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    def load(self, graph: str) -> None:
        """Make the runtime's session of a graph now, not when it is first used."""
        if graph != "features.onnx" or self._frozen is None:
            self._session(graph)

    @property
    def frozen_library(self) -> str:
        """What computes `features.onnx`: name, version and settings."""
        return self._frozen.library if self._frozen else f"onnxruntime {runtime_version()}"

    def features(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """The frozen part: pixels [N, S, S, 3], or other samples, -> [N, ...]. May be called from
        several threads at once."""
        (name,) = self.input_names("features.onnx")
        outputs = self.run("features.onnx", {name: samples})
        features: NDArray[np.float32] = outputs["features"]
        return features

    def input_names(self, graph: str) -> list[str]:
        """The names of a graph's inputs."""
        if graph == "features.onnx" and self._frozen is not None:
            return [detail.name for detail in self._frozen.inputs]
        return [value.name for value in self._session(graph)[0].get_inputs()]

    def step(
        self, tensors: Arrays, inputs: Arrays
    ) -> tuple[dict[str, NDArray[Any]], float, NDArray[np.float32]]:
        """One training step.

        Args:
            tensors: every tensor that the step changes.
            inputs: the other inputs of `train.onnx`, see `Manifest.train_inputs`.

        Returns:
            The next value of every tensor; the loss before the step; the logits [B, C].
        """
        outputs = self.run("train.onnx", {**tensors, **inputs})
        # np.asarray keeps a 0-d output of onnxruntime a 0-d array.
        after = {name: np.asarray(outputs[f"next.{name}"]) for name in tensors}
        return after, float(outputs["loss"]), outputs["logits"]

    def predict(self, parameters: Arrays, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [B, C] of features [B, ...]."""
        logits: NDArray[np.float32] = self.run(
            "predict.onnx", {**parameters, "features": features}
        )["logits"]
        return logits

    def run(self, graph: str, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Run one graph: every input by name -> every output by name.

        Raises:
            DeviceError: onnxruntime cannot load or run it here.
        """
        try:
            if graph == "features.onnx" and self._frozen is not None:
                results = self._frozen.run(feeds)
            else:
                session, outputs = self._session(graph)
                results = dict(zip(outputs, session.run(None, feeds), strict=True))
        except DeviceError:
            raise
        except Exception as error:  # onnxruntime's errors share no base class but this
            raise DeviceError(f"{graph} failed in onnxruntime: {first_line(error)}") from error
        if self._observe:
            self._observe(graph, feeds, results)
        return results

    def _session(self, graph: str) -> tuple[Any, list[str]]:
        with self._lock:
            if graph not in self._sessions:
                features = graph == "features.onnx"
                threads = self._features_threads if features else self.threads
                session = open_session(self._graphs[graph], graph, threads)
                self._sessions[graph] = (session, [output.name for output in session.get_outputs()])
            entry: tuple[Any, list[str]] = self._sessions[graph]
            return entry


@dataclass(frozen=True)
class OperatorTime:
    """Time of all calls of one operator, over all its nodes."""

    operator: str
    calls: int
    total_ms: float


def operator_times(
    data: bytes, graph: str, feeds: Arrays, *, runs: int, threads: int = 1
) -> list[OperatorTime]:
    """Time of each operator, by onnxruntime's own profiler; the slowest first.

    The operators are those after onnxruntime's optimization: it fuses some, and adds others that
    change the layout. The profiler itself takes time, most for short operators.

    Args:
        data: the graph.
        graph: its name.
        feeds: every input by name.
        runs: the number of measured runs; a warm-up run before them is not counted.
        threads: for a run.
    """
    with tempfile.TemporaryDirectory(prefix="tod-profile-") as folder:
        session = open_session(data, graph, threads, profile=str(Path(folder, "run")))
        for _ in range(1 + runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    counted_from = sorted(e["ts"] for e in events if e["name"] == "model_run")[1]
    found: dict[str, list[float]] = {}
    for event in events:
        if event["name"].endswith("_kernel_time") and event["ts"] >= counted_from:
            found.setdefault(event["args"]["op_name"], []).append(event["dur"] / 1e3)
    times = [OperatorTime(name, len(took), sum(took)) for name, took in found.items()]
    return sorted(times, key=lambda time: time.total_ms, reverse=True)


def runtime_version() -> str:
    """The version of onnxruntime on this machine."""
    import onnxruntime

    return str(onnxruntime.__version__)


def check_runtime(minimum: str) -> None:
    """Raise DeviceError when onnxruntime here is older than a model's least version."""
    found = runtime_version()
    if _version(found) < _version(minimum):
        raise DeviceError(
            f"this model wants onnxruntime {minimum} or newer, here is {found}",
            hint="pip install --upgrade onnxruntime",
        )


def providers() -> tuple[str, ...]:
    """The execution providers that the installed onnxruntime was built with."""
    return tuple(_onnxruntime().get_available_providers())


def texts_of(data: bytes, graph: str) -> dict[str, str]:
    """The metadata of a model in onnxruntime's own format (ORT), which only onnxruntime reads."""
    session = open_session(data, graph, 1)
    return dict(session.get_modelmeta().custom_metadata_map)


def open_session(
    data: bytes,
    graph: str,
    threads: int,
    *,
    provider: str = CPU,
    bf16: bool = False,
    profile: str | None = None,
) -> Any:
    """A graph in onnxruntime, ready to run.

    Args:
        data: the ONNX file.
        graph: its name, for messages.
        threads: for one run.
        provider: the execution provider that computes; nodes that it does not know are computed
            by the CPU's.
        bf16: multiply matrices in bf16, on Arm processors that have it.
        profile: the beginning of the name of the profiler's file.

    Raises:
        DeviceError: onnxruntime cannot load it, or the provider does not start here.
    """
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Every error is raised, so onnxruntime need not print it on the terminal too.
    options.log_severity_level = 4
    if bf16:
        options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    try:
        # While loading, onnxruntime would compute every node whose inputs are constants; a few such
        # nodes can need gigabytes. Without that our graphs are as fast and give the same bits.
        session = onnxruntime.InferenceSession(
            data,
            options,
            providers=list(dict.fromkeys((provider, CPU))),
            disabled_optimizers=["ConstantFolding"],
        )
    except Exception as error:  # onnxruntime's errors share no base class but this
        raise DeviceError(
            f"onnxruntime {onnxruntime.__version__} cannot load {graph}: {first_line(error)}",
            hint="run 'tod verify' on the file; upgrade onnxruntime if its version is too old",
        ) from error
    # A provider whose driver is missing is dropped by onnxruntime without an error.
    if session.get_providers()[0] != provider:
        raise DeviceError(
            f"onnxruntime {onnxruntime.__version__} cannot start {provider} for {graph}",
            hint="look whether its driver is installed; --engine cpu runs everywhere",
        )
    session.disable_fallback()
    return session


def _onnxruntime() -> Any:
    # Loading onnxruntime takes longer than `--help` may.
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"onnxruntime cannot be loaded: {error}", hint="pip install onnxruntime"
        ) from error
    return onnxruntime


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())

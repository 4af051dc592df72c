"""`tod doctor`: can this machine train, and what is in the way?

Every check gives one finding. Files of the machine are read below `root`, which is "/" except in
tests.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from tod.data.image import decodable
from tod.data.tensors import random_samples
from tod.errors import TodError
from tod.format.artifact import Artifact
from tod.format.manifest import Manifest
from tod.runtime.delegates.runner import Graph
from tod.runtime.delegates.table import available
from tod.runtime.delegates.trial import try_all
from tod.runtime.engine import check_runtime, runtime_version
from tod.runtime.features import BATCH
from tod.runtime.verify import run_vectors
from tod.system import machine

Kind = Literal["ok", "warn", "wrong"]
# Python with numpy, Pillow and onnxruntime, before any model is loaded: 60 to 90 MB were measured.
_BARE_MB = 100
# Memory for decoding a picture: the largest allowed one takes 270 MB, a usual one far less.
_DECODE_MB = 40
_HOT_CELSIUS = 80
_LOW_PERCENT = 20
# Clocks without a battery start in 1970, or when their system was built.
_PLAUSIBLE_YEAR = 2025
_KNOWN_MACHINES = ("x86_64", "AMD64", "aarch64", "arm64")
_GLIBC = (2, 28)
_TRIAL_SECONDS = 0.5


@dataclass(frozen=True)
class Finding:
    name: str
    value: str
    verdict: Kind = "ok"
    advice: str = ""


def examine(
    artifact: Artifact | None, root: Path = Path("/"), sensors: Path | None = None
) -> Iterator[Finding]:
    """Look at everything that training here depends on.

    Args:
        artifact: the model that is to be trained here; without one only the machine is checked.
        root: where the machine's own files are.
        sensors: where the files of power and temperature are, if not below `root`.
    """
    yield _architecture(root)
    yield Finding("Python", platform.python_version())  # TOD cannot be installed on less than 3.10
    yield _libc(root)
    yield _runtime(artifact)
    yield Finding("numpy", metadata.version("numpy"))
    yield _pillow()
    yield _cores(root)
    yield _memory(artifact, root)
    yield _disk(artifact)
    yield _clock(artifact, time.time())
    yield _power(sensors or root)
    yield _temperature(sensors or root)
    if artifact is not None:
        yield _vectors(artifact)
    yield from _engines(artifact, machine.available_cores(root))


def overall(findings: list[Finding]) -> Kind:
    """The worst verdict of all."""
    order: tuple[Kind, ...] = ("ok", "warn", "wrong")
    return max((finding.verdict for finding in findings), key=order.index)


def needed_mb(manifest: Manifest, graph_bytes: int, threads: int) -> float:
    """A rough estimate of the memory that training takes, in units of 10^6 bytes.

    The sum of the bare program, the graphs twice (in the file, and as the runtime lays them out),
    the memory of a step, and for each thread a batch of pictures with its activations in the frozen
    part, taken as 16 times the pixels in float32. EfficientNet-Lite0 and B0 with two threads took
    201 and 249 MB (docs/performance.md); this estimate says 255 and 260.
    """
    picture_mb = math.prod(manifest.samples.shape) * 4 * 16 / 1e6
    each_thread = _DECODE_MB + BATCH * picture_mb
    return _BARE_MB + 2 * graph_bytes / 1e6 + manifest.step_bytes / 1e6 + threads * each_thread


def _architecture(root: Path) -> Finding:
    value = machine.processor(root)
    if platform.machine() not in _KNOWN_MACHINES or sys.maxsize < 1 << 32:
        advice = "onnxruntime has packages for 64-bit x86 and Arm only; use a 64-bit system"
        return Finding("processor", value, "warn", advice)
    return Finding("processor", value)


def _libc(root: Path) -> Finding:
    value = machine.libc(root)
    name, _, version = value.partition(" ")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if name == "glibc" and numbers < _GLIBC:
        advice = "packages of onnxruntime want glibc 2.28; 'tod package' brings its own"
        return Finding("C library", value, "warn", advice)
    if name in ("musl", "bionic"):
        advice = "onnxruntime's packages are made for glibc; 'tod package' brings its own"
        return Finding("C library", value, "warn", advice)
    return Finding("C library", value)


def _runtime(artifact: Artifact | None) -> Finding:
    try:
        value = runtime_version()
        if artifact is not None:
            m = artifact.manifest
            wants = f"the model wants {m.min_onnxruntime} (opset {m.opset}, IR {m.ir_version})"
            value = f"{value}; {wants}"
            check_runtime(m.min_onnxruntime)
    except ImportError as error:
        return Finding("onnxruntime", f"{error}", "wrong", "pip install onnxruntime")
    except TodError as error:
        return Finding("onnxruntime", value, "wrong", error.hint)
    return Finding("onnxruntime", value)


def _pillow() -> Finding:
    found = decodable()
    value = f"{metadata.version('pillow')}; reads {', '.join(n for n, can in found.items() if can)}"
    if missing := [name for name, can in found.items() if not can]:
        advice = f"it cannot read {', '.join(missing)}: pip install --upgrade pillow"
        worst = {"JPEG", "PNG", "BMP"} & set(missing)
        return Finding("Pillow", value, "wrong" if worst else "warn", advice)
    return Finding("Pillow", value)


def _cores(root: Path) -> Finding:
    cores, limit = machine.usable_cores(), machine.cores_limit(root)
    value = f"{cores} usable of {os.cpu_count() or cores}"
    if limit is not None and limit < cores:
        threads = machine.available_cores(root)
        advice = f"it works in {threads} of them at once; a higher limit makes it faster"
        return Finding("cores", f"{value}, time of {limit:g}", "warn", advice)
    return Finding("cores", value)


def _memory(artifact: Artifact | None, root: Path) -> Finding:
    found, limit = machine.memory_mb(root), machine.memory_limit_mb(root)
    if found is None:
        return Finding("memory", "not reported")
    total, available = found
    value = f"{available:,.0f} MB available of {total:,.0f} MB"
    if limit is not None and limit < total:
        value += f", limited to {limit:,.0f} MB"
        available = min(available, limit)
    if artifact is None:
        return Finding("memory", value)
    graph_bytes = sum(map(len, artifact.graphs.values()))
    threads = machine.available_cores(root)
    wanted = needed_mb(artifact.manifest, graph_bytes, threads)
    value += f"; training takes about {wanted:,.0f} MB with {threads} threads"
    if available >= 1.2 * wanted:
        return Finding("memory", value)
    least = needed_mb(artifact.manifest, graph_bytes, 1)
    advice = f"close other programs, or train with -t 1 (about {least:,.0f} MB)"
    return Finding("memory", value, "warn" if available >= least else "wrong", advice)


def _disk(artifact: Artifact | None) -> Finding:
    folder = Path() if artifact is None else artifact.path.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        advice = "results are written beside the model: make the folder writable, or give -o"
        return Finding("disk", f"{folder.resolve()} cannot be written to", "wrong", advice)
    free = shutil.disk_usage(folder).free
    value = f"{free / 1e6:,.0f} MB free in {folder.resolve()}"
    # Room for two models: the earlier one stays until the trained one is written.
    wanted = 100e6 if artifact is None else 2 * artifact.path.stat().st_size + 20e6
    if free < wanted:
        advice = f"free some room: {wanted / 1e6:,.0f} MB are wanted"
        return Finding("disk", value, "wrong" if artifact else "warn", advice)
    return Finding("disk", value)


def _clock(artifact: Artifact | None, now: float) -> Finding:
    value = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    made = 0.0 if artifact is None else artifact.path.stat().st_mtime
    if time.gmtime(now).tm_year < _PLAUSIBLE_YEAR or made > now + 86400:
        advice = "set it (date -s, or a time server), or files seem older than they are"
        return Finding("clock", value, "warn", advice)
    return Finding("clock", value)


def _power(root: Path) -> Finding:
    online, percent = machine.mains_online(root), machine.battery_percent(root)
    battery = "" if percent is None else f"battery {percent:.0f} %"
    if online is None:
        return Finding("power", battery or "not reported")
    value = ", ".join(filter(None, ["mains" if online else "no mains", battery]))
    if not online:
        low = percent is not None and percent < _LOW_PERCENT
        advice = "plug it in before training" if low else "plug it in for a long training"
        return Finding("power", value, "warn", advice)
    return Finding("power", value)


def _temperature(root: Path) -> Finding:
    celsius = machine.temperature_celsius(root)
    if celsius is None:
        return Finding("temperature", "not reported")
    if celsius >= _HOT_CELSIUS:
        advice = "let it cool down: a hot processor slows down"
        return Finding("temperature", f"{celsius:.0f} C", "warn", advice)
    return Finding("temperature", f"{celsius:.0f} C")


def _engines(artifact: Artifact | None, cores: int) -> Iterator[Finding]:
    """Say which engines are here; with a model, how fast and how exact its frozen part is."""
    if artifact is None:
        here = ", ".join(name for name, there in available().items() if there)
        yield Finding("engines", f"{here} (--engine)")
        return
    pixels = random_samples(artifact.manifest.samples, BATCH)
    graph = Graph(artifact.graphs["features.onnx"], "features.onnx")
    for trial in try_all(graph, pixels, cores=cores, seconds=_TRIAL_SECONDS):
        name = f"engine {trial.name}"
        if trial.problem:
            yield Finding(name, trial.problem, "warn", "use another one with --engine")
        else:
            rate = f"{trial.pictures_per_second:,.0f} pictures a second"
            yield Finding(name, f"{rate}, least cosine {trial.cosine:.6f} to cpu")


def _vectors(artifact: Artifact) -> Finding:
    """Check that the graphs compute here what they computed on the workstation."""
    try:
        verdicts = run_vectors(artifact)
    except TodError as error:
        return Finding("test vectors", error.problem, "wrong", error.hint)
    value = ", ".join(f"{v.graph} off by {v.difference:.1e}" for v in verdicts)
    if all(v.difference <= v.allowed for v in verdicts):
        return Finding("test vectors", value)
    return Finding("test vectors", value, "wrong", "try another version of onnxruntime")

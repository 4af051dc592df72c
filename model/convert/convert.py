"""A trained .tod file in the format of another runtime: made, compared, and written if it is right.

The files of every format take pixels uint8 [N, S, S, 3] and give probabilities (or values): the
normalisation is inside. Nothing is written that answers worse than allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.convert import comparison, runners, samples, static_graph
from model.convert.comparison import Answers, Measured, Sample
from model.convert.fewer_bits import Search, quantized
from model.convert.runners import Format, Runner
from model.reduce.calibration import Pictures
from model.reduce.sensitivity import Progress
from tod.data.dataset import Dataset
from tod.errors import ConvertedWorse, TrainingError, UsageError
from tod.format.manifest import Manifest
from tod.runtime.model import Model

if TYPE_CHECKING:  # it loads torch
    from model.convert.to_nntrainer import Target

Bits = Literal["none", "dynamic", "weights", "int8", "fp16"]
FORMATS: tuple[Format, ...] = ("onnx", "ort", "tflite", "torch", "nntrainer")
SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx", "ort": ".ort", "tflite": ".tflite", "torch": ".pt", "nntrainer": ".bin",
}  # fmt: skip
# Without fewer bits the answers differ by the order of additions only: by far less than this share
# of the largest.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Asked:
    """What is to be made.

    Attributes:
        format: of the file.
        variants: one file for each.
        max_drop: how much worse a file may be, see `drop`.
        calibrate: pictures that quantization looks at; None: those of `data`, or made by rule.
        data: pictures to compare on, as the model numbers its classes; None: those of `calibrate`,
            or made by rule.
        name: of the file, without its suffix.
        nntrainer: the INI file, for that format alone.
    """

    format: Format
    variants: Sequence[Bits]
    max_drop: float
    calibrate: Dataset | None = None
    data: Dataset | None = None
    name: str = "model"
    nntrainer: Target | None = None


@dataclass(frozen=True)
class Reports:
    """What is told while it works: pictures done, layers done, and short texts."""

    pictures: Progress = lambda done, total: None
    layers: Progress = lambda done, total: None
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Variant:
    """One converted file.

    Attributes:
        files: its bytes by the suffix of their name.
        layers: how many have weights; `float_layers` are those that stayed in float.
        drop: see `drop`.
        problem: why it must not be written; None: it may.
    """

    bits: Bits
    files: dict[str, bytes]
    measured: Measured
    float_layers: tuple[str, ...]
    drop: float
    problem: str | None


@dataclass(frozen=True)
class Conversion:
    """All variants beside the original, and what they were compared on."""

    original: Measured
    variants: tuple[Variant, ...]
    source: str
    metric: str
    network: str


def convert(model: Model, asked: Asked, reports: Reports | None = None) -> Conversion:
    """Make the files and compare them; writes nothing.

    Args:
        model: with its classes.
        asked: what to make.
        reports: told of long work.

    Raises:
        UsageError: an operator that the format cannot hold, or bits that it does not have.
        DataError: no pictures can be read.
        TrainingError: the model itself gives no finite answers.
    """
    reports = reports or Reports()
    check(asked.format, asked.variants)
    data, manifest = model.inference_graph(), model.manifest
    sample = samples.to_compare(
        asked.data or asked.calibrate, manifest.samples, labels=asked.data is not None
    )
    work = _Work(model, data, asked, reports, sample)
    work.check_operators()
    original = comparison.answers(runners.open_file("onnx", data), sample.pixels, reports.pictures)
    if not np.isfinite(original.rows).all():
        raise TrainingError(
            f"{model.artifact.path}: what the model computes for a picture is not finite; nothing "
            "was written",
            hint="train it again with a smaller learning rate",
        )
    # Of the file that the user gave: the ONNX form of it exists only here.
    size_bytes = model.artifact.path.stat().st_size
    before = work.measure(size_bytes, original, original)
    made = tuple(work.variant(bits, original, before) for bits in asked.variants)
    metric = "R2" if manifest.loss.task == "regression" else "accuracy"
    return Conversion(before, made, sample.source, metric, work.network)


def check(format_: Format, variants: Sequence[Bits]) -> None:
    """Refuse bits that a format does not have."""
    fewer = [bits for bits in variants if bits != "none"]
    if format_ in ("torch", "nntrainer") and fewer:
        raise UsageError(
            f"--to {format_} is in float32: --quantize {fewer[0]} does not go with it",
            hint="take --to tflite or --to onnx for a smaller file",
        )
    if format_ != "tflite" and "weights" in variants:
        raise UsageError(
            f"--quantize weights goes with --to tflite, not with --to {format_}",
            hint="take --quantize dynamic or fp16",
        )


def drop(before: Measured, after: Measured) -> float:
    """How much worse a file is: in accuracy, where labels are known; else the share of pictures
    with another answer; of numbers without labels, what the cosine lacks to 1."""
    if before.accuracy is not None and after.accuracy is not None:
        return before.accuracy - after.accuracy
    if after.agreement is not None:
        return 1 - after.agreement
    return 1 - after.cosine


def refuse_worse(found: Conversion, max_drop: float) -> None:
    """Say which variants were not written.

    Raises:
        ConvertedWorse: at least one.
    """
    wrong = [f"{v.bits}: {v.problem}" for v in found.variants if v.problem]
    if wrong:
        was = "it was not written" if len(wrong) == 1 else "they were not written"
        raise ConvertedWorse(
            f"{'; '.join(wrong)}; on {found.source}; {was}",
            hint="give pictures like those of the device (--calibrate DIR, -d DATA), take other "
            f"bits, or allow more than --max-drop {max_drop:g}",
        )


@dataclass(frozen=True)
class _Work:
    """What the variants of one conversion share."""

    model: Model
    data: bytes
    asked: Asked
    reports: Reports
    sample: Sample

    @property
    def manifest(self) -> Manifest:
        return self.model.manifest

    def measure(self, size_bytes: int, after: Answers, before: Answers) -> Measured:
        task, count = self.manifest.loss.task, len(self.model.classes or ())
        return comparison.compare(size_bytes, after, before, self.sample, task, count)

    def check_operators(self) -> None:
        """Before anything long."""
        if self.asked.format == "tflite":
            from model.convert import to_tflite

            to_tflite.convert(self._static())
        if self.asked.format == "torch":
            from model.convert import to_torch

            to_torch.check(self._static(self.model.parameters))

    def variant(self, bits: Bits, original: Answers, before: Measured) -> Variant:
        files, kept = {
            "onnx": self._onnx, "ort": self._ort, "tflite": self._tflite, "torch": self._torch,
            "nntrainer": self._nntrainer,
        }[self.asked.format](bits)  # fmt: skip
        words = "float32" if bits == "none" else bits
        self.reports.say(f"comparing {words} with the original on {self.sample.source}")
        whole = b"\0".join(files.values()) if len(files) > 1 else next(iter(files.values()))
        run = self._open(whole)
        after = comparison.answers(run, self.sample.pixels, self.reports.pictures)
        size = sum(map(len, files.values()))
        measured = self.measure(size, after, original)
        lost = drop(before, measured)
        problem = self._problem(bits, measured, lost, after, original)
        return Variant(bits, files, measured, kept, lost, problem)

    def _problem(
        self, bits: Bits, measured: Measured, lost: float, after: Answers, original: Answers
    ) -> str | None:
        if not np.isfinite(after.rows).all():
            return "its answers are not finite"
        exact = bits == "none" and self.manifest.backbone.precision != "int8"
        if exact and measured.largest > _ROUNDING * float(np.abs(original.rows).max()):
            return f"its answers differ by {measured.largest:.2g}, which is no rounding"
        if lost > self.asked.max_drop:
            return f"it is worse by {lost:.4f}, allowed are {self.asked.max_drop:g}"
        return None

    def _onnx(self, bits: Bits) -> tuple[dict[str, bytes], tuple[str, ...]]:
        data, kept = self._onnx_bits(bits)
        return {".onnx": data}, kept

    def _ort(self, bits: Bits) -> tuple[dict[str, bytes], tuple[str, ...]]:
        from model.convert import to_onnx

        data, kept = self._onnx_bits(bits)
        return {".ort": to_onnx.ort(data, fold=bits != "fp16")}, kept

    def _onnx_bits(self, bits: Bits) -> tuple[bytes, tuple[str, ...]]:
        if bits == "none":
            return self.data, ()
        from model.convert import to_onnx

        self._check_float()
        if bits == "fp16":
            return to_onnx.float16(self.data), ()
        search = self._search("onnx", self.data, bits)
        if bits == "dynamic":
            return to_onnx.dynamic(self.data, search)
        return to_onnx.int8(self.data, self.manifest.samples, search)

    def _check_float(self) -> None:
        if self.manifest.backbone.precision == "int8":
            raise UsageError(
                f"{self.model.artifact.path}: its frozen part is in int8 already; --to "
                f"{self.asked.format} takes it as it is",
                hint="leave --quantize away, or take --to tflite, which quantizes it anew",
            )

    def _tflite(self, bits: Bits) -> tuple[dict[str, bytes], tuple[str, ...]]:
        from model.convert import tflite_metadata, to_tflite

        data = to_tflite.convert(self._static())
        made, kept = self._tflite_bits(data, bits)
        manifest = self.manifest
        about = tflite_metadata.Described(
            self.network,
            self.model.classes or (), manifest.samples, manifest.loss.task,
        )  # fmt: skip
        return {".tflite": tflite_metadata.described(made, about)}, kept

    def _tflite_bits(self, data: bytes, bits: Bits) -> tuple[bytes, tuple[str, ...]]:
        from model.convert import tflite_quantize

        if bits == "none":
            return data, ()
        if bits == "fp16":
            return tflite_quantize.quantized(data, "float16"), ()
        search, kind = self._search("tflite", data, bits), bits
        found = None
        if kind == "int8":
            calibrating = search.pictures.pixels[: search.pictures.calibrating]
            found = tflite_quantize.ranges(data, calibrating)

        def make(kept: Collection[str]) -> bytes:
            return tflite_quantize.quantized(data, kind, found=found, float_layers=kept)

        return quantized(search, tflite_quantize.layers(data), make)

    def _torch(self, bits: Bits) -> tuple[dict[str, bytes], tuple[str, ...]]:
        from model.convert import to_torch

        parameters = self.model.parameters
        about = to_torch.About(self.network, self.model.classes or (), self.asked.name)
        return to_torch.convert(self._static(parameters), parameters, about), ()

    def _nntrainer(self, bits: Bits) -> tuple[dict[str, bytes], tuple[str, ...]]:
        from model.convert import to_nntrainer

        assert self.asked.nntrainer is not None
        parameters = self.model.parameters
        return {".bin": to_nntrainer.convert(self.asked.nntrainer, self.manifest, parameters)}, ()

    def _open(self, data: bytes) -> Runner:
        if self.asked.nntrainer is None:
            return runners.open_file(self.asked.format, data)
        from model.convert import to_nntrainer

        return to_nntrainer.runner(self.asked.nntrainer, data, self.manifest.loss.task)

    @property
    def network(self) -> str:
        return f"{self.manifest.backbone.name} with {self.manifest.head}"

    def _static(self, variable: Collection[str] = ()) -> static_graph.StaticGraph:
        return static_graph.of(self.data, variable=variable)

    @cached_property
    def _pictures(self) -> Pictures:
        return samples.for_calibration(
            self.asked.calibrate or self.asked.data, self.manifest.samples
        )

    def _search(self, format_: Format, data: bytes, bits: Bits) -> Search:
        pictures = self._pictures
        looking = f", looking at {pictures.calibrating} pictures" if bits == "int8" else ""
        self.reports.say(f"quantizing ({bits}){looking}")
        run = runners.open_file(format_, data)
        held_out = pictures.pixels[pictures.calibrating :]
        before = comparison.answers(run, held_out).rows
        return Search(
            pictures, before, self.manifest.loss.task,
            lambda made: runners.open_file(format_, made),
            self.reports.layers, self.reports.say,
        )  # fmt: skip


def write_names(output: Path, variants: Sequence[Bits]) -> dict[Bits, Path]:
    """Where each variant goes: to the name itself if it is the only one, else to one with the
    bits in it."""
    if len(variants) == 1:
        return {variants[0]: output}
    names = {"none": "float32"}
    return {
        bits: output.with_name(f"{output.stem}_{names.get(bits, bits)}{output.suffix}")
        for bits in variants
    }

"""What a .tod file is, what its export measured, and what a cache keeps; for people."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tod.format import artifact as artifacts
from tod.format import manifest
from tod.format.artifact import Artifact
from tod.promotion.generations import Event, Shelf, look
from tod.report.tables import print_pairs, print_table
from tod.runtime.feature_cache import cache_files, cache_folder


def describe(artifact: Artifact, *, as_json: bool) -> None:
    """Print what a file declares; as JSON, the manifest itself."""
    if as_json:
        print(manifest.encode(artifact.manifest).decode(), end="")
        return
    print_pairs(str(artifact.path), _pairs(artifact))
    tensors = artifact.manifest.tensors
    rows = [(t.name, " x ".join(map(str, t.shape)) or "scalar", t.dtype, t.role) for t in tensors]
    print_table("tensors", ("name", "shape", "dtype", "role"), rows)
    members = artifact.manifest.members.items()
    sizes = [(n, f"{m.bytes:,}", m.sha256[:16]) for n, m in members]
    print_table("members", ("name", "bytes", "SHA-256"), sizes)
    history = [
        (
            str(e.cycles), str(e.kept_cycle), f"{e.lr:g}", str(e.seed), e.stopped,
            _ratio(e.test_accuracy), _ratio(e.validation_accuracy),
        )
        for e in artifact.manifest.history
    ]  # fmt: skip
    if history:
        columns = ("cycles", "kept", "lr", "seed", "ended by", "test", "validation")
        print_table("history", columns, history)


def describe_export(made: Any) -> None:
    """Print what an export made and measured, a `model.export.Exported`."""
    found = made.differences
    print_pairs(
        f"{made.path}: {made.file_bytes / 1e6:.1f} MB, agrees with torch",
        [
            ("frozen part", f"{found.features:.1e} relative difference of its features"),
            ("split", f"{found.split:.1e} between the whole network and its two parts"),
            ("loss", f"{found.loss:.1e} over 20 steps"),
            ("gradients", f"{found.gradients:.1e}"),
            ("parameters", f"{found.parameters:.1e}"),
            ("logits", f"{found.logits:.1e} after the steps"),
            *_boundary_pairs(made.manifest),
        ],
    )
    if made.reduced is None:
        return
    parity, kind = made.reduced.parity, made.manifest.backbone.precision
    speed = (f"{made.reduced.before_ms:.2f}", f"{made.reduced.after_ms:.2f}")
    rows = [*_parity_rows(parity), ("ms a picture, one thread, batch 8", *speed)]
    source = "made by rule" if parity.data_sha256 is None else "of the calibration data"
    title = f"the frozen part in {kind}, on {parity.pictures} pictures {source}, held out:"
    print_table(title, ("", "float32", kind), rows)
    if parity.agreement is None:
        print("notice: no class is known, so no head could be compared", file=sys.stderr)
    if parity.float_layers:
        print(f"in float ({len(parity.float_layers)} of {parity.layers} layers):")
        print("\n".join(f"  {layer}" for layer in parity.float_layers))


def describe_cache(folder: Path, *, as_json: bool) -> None:
    """Print which features a cache folder keeps."""
    place = cache_folder(folder)
    files = cache_files(place)
    if as_json:
        rows = [{**asdict(file), "path": str(file.path)} for file in files]
        print(msgspec.json.encode(rows).decode())
        return
    total_bytes = sum(file.file_bytes for file in files)
    table = [
        (
            file.path.name,
            f"{file.rows:,}",
            f"{file.file_bytes:,}",
            " x ".join(map(str, file.origin["shape"])) if file.origin else "not readable",
            str(file.origin.get("graph", ""))[:16],
            f"{file.origin.get('runtime', '')}, {file.origin.get('processor', '')}",
        )
        for file in files
    ]
    print_table(
        f"{place}: {len(files)} file{'s' * (len(files) != 1)}, {total_bytes:,} bytes",
        ("file", "rows", "bytes", "features", "features.onnx", "computed with"),
        table,
    )


def _pairs(artifact: Artifact) -> list[tuple[str, str]]:
    m = artifact.manifest
    names = ", ".join(m.class_names) if m.class_names else "chosen on the device"
    hyper = ", ".join(f"{k} {v:g}" for k, v in m.optimizer.hyperparameters.items())
    pairs = [
        ("kind", m.kind + (f" of {m.base}" if m.base else "")),
        ("classes", f"{m.class_count}: {names}" if m.class_count else names),
        ("backbone", m.backbone.name),
        ("head", m.head),
        (
            "weights",
            f"{m.backbone.weights.source}; licence: {m.backbone.weights.licence or 'none'}",
        ),
        *_boundary_pairs(m),
        ("precision", _precision(m.backbone)),
        ("input", _input(m.input)),
        ("loss", _loss(m.loss)),
        ("optimizer", f"{m.optimizer.name}, lr {m.optimizer.lr:g}, {hyper}{_more(m.optimizer)}"),
        ("schedule", str(m.optimizer.schedule)),
        ("batch size", f"{m.batch_size}" + (f" x {m.accumulate}" if m.accumulate else "")),
        (
            "runs on",
            f"onnxruntime {m.min_onnxruntime} or newer (opset {m.opset}, IR {m.ir_version})",
        ),
        ("signed by", "nobody" if artifact.signature is None else artifact.signature.key),
        ("built with", ", ".join(f"{k} {v}" for k, v in m.built_with.items())),
    ]
    if m.run is not None:
        best = f", best test accuracy {_ratio(m.run.best_accuracy)} at cycle {m.run.best_cycle}"
        pairs.append(("run", f"cycle {m.run.cycle} of {m.run.cycles}, seed {m.run.seed}{best}"))
    return pairs


def _boundary_pairs(m: manifest.Manifest) -> list[tuple[str, str]]:
    """Where the frozen part ends and what that costs."""
    shape = m.backbone.feature_shape
    kib = 4 * int(np.prod(shape)) / 1024
    fixed = [t for t in m.parameters if manifest.CLASSES_AXIS not in t.shape]
    trainable = sum(int(np.prod(t.resolve(1))) for t in fixed)
    rows = [t for t in m.parameters if manifest.CLASSES_AXIS in t.shape]
    if m.class_count is not None:
        trainable += sum(int(np.prod(t.resolve(m.class_count))) for t in rows)
        counted = f"{trainable:,}"
    else:
        each = sum(int(np.prod(t.resolve(1))) for t in rows)
        counted = " and ".join(
            [f"{trainable:,}"] * bool(trainable) + [f"{each:,} per class"] * bool(each)
        )
    return [
        ("trainable", f"{m.trainable}: {counted} parameters; {m.backbone.parameters:,} frozen"),
        (
            "boundary",
            f"after {m.backbone.boundary}: {' x '.join(map(str, shape))} numbers, {kib:,.1f} KiB "
            "for a picture",
        ),
        ("memory", f"about {m.step_bytes / 1e6:,.1f} MB for a step of {m.batch_size} pictures"),
    ]


def _precision(backbone: manifest.Backbone) -> str:
    """Of the frozen part, and what it costs."""
    parity = backbone.parity
    if parity is None:
        return f"{backbone.precision} frozen part"
    kept = f", {len(parity.float_layers)} of {parity.layers} layers in float"
    return (
        f"{backbone.precision} frozen part{kept if backbone.precision == 'int8' else ''}; cosine "
        f"of its features to float32 {parity.cosine:.4f}, at least {parity.least_cosine:.4f}"
    )


def _parity_rows(parity: manifest.Parity) -> list[tuple[str, str, str]]:
    """What was measured, of float32 and of fewer bits: for a table."""
    rows = [("bytes of features.onnx", f"{parity.bytes_before:,}", f"{parity.bytes_after:,}")]
    rows.append(("cosine of the features, mean", "", f"{parity.cosine:.4f}"))
    rows.append(("cosine, least", "", f"{parity.least_cosine:.4f}"))
    if parity.agreement is not None:
        rows.append(("top-1 of one head, agreement", "", f"{parity.agreement:.4f}"))
        before, after = _ratio(parity.accuracy_before), _ratio(parity.accuracy_after)
        rows.append(("accuracy of a head trained on each", before, after))
    return rows


def _input(spec: manifest.InputSpec) -> str:
    crop = f", centre of {spec.resize_px} px" if spec.crop == "center" else ", the whole picture"
    return f"{spec.size_px} px{crop}, {spec.interpolation}, {spec.colour}"


def _loss(loss: manifest.Loss) -> str:
    smoothing = f", label smoothing {loss.label_smoothing:g}" if loss.label_smoothing else ""
    weights = loss.class_weights
    if isinstance(weights, tuple):
        weights = " ".join(f"{weight:g}" for weight in weights)  # type: ignore[assignment]
    return loss.name + smoothing + (f", class weights {weights}" if weights else "")


def _more(optimizer: manifest.Optimizer) -> str:
    share = optimizer.backbone_lr
    below = f", backbone {optimizer.lr * share:g}" if share != 1 else ""
    clip = f", gradients clipped to {optimizer.clip_norm:g}" if optimizer.clip_norm else ""
    return below + clip + (", decay of biases and norms" if optimizer.decay_all else "")


def describe_generations(served: Path, *, as_json: bool) -> None:
    """Print the generations of a served file; as JSON, every change with its scores.

    Raises:
        ArtifactError: there is neither the file nor a generation of it; or what serves is none of
            them, and damaged, said below the generations that can take its place.
    """
    shelf = look(served)
    if not shelf.events:
        artifacts.read(served)
    for notice in shelf.notices:
        print(f"notice: {notice}", file=sys.stderr)
    if as_json:
        found = {
            "served": str(shelf.served), "sha256": shelf.sha256, "generation": shelf.generation,
            "kept": {number: str(path) for number, path in shelf.kept.items()},
            "events": shelf.events,
        }  # fmt: skip
        print(msgspec.json.encode(found).decode())
    elif shelf.events:
        _print_generations(shelf)
    else:
        print(f"{served}: nothing was promoted yet")
    if shelf.generation is None and shelf.sha256 is not None:
        artifacts.read(served)


def _print_generations(shelf: Shelf) -> None:
    rows = [
        (
            str(number), _minute(event.when), event.what, *_scores(event), event.sha256[:8],
            "serves" if number == shelf.generation
            else "kept" if number in shelf.kept else "removed",
        )
        for number, event in sorted(shelf.introduced.items())
    ]  # fmt: skip
    columns = ("no.", "since", "how", "accuracy", "before", "answers", "SHA-256", "state")
    print_table(str(shelf.served), columns, rows, dense=True)  # so that it fits 80 columns


def _minute(when: str) -> str:
    """A moment of the log as this machine's clock shows it; "-" where the log does not say it."""
    try:
        return f"{datetime.fromisoformat(when).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return "-"


def _scores(event: Event) -> tuple[str, str, str]:
    s = event.scores
    return (
        ("-",) * 3 if s is None else (_ratio(s.accuracy), _ratio(s.served_accuracy), str(s.total))
    )


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

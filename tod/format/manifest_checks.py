"""Read a manifest from JSON and check its rules: ranges, limits, no contradictions.

The allowed values of one field are declared at the field (`tod.format.manifest`); rules between
several fields are checked here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from tod.errors import ArtifactError
from tod.format.manifest import CLASSES_AXIS, GRAPHS, SCHEMAS, Manifest, TensorSpec
from tod.system.text import record_problems

# 20 times the manifest of 365 classes; enough for a run every night for ten years, or 50,000
# classes.
_MAX_JSON_BYTES = 4 << 20
_SHOWN = 8  # of many problems
_MAX_STATE_BYTES = 1 << 30  # the limit of a member
_MAX_STEP = 1 << 20  # pictures in a step, which is drawn and computed as a whole


def decode(data: bytes, *, where: str) -> Manifest:
    """Parse and check a manifest.

    Args:
        data: JSON bytes.
        where: the file's name, for error messages.

    Raises:
        ArtifactError: not a manifest, a newer schema, or contradictory values.
    """
    check_size(len(data), where=where)
    try:
        # Only declared fields are decoded, so that the rest takes no memory.
        header = msgspec.json.decode(data, type=_Header)
        if header.format != "tod":
            raise ArtifactError(f"{where}: the manifest does not declare the format 'tod'")
        if header.schema not in SCHEMAS:
            raise ArtifactError(
                f"{where}: it has schema {header.schema}, this program reads 1 to {SCHEMAS[-1]}",
                hint="upgrade tod on this machine, or export again with this version",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{where}: the manifest is not valid: {error}") from error
    found = list(record_problems(manifest)) or _contradictions(manifest)
    if found:
        text = "; ".join(found[:_SHOWN])
        raise ArtifactError(f"{where}: the manifest contradicts itself: {text}")
    return manifest


def check_size(json_bytes: int, *, where: str) -> None:
    """Refuse a manifest that is too long before it is read."""
    if json_bytes > _MAX_JSON_BYTES:
        raise ArtifactError(
            f"{where}: the manifest has {json_bytes:,} bytes, at most {_MAX_JSON_BYTES:,} are read"
        )


@dataclass(frozen=True)
class _Header:
    format: str = ""
    schema: int = 0


def problems(manifest: Manifest) -> list[str]:
    """Say why a manifest made in memory could not be read again; empty if it could."""
    if found := list(record_problems(manifest)):
        return found
    try:
        # The ranges of the fields are checked only when JSON is decoded.
        msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
    except msgspec.MsgspecError as error:
        return [str(error)]
    return _contradictions(manifest)


def _contradictions(manifest: Manifest) -> list[str]:
    """Find contradictions between the fields of a manifest."""
    # Stop here, because sizes above a limit would make the other checks useless or slow.
    if found := _size_problems(manifest):
        return found
    found = _run_problems(manifest)
    names = [tensor.name for tensor in manifest.tensors]
    if len(set(names)) != len(names):
        found.append("two tensors have the same name")
    if not manifest.parameters:
        found.append("no tensor is trainable")
    if set(manifest.members) != {*GRAPHS, "state.safetensors", "vectors.safetensors"}:
        found.append(f"it lists the members {sorted(manifest.members)}")
    if manifest.class_names is not None:
        if manifest.class_count != len(manifest.class_names):
            found.append("class_count differs from the number of class_names")
        if len(set(manifest.class_names)) != len(manifest.class_names):
            found.append("two classes have the same name")
    least = 2 if manifest.loss.task == "single-label" else 1
    if manifest.class_count is not None and manifest.class_count < least:
        found.append(f"{manifest.class_count} classes; at least {least} are needed")
    found += _sample_problems(manifest)
    weights = manifest.loss.class_weights
    if isinstance(weights, tuple) and len(weights) != manifest.class_count:
        found.append(f"{len(weights)} class weights for {manifest.class_count} classes")
    if (manifest.backbone.precision == "float32") != (manifest.backbone.parity is None):
        found.append("precision and parity of the frozen part do not fit together")
    if manifest.base is not None and (
        manifest.base in (".", "..") or set(manifest.base) & set("/\\")
    ):
        found.append(f"its base {manifest.base!r} is not a file name")
    if manifest.kind == "checkpoint" and (manifest.run is None or manifest.class_names is None):
        found.append("a checkpoint without its run or its classes")
    return found


def _sample_problems(manifest: Manifest) -> list[str]:
    """Find contradictions in what a sample is."""
    if (manifest.input is None) == (manifest.tensor is None):
        return ["its samples are neither pictures nor tensors, or both"]
    if (spec := manifest.input) is not None:
        found = [f"input {spec.size_px} px of {spec.resize_px} px"]
        return found if spec.size_px > spec.resize_px else []
    assert manifest.tensor is not None
    return tensor_problems(manifest.tensor)


def tensor_problems(spec: TensorSpec) -> list[str]:
    """Say why a sample of this kind cannot be; empty if it can."""
    found = []
    if math.prod(spec.shape) > 1 << 28:
        found.append(f"a sample has {math.prod(spec.shape):,} numbers")
    for name, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, spec.shape[0]):
            found.append(f"{name} has {len(values)} numbers, wanted 1 or {spec.shape[0]}")
    if not all(0 < value < math.inf for value in spec.std):
        found.append("std is not above 0")
    for names in (spec.inputs, spec.target):
        if len(set(names)) != len(names):
            found.append("two columns have the same name")
    return found


def _size_problems(manifest: Manifest) -> list[str]:
    """Find arrays that are too large for a file of this format or for a device."""
    found, total_bytes = [], 0
    for tensor in manifest.tensors:
        axes = [axis for axis in tensor.shape if isinstance(axis, int)]
        if any(axis != CLASSES_AXIS and axis not in axes for axis in tensor.shape) or any(
            not 0 < axis <= 1 << 28 for axis in axes
        ):
            found.append(f"{tensor.name} has the shape {tensor.shape[:_SHOWN]}")
        elif len(tensor.shape) > _SHOWN:
            found.append(f"{tensor.name} has {len(tensor.shape)} axes")
        else:
            count = math.prod(tensor.resolve(manifest.class_count or 1))
            total_bytes += count * (8 if tensor.dtype == "int64" else 4)
    if total_bytes > _MAX_STATE_BYTES:
        found.append(f"its tensors have {total_bytes:,} bytes")
    if (manifest.schema == 2) != (manifest.tensor is not None):
        found.append(f"schema {manifest.schema} does not fit its samples")
    inputs = {"features": manifest.backbone.feature_shape} | {
        n.name: n.shape for n in manifest.noise
    }
    for name, shape in inputs.items():
        if len(shape) > _SHOWN or not all(0 < axis <= 1 << 28 for axis in shape):
            found.append(f"{name} has the shape {shape[:_SHOWN]}")
        elif math.prod(shape) > 1 << 28:
            found.append(f"{name} has {math.prod(shape):,} numbers")
    return found


def _run_problems(manifest: Manifest) -> list[str]:
    """Find settings that make training impossible."""
    found = []
    steps = {"batch_size": (manifest.batch_size, manifest.accumulate or 1)}
    schedules = [manifest.optimizer.schedule]
    if (run := manifest.run) is not None:
        steps["run.batch_size"] = run.batch_size, run.accumulate
        schedules.append(run.schedule)
    for name, (size, count) in steps.items():
        if size < 1 or count < 1 or size * count > _MAX_STEP:
            found.append(f"{name} is {size} (x {count}), wanted 1 to {_MAX_STEP:,} in all")
    found += [f"the schedule {s} has {wrong}" for s in schedules if (wrong := s.problem)]
    return found

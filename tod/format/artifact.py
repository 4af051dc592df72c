"""The .tod file: open, verify, write whole. docs/format.md describes the format.

A ZIP of stored members (`tod.format.container`): `manifest.json`, three ONNX graphs,
`vectors.safetensors` with inputs and expected outputs, `state.safetensors`, and `signature.json` if
it is signed. A *slim* checkpoint holds only manifest and state. The rest is in its base, a whole
.tod file beside it with the same graphs. Reading checks sizes, hashes, names, shapes, dtypes, opset
and operators before anything is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError
from tod.format import container, graph, manifest_checks, signature
from tod.format import manifest as manifests
from tod.format.arrays import (
    TRAINED_ON,
    Arrays,
    arrays_from_bytes,
    arrays_to_bytes,
    check_arrays,
    check_trained_on,
)
from tod.format.manifest import GRAPHS, Manifest, Member
from tod.format.signature import Signature
from tod.system.files import write_whole

MANIFEST, STATE, VECTORS = "manifest.json", "state.safetensors", "vectors.safetensors"
SIGNATURE = "signature.json"
_MEMBERS = (MANIFEST, *GRAPHS, VECTORS, STATE)
_SLIM_MEMBERS = (MANIFEST, STATE)


@dataclass(frozen=True)
class Artifact:
    """A verified .tod file.

    Attributes:
        path: the file.
        manifest: what it declares.
        graphs: ONNX bytes by name, see `tod.format.manifest.GRAPHS`.
        state: the stored arrays.
        vectors: `vectors.safetensors`, undecoded; see `test_vectors`.
        source: the whole model that a slim checkpoint beside it can refer to, if there is one.
        signature: who signed the file, according to the file; a newly written file has none.
        trained_on: which pictures the model was trained on, see `tod.data.trained_on`.
    """

    path: Path
    manifest: Manifest
    graphs: Mapping[str, bytes]
    state: Arrays
    vectors: bytes
    source: Path | None = None
    signature: Signature | None = None
    trained_on: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))

    def test_vectors(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Decode the vectors: graph name -> tensor name -> array, for inputs and expected
        outputs."""
        nested: dict[str, dict[str, NDArray[Any]]] = {}
        for key, array in arrays_from_bytes(self.vectors, where=f"{self.path}: {VECTORS}").items():
            graph_name, _, tensor = key.partition("/")
            nested.setdefault(graph_name, {})[tensor] = array
        return nested


def read_manifest(path: str | Path) -> Manifest:
    """Read a file's manifest and check its members against it. Neither graphs nor the base of a
    slim checkpoint are read.

    Raises:
        ArtifactError: no such file, damaged, foreign or too new.
    """
    return _read_members(Path(path))[0]


def read(
    path: str | Path, *, require_signature: Path | None = None, continues: Path | None = None
) -> Artifact:
    """Open and verify a .tod file; a slim checkpoint together with its base.

    Args:
        path: the file.
        require_signature: a public key; a file that was not signed with it is refused.
        continues: the signed model from which this device trained the checkpoint `path`; the
            signature of that model is checked instead.

    Raises:
        ArtifactError: no such file, damaged, foreign, too new, not signed as required, or its base
            is not beside it.
        DeviceError: signatures cannot be checked here.
        UsageError: the file does not hold such a key.
    """
    path = Path(path)
    manifest, members = _read_members(path)
    signed = members.pop(SIGNATURE, None)
    found = None if signed is None else signature.decode(signed, where=str(path))
    if require_signature is not None and continues is None:
        key = signature.read_public_key(require_signature)
        signature.verify_signature(found, members[MANIFEST], key, where=str(path))
    source = path if manifest.kind == "model" else None
    if GRAPHS[0] not in members:
        if manifest.kind != "checkpoint":
            raise ArtifactError(f"{path}: it is a model without its graphs: members are missing")
        source, base_members = _find_base(path, manifest)
        members = {**base_members, **members}
    state = arrays_from_bytes(members[STATE], where=f"{path}: {STATE}")
    trained_on = state.pop(TRAINED_ON, np.empty(0, np.uint32))
    trained_on = check_trained_on(trained_on, where=f"{path}: {STATE}")
    check_arrays(manifest, state, where=str(path))
    graphs = {name: members[name] for name in GRAPHS}
    for name, data in graphs.items():
        _check_graph(manifest, name, graph.inspect(data, where=f"{path}: {name}"), str(path))
    artifact = Artifact(path, manifest, graphs, state, members[VECTORS], source, found, trained_on)
    if require_signature is not None and continues is not None:
        _check_own_work(read(continues, require_signature=require_signature), artifact)
    return artifact


def is_trained_from(found: Manifest, model: Manifest) -> bool:
    """Tell whether a manifest differs from a model's only in what training changes."""
    tensor = found.tensor
    if tensor is not None and model.tensor is not None:
        tensor = replace(tensor, inputs=model.tensor.inputs, target=model.tensor.target)
    same = replace(
        found, kind=model.kind, base=model.base, run=model.run, history=model.history,
        class_count=model.class_count, class_names=model.class_names, tensor=tensor,
        members={**found.members, STATE: model.members[STATE]},
    )  # fmt: skip
    return same == model


def _check_own_work(signed: Artifact, checkpoint: Artifact) -> None:
    """Refuse a checkpoint that differs from the signed model in more than its numbers. A device
    cannot sign its own checkpoints; they are safe as mere data for the signed graphs."""
    if not is_trained_from(checkpoint.manifest, signed.manifest):
        raise ArtifactError(
            f"{checkpoint.path}: it is not signed, and not what {signed.path}, which is, was "
            "trained to",
            hint="continue only what this model was trained to, or have the file signed",
        )


def signed(path: Path, key_file: Path) -> tuple[bytes, Signature]:
    """Sign a .tod file and replace an earlier signature; all else stays as it is.

    Args:
        path: the file to sign, which is verified first.
        key_file: an Ed25519 private key.

    Raises:
        ArtifactError: it is not a good .tod file.
        DeviceError: signing is not possible on this machine.
        UsageError: the file does not hold such a key.
    """
    key = signature.read_private_key(key_file)
    read(path)
    _, members = _read_members(path)
    members[SIGNATURE] = signature.sign(members[MANIFEST], key)
    data = container.pack([(n, members[n]) for n in (*_MEMBERS, SIGNATURE) if n in members])
    return data, signature.decode(members[SIGNATURE], where=str(path))


def sign(path: Path, key_file: Path, output: Path) -> Signature:
    """Write the signed file; with `path` as `output` the file is signed in place."""
    data, made = signed(path, key_file)
    write_bytes(output, data)
    return made


def write(artifact: Artifact, *, slim: bool = False) -> Manifest:
    """Write a .tod file whole; the same content gives the same bytes.

    Args:
        artifact: what to write, and where. Its manifest's table of members is made here.
        slim: leave out what the base holds.

    Returns:
        The manifest as written.

    Raises:
        ArtifactError: it cannot be written; a file that was there is untouched.
    """
    manifest, data = packed(artifact, slim=slim)
    write_bytes(artifact.path, data)
    return manifest


def packed(artifact: Artifact, *, slim: bool = False) -> tuple[Manifest, bytes]:
    """Return what `write` writes: the manifest, and the whole file."""
    known = {TRAINED_ON: artifact.trained_on} if len(artifact.trained_on) else {}
    state = arrays_to_bytes({**artifact.state, **known})
    members = {**artifact.graphs, VECTORS: artifact.vectors, STATE: state}
    table = {name: Member(len(data), _sha256(data)) for name, data in sorted(members.items())}
    manifest = replace(artifact.manifest, members=table)
    members[MANIFEST] = manifests.encode(manifest)
    # A manifest that could not be read again must not be written.
    manifest_checks.decode(members[MANIFEST], where=str(artifact.path))
    names = _SLIM_MEMBERS if slim else _MEMBERS
    return manifest, container.pack([(name, members[name]) for name in names])


def training_of(path: Path) -> tuple[bytes, bytes]:
    """The two members of a whole file that training changes: manifest and state, as they are.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    _, members = _read_members(path)
    return members[MANIFEST], members[STATE]


def with_training(model: Path, manifest: bytes, state: bytes) -> bytes:
    """A whole file: the graphs and vectors of a model, and what training made of the rest.

    Args:
        model: whole.
        manifest, state: see `training_of`.

    Raises:
        ArtifactError: the model is damaged, or the two belong to another one.
    """
    known, members = _read_members(model)
    found = manifest_checks.decode(manifest, where="the trained model")
    if not is_trained_from(found, known):
        raise ArtifactError(
            f"what came is not {model} trained: more than its parameters differs",
            hint="train the file that was sent out",
        )
    if found.members[STATE] != Member(len(state), _sha256(state)):
        raise ArtifactError("the parameters that came are not those that its manifest describes")
    made = {**members, MANIFEST: manifest, STATE: state}
    return container.pack([(name, made[name]) for name in _MEMBERS])


def write_bytes(path: Path, data: bytes) -> None:
    """Write a .tod file that is packed already, whole or not at all.

    Raises:
        ArtifactError: it cannot be written; a file that was there is untouched.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="give another place with -o, or free some room",
        ) from error


def _read_members(
    path: Path, *, base_of: Mapping[str, Member] | None = None
) -> tuple[Manifest, dict[str, bytes]]:
    """Read manifest and members of one file, and check every byte. With `base_of`, the file must be
    a whole model with these members; otherwise it is refused before the rest is read."""
    with container.opened(path) as file:
        entries = container.walk(file, (*_MEMBERS, SIGNATURE), where=str(path))
        # The manifest comes first, so a wrong file is refused before the rest is read.
        found = [next(entries)]
        manifest = _manifest(file, found[0], path)
        allowed = [_MEMBERS, _SLIM_MEMBERS]
        if base_of is not None:
            if manifest.kind != "model" or base_of.items() - manifest.members.items():
                raise ArtifactError(f"{path}: it is another model")
            allowed = [_MEMBERS]
        for entry in entries:
            member = Member(entry.size_bytes, entry.sha256)
            if entry.name != SIGNATURE and member != manifest.members[entry.name]:
                raise ArtifactError(
                    f"{path}: member {entry.name} is not what the manifest describes",
                    hint="the file is damaged or was put together from several; copy it again",
                )
            found.append(entry)
        names = tuple(entry.name for entry in found if entry.name != SIGNATURE)
        if names not in allowed:
            raise ArtifactError(f"{path}: it holds {', '.join(names)}; members are missing")
        return manifest, {e.name: container.content(file, e, where=str(path)) for e in found}


def _manifest(file: BinaryIO, entry: container.Entry, path: Path) -> Manifest:
    if entry.name != MANIFEST:
        raise ArtifactError(f"{path}: not a readable .tod file: it begins with {entry.name}")
    manifest_checks.check_size(entry.size_bytes, where=str(path))
    return manifest_checks.decode(container.content(file, entry, where=str(path)), where=str(path))


def _find_base(path: Path, manifest: Manifest) -> tuple[Path, dict[str, bytes]]:
    """The graphs and vectors that a slim checkpoint leaves out, from a file beside it.

    Any whole artifact with these graphs serves: the hashes decide, the recorded name only comes
    first.
    """
    wanted = {name: member for name, member in manifest.members.items() if name != STATE}
    named = [path.with_name(manifest.base)] if manifest.base else []
    problem = f"is not in {path.parent.resolve()}"
    for candidate in dict.fromkeys([*named, *sorted(path.parent.glob("*.tod"))]):
        try:
            _, members = _read_members(candidate, base_of=wanted)
        except ArtifactError as error:  # neighbours may be anything
            if candidate in named and candidate.exists():
                problem = f"cannot be used: {error.problem}"
        else:
            return candidate, {name: members[name] for name in wanted}
    raise ArtifactError(
        f"{path}: its base {manifest.base} {problem}",
        hint="a checkpoint holds no graphs; put the .tod file it was trained from beside it",
    )


def _check_graph(manifest: Manifest, name: str, info: graph.GraphInfo, where: str) -> None:
    """Check that a graph's inputs and outputs are those that the manifest's table implies."""
    changing = [tensor.name for tensor in manifest.tensors]
    model = [tensor.name for tensor in manifest.model]
    wanted_in, wanted_out = {
        "features.onnx": ([manifest.samples.name], ["features"]),
        "train.onnx": (
            [*manifest.train_inputs(), *changing],
            ["loss", "logits", *(f"next.{tensor}" for tensor in changing)],
        ),
        "predict.onnx": (["features", *model], ["logits"]),
    }[name]
    for kind, wanted, found in (("in", wanted_in, info.inputs), ("out", wanted_out, info.outputs)):
        if set(wanted) != set(found):
            raise ArtifactError(
                f"{where}: {name} has the {kind}puts {sorted(found)}, wanted {sorted(wanted)}"
            )
    for tensor in manifest.tensors:
        declared = info.inputs.get(tensor.name)
        if declared and (
            declared.dtype != tensor.dtype or len(declared.shape) != len(tensor.shape)
        ):
            raise ArtifactError(f"{where}: {name} takes {tensor.name} as {declared}, not {tensor}")
    if (info.opset, info.ir_version) != (manifest.opset, manifest.ir_version):
        raise ArtifactError(
            f"{where}: {name} has opset {info.opset} and IR {info.ir_version}, the manifest "
            f"says {manifest.opset} and {manifest.ir_version}"
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""The command `tod verify`: check that this machine computes what the workstation computed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.errors import DeviceError
from tod.report.tables import print_table

if TYPE_CHECKING:
    from tod.format.artifact import Artifact


def verify(
    file: Annotated[Path, typer.Argument(help="A .tod file.")],
    require_signature: options.RequireSignature = None,
    as_json: options.AsArray = False,
) -> None:
    """Check hashes, structure and operators, and run the file's test vectors on this machine.

    Example: tod verify transfer_learning.tod
    """
    from tod.format import artifact

    verify_artifact(
        artifact.read(file, require_signature=require_signature), as_json=as_json,
        signature_checked=require_signature is not None,
    )  # fmt: skip


def verify_artifact(artifact: Artifact, *, as_json: bool, signature_checked: bool = False) -> None:
    """Run the test vectors here and print how far the results are off.

    Args:
        artifact: a verified file.
        as_json: one JSON array instead of a table.
        signature_checked: its signature was required, and is right.

    Raises:
        DeviceError: the runtime is too old, or a result differs by more than is allowed.
    """
    import msgspec

    from tod.runtime.engine import check_runtime, runtime_version
    from tod.runtime.verify import run_vectors

    check_runtime(artifact.manifest.min_onnxruntime)
    verdicts = run_vectors(artifact)
    if as_json:
        # Repeat this in every entry, so that the array holds only graphs.
        signed_by = artifact.signature and artifact.signature.key
        signed = {"signed_by": signed_by, "signature_checked": signature_checked}
        print(msgspec.json.encode([{**asdict(v), **signed} for v in verdicts]).decode())
    else:
        rows = [(v.graph, str(v.operators), f"{v.difference:.1e}") for v in verdicts]
        print_table(
            f"{artifact.path}: hashes, structure and operators are right; "
            f"test vectors in onnxruntime {runtime_version()}:",
            ("graph", "operators", "difference"),
            rows,
        )
        print(_signed(artifact, checked=signature_checked))
    wrong = [v for v in verdicts if not v.difference <= v.allowed]
    if wrong:
        found = ", ".join(
            f"{v.graph} by {v.difference:.2g} (at most {v.allowed:g} is right)" for v in wrong
        )
        raise DeviceError(
            f"this machine computes something else than the workstation: {found}, relative to the "
            "largest number",
            hint="try another version of onnxruntime",
        )


def _signed(artifact: Artifact, *, checked: bool) -> str:
    if artifact.signature is None:
        return "not signed"
    verdict = "right" if checked else "not checked, which --require-signature KEY.pub does"
    return f"signature of {artifact.signature.key}: {verdict}"

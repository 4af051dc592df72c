"""Show the result of `tod export` to people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tod.cli.info import boundary_pairs
from tod.report.tables import print_pairs, print_table, ratio

if TYPE_CHECKING:
    from tod.format.manifest import Parity


def print_export(made: Any) -> None:
    """Return the result as one JSON object."""
    import msgspec

    print(msgspec.json.encode({
        "path": str(made.path), "bytes": made.file_bytes, "differences": made.differences,
        "backbone": made.manifest.backbone,
    }).decode())  # fmt: skip


def describe_export(made: Any) -> None:
    """Print what an export made and measured, a `model.export.Exported`."""
    found, kind = made.differences, made.manifest.backbone.precision
    # The steps are compared before the frozen part is reduced; what that costs is in the table.
    agrees = "agrees with torch" if made.reduced is None else "agreed with torch while in float32"
    print_pairs(
        f"{made.path}: {made.file_bytes / 1e6:.1f} MB, {agrees}",
        [
            ("frozen part", f"{found.features:.1e} relative difference of its features"),
            ("split", f"{found.split:.1e} between the whole network and its two parts"),
            ("loss", f"{found.loss:.1e} over 20 steps"),
            ("gradients", f"{found.gradients:.1e}"),
            ("parameters", f"{found.parameters:.1e}"),
            ("logits", f"{found.logits:.1e} after the steps"),
            *boundary_pairs(made.manifest),
        ],
    )
    if made.reduced is None:
        return
    parity = made.reduced.parity
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


def _parity_rows(parity: Parity) -> list[tuple[str, str, str]]:
    """Make the rows of a table that compares float32 with the reduced precision."""
    rows = [("bytes of features.onnx", f"{parity.bytes_before:,}", f"{parity.bytes_after:,}")]
    rows.append(("cosine of the features, mean", "", f"{parity.cosine:.4f}"))
    rows.append(("cosine, least", "", f"{parity.least_cosine:.4f}"))
    if parity.agreement is not None:
        rows.append(("top-1 of one head, agreement", "", f"{parity.agreement:.4f}"))
        before, after = ratio(parity.accuracy_before), ratio(parity.accuracy_after)
        rows.append(("accuracy of a head trained on each", before, after))
    return rows

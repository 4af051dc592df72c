"""The command `tod doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tod.cli import options
from tod.errors import DeviceError


def doctor(
    model: Annotated[
        Path | None, typer.Argument(help="The .tod file that is to be trained here.")
    ] = None,
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
) -> None:
    """Can this machine train, and what is in the way? One line for each thing, the verdict last.

    Warnings do not fail; what is wrong ends with exit code 5.

    Example: tod doctor transfer_learning.tod
    """
    import msgspec

    from tod.format import artifact
    from tod.report.tables import print_findings
    from tod.runtime.doctor import examine, overall
    from tod.system import machine

    found = None if model is None else artifact.read(model, require_signature=require_signature)
    findings = list(examine(found, sensors=machine.sensors_root()))
    verdict = overall(findings)
    wrong = [finding for finding in findings if finding.verdict == "wrong"]
    if as_json:
        print(msgspec.json.encode({"verdict": verdict, "findings": findings}).decode())
    else:
        says = {
            "ok": "this machine can train",
            "warn": "this machine can train; see the warnings",
            "wrong": "this machine cannot train",
        }[verdict]
        rows = [(f.name, f.verdict, f.value, f.advice) for f in findings]
        print_findings("", [*rows, ("verdict", verdict, says, "")])
    if wrong:
        raise DeviceError(
            f"this machine cannot train: {', '.join(f.name for f in wrong)}", hint=wrong[0].advice
        )

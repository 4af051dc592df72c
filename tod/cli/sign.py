"""The command `tod sign`, for the workstation that holds the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tod.cli import options
from tod.system import outputs


def sign(
    file: Annotated[Path, typer.Argument(help="A .tod file of any kind.")],
    key: Annotated[
        Path, typer.Option("--key", help="An Ed25519 private key, of ssh-keygen or openssl.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The signed file (default: in place).")
    ] = None,
    as_json: options.AsOneJson = False,
) -> None:
    """Sign a .tod file, for devices that take no other: --require-signature tod-key.pub.

    A pair of keys is made by: ssh-keygen -t ed25519 -N '' -f tod-key

    Example: tod sign transfer_learning.tod --key tod-key
    """
    from tod.format import artifact, earlier

    place = output or file
    read = {"the key": key, "the file": None if output is None else file}
    outputs.check([outputs.Output("-o", place, ".tod" if output else "")], read)
    data, signature = artifact.signed(file, key)
    if output is None:
        artifact.write_bytes(file, data)
    else:
        earlier.write(output, data, what="signed", source=file)
    if as_json:
        print(json.dumps({"path": str(place), "key": signature.key}))
    else:
        print(f"{place}: signed by {signature.key}")

"""The command `tod sign`, for the workstation that holds the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tod.cli import options
from tod.cli.frame import check_writable


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
    from tod.format import artifact

    place = output or file
    check_writable(place)
    signature = artifact.sign(file, key, place)
    if as_json:
        print(json.dumps({"path": str(place), "key": signature.key}))
    else:
        print(f"{place}: signed by {signature.key}")

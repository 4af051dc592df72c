"""The command `tod merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tod.cli import options
from tod.errors import UsageError
from tod.system import outputs


def merge(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, with its base beside it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The whole model to make.")],
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
) -> None:
    """Make a whole model of a checkpoint, with its best state.

    Example: tod merge transfer_learning_trained_20.tod -o model.tod
    """
    from tod.format import earlier
    from tod.training.session import TrainSession

    session = TrainSession.load(checkpoint, require_signature=require_signature)
    if session.manifest.run is None:
        raise UsageError(f"{checkpoint} is no checkpoint: it is a whole model already")
    base = session.artifact.source
    outputs.check([outputs.Output("-o", output)], {"the checkpoint": checkpoint, "its base": base})
    session.state = session.state.restore_best()
    session.end_run("merged")
    earlier.write(output, session.packed(output), what="merged", source=checkpoint)
    if as_json:
        cycle = session.manifest.history[-1].kept_cycle
        print(json.dumps({"kind": "model", "path": str(output), "cycle": cycle}))
    else:
        print(f"saved model: {output}")

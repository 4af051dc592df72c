"""The commands `tod cache info` and `tod cache clear`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tod.cli import options
from tod.cli.frame import EPILOG
from tod.errors import DataError
from tod.report.tables import print_table

app = typer.Typer(
    no_args_is_help=True,
    epilog=EPILOG,
    help="""Features of pictures, computed once and kept on disk.

    Example: tod cache info dataset
    """,
)
_Folder = Annotated[
    Path, typer.Argument(help="A dataset, the folder of a model, or what --cache-dir named.")
]


@app.command("info", epilog=EPILOG)
def cache_info(
    folder: _Folder,
    as_json: options.AsArray = False,
) -> None:
    """Which features are kept, and what room they take.

    Example: tod cache info dataset
    """
    import msgspec

    from tod.runtime.cache_folder import cache_files, cache_folder

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


@app.command("clear", epilog=EPILOG)
def cache_clear(folder: _Folder, as_json: options.AsOneJson = False) -> None:
    """Remove the features that are kept; the next run looks at the pictures anew.

    Example: tod cache clear dataset
    """
    from tod.runtime.cache_folder import cache_folder, clear

    place = cache_folder(folder)
    try:
        removed = clear(place)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be removed: {error.strerror}") from error
    if as_json:
        print(json.dumps({"folder": str(place), "bytes": removed}))
    else:
        print(f"{place}: {removed:,} bytes removed")

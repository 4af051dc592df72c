"""`tod compare --layers`: the layers of a model beside those of the models made from it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tod.errors import PictureError, UsageError
from tod.report.tables import print_table

if TYPE_CHECKING:
    from tod.runtime.delegates.table import Choice
    from tod.runtime.layer_errors import LayerError

# Errors of layers are means over all numbers of a map: more pictures change the third digit.
_PICTURES = 32
_SHOWN = 12


def compare_layers(
    paths: Sequence[Path],
    data: Path,
    *,
    splits: bool,
    seed: int | None,
    cache: Path | bool,
    engine: Choice,
    threads: int,
    key: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print a table for each model but the first, which is the reference; see `tod compare`."""
    import msgspec

    from tod.data.dataset import Dataset
    from tod.data.given import Given, collect
    from tod.data.pictures import Picture, array_of
    from tod.report.progress import progress_bar
    from tod.runtime.layer_errors import layer_errors, open_graph
    from tod.runtime.scoring import nothing_to_score

    opened = [open_graph(path, key) for path in paths]
    (reference, spec), others = opened[0], opened[1:]
    for path, (_, other) in zip(paths[1:], others, strict=True):
        if other.shape != spec.shape:
            raise UsageError(
                f"{path} takes {list(other.shape)}, {paths[0]} takes {list(spec.shape)}",
                hint="compare models that come from one model",
            )
    cropped = False
    with ExitStack() as stack:
        reading = progress_bar(stack, "read", quiet=quiet)
        if data.is_file():
            given = collect([str(data)], (), spec)
            sources: list[Picture] = [one.picture for one in given if isinstance(one, Given)]
        else:
            dataset = Dataset.open(
                data, seed=seed or 0, cache=cache, splits=splits, progress=reading
            )
            cropped = dataset.cropped
            for notice in dataset.notices:
                print(f"notice: {notice}", file=sys.stderr)
            sources = [dataset.root / sample.path for sample in dataset.split("validation")]
        pixels = []
        for source in sources[:: max(1, len(sources) // _PICTURES)][:_PICTURES]:
            try:
                pixels.append(array_of(source, spec, cropped=cropped))
            except PictureError as error:
                print(f"notice: {source!s} does not count: {error.problem}", file=sys.stderr)
        if not pixels:
            raise nothing_to_score("validation")
        bar = progress_bar(stack, "pictures", quiet=quiet)
        found = [
            layer_errors(reference, graph, pixels, engine=engine, threads=threads, progress=bar)
            for graph, _ in others
        ]
    if as_json:
        rows = [
            {"model": str(path), "pictures": len(pixels), "layers": list(map(_row, errors))}
            for path, errors in zip(paths[1:], found, strict=True)
        ]
        print(msgspec.json.encode(rows).decode())
        return
    for path, errors in zip(paths[1:], found, strict=True):
        _print(f"{path.name} beside {paths[0].name}, {len(pixels)} pictures", errors)


def _row(one: LayerError) -> dict[str, object]:
    return {**asdict(one), "growth": one.growth}


def _print(title: str, errors: Sequence[LayerError]) -> None:
    rows = [
        [
            one.layer, " ".join(one.operators),
            f"{one.error:.3g}", f"{one.cosine:.6f}", f"{one.growth:+.3g}",
        ]
        for one in errors[:_SHOWN]
    ]  # fmt: skip
    columns = ["layer", "computes", "error", "cosine", "growth"]
    worst = f"the {len(rows)} worst of {len(errors)} layers"
    print_table(f"{title}: {worst}", columns, rows)

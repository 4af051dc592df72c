"""The command `tod prepare-dataset`, for the workstation.

`dataset_tools` is imported inside the command, because a device does not have it.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tod.cli import options
from tod.cli.frame import stop_requests
from tod.data.splits import Split
from tod.errors import DataError, UsageError
from tod.system import outputs

if TYPE_CHECKING:
    from dataset_tools.prepare import Prepared


_SHOWN = 20


class PictureFormat(str, Enum):
    bmp = "bmp"
    png = "png"
    jpeg = "jpeg"


def prepare_dataset(
    source: Annotated[
        str, typer.Argument(help="A folder of class folders, a Places365 folder, or 'digits'.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make, or to finish.")],
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            help="A table with the columns file and label (split, group); or a Places365 list, "
            "lines of 'picture class-id', with --categories.",
        ),
    ] = None,
    categories: Annotated[
        Path | None, typer.Option(help="Places365 categories: lines of '/a/abbey 0'.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes of the list by name or id, with commas between.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the square crop in pixels.")] = 224,
    resize: Annotated[
        int | None, typer.Option(help="Shorter side before the crop (default: size * 256 / 224).")
    ] = None,
    picture_format: Annotated[
        PictureFormat, typer.Option("--format", help="Format of the pictures written.")
    ] = PictureFormat.bmp,
    per_class: Annotated[
        int | None, typer.Option(help="Take a seeded sample of N pictures per class.")
    ] = None,
    splits: options.Splits = False,
    seed: Annotated[int, typer.Option(help="Random seed for the split and the sample.")] = 0,
    strict: Annotated[bool, typer.Option(help="Exit 3 if a picture cannot be read.")] = False,
    as_json: options.AsOneJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Make any source of pictures ready for training: OUT/<class>/<n>.bmp and OUT/dataset.json.

    Example: tod prepare-dataset ~/pictures dataset --per-class 100
    """
    from dataset_tools import sources
    from dataset_tools.prepare import prepare
    from tod.data.targets import TARGETS_NAME
    from tod.report.progress import progress_bar

    if (Path(source) / TARGETS_NAME).is_file():
        raise UsageError(
            f"{source} holds {TARGETS_NAME}", hint="train on it as it is: -d takes such a folder"
        )
    wanted = classes.split(",") if classes else sources.SEED_CLASSES
    if categories is not None and list_file is None:
        raise UsageError("--categories goes with the --list of Places365")
    if classes and list_file is None:
        raise UsageError("--classes chooses from a --list; class folders are all taken")
    if list_file is not None and categories is not None:
        found = sources.places(Path(source), list_file, categories, [c.strip() for c in wanted])
    elif list_file is not None:
        chosen = [name.strip() for name in classes.split(",")] if classes else []
        found = sources.listed_pictures(Path(source), list_file, chosen)
    elif source == sources.DIGITS:
        found = sources.digits()
    else:
        found = sources.class_folders(Path(source), seed=seed, splits=splits)
    if source != sources.DIGITS and out.resolve().is_relative_to(Path(source).resolve()):
        raise UsageError(f"{out} lies in the source {source}", hint="choose a folder beside it")
    outputs.check_folder(out)
    with ExitStack() as stack, stop_requests() as should_stop:
        made = prepare(
            found, out, size_px=size, resize_px=resize, picture_format=picture_format.value,
            seed=seed, per_class=per_class, should_stop=should_stop,
            progress=progress_bar(stack, "pictures", quiet=quiet),
        )  # fmt: skip
    _show(made, out, as_json=as_json)
    if made.unreadable and strict:
        raise DataError(f"{len(made.unreadable)} pictures cannot be read (--strict)")


def _show(made: Prepared, out: Path, *, as_json: bool) -> None:
    from tod.data.left_out import rows

    splits = get_args(Split)
    counts = {split: sum(f.split == split for f in made.index.files) for split in splits}
    for text in made.notices:
        print(f"notice: {text}", file=sys.stderr)
    if as_json:
        print(json.dumps({
            "dataset": str(out), "classes": made.index.classes, "pictures": counts,
            "made": made.made, "removed": made.removed, "unreadable": made.unreadable,
            "left_out": rows(made.left_out),
        }))  # fmt: skip
    else:
        shares = ", ".join(f"{count} {split}" for split, count in counts.items())
        print(
            f"{out}: {len(made.index.files)} pictures of {len(made.index.classes)} classes "
            f"({shares}), {made.made} made now"
            + f", {made.removed} removed that are no longer in the source"
            * bool(made.removed)
        )
    if made.unreadable:
        print(f"{len(made.unreadable)} pictures were passed over:", file=sys.stderr)
        for origin, reason in [*made.unreadable.items()][:_SHOWN]:
            print(f"  {origin}: {reason}", file=sys.stderr)
        if (more := len(made.unreadable) - _SHOWN) > 0:
            print(f"  ... and {more} more (--json has all)", file=sys.stderr)

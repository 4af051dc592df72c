"""Sources of pictures: class folders, a Places365 list, scikit-learn's digits.

A source is a list of `Picture`s. Nothing is read or decoded before `Picture.read` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tod.data.dataset import check_folder
from tod.data.index import INDEX_NAME, read_index
from tod.data.left_out import summary
from tod.data.own_splits import Own, joined, own_of, read_own
from tod.data.picture_limits import MAX_FILE_BYTES
from tod.data.samples import LeftOut
from tod.data.scan import scan
from tod.data.table import existing, read_table
from tod.errors import DataError, UsageError
from tod.system.files import read_regular
from tod.system.names import listed, natural_key, near_names

# The ten classes of MindSpore Lite's example, in its order: alley, cockpit, amusement_arcade,
# amusement_park, aqueduct, arena/hockey, arena/rodeo, bus_interior, attic, badlands.
SEED_CLASSES = ("4", "98", "6", "7", "10", "15", "17", "70", "26", "30")
DIGITS = "digits"


@dataclass(frozen=True)
class Picture:
    """One picture of a source.

    Attributes:
        class_name: its class.
        origin: its identifier in the source, with "/" between parts.
        read: gives the picture file's bytes; raises OSError.
        cropped: it was cropped already and is only resized.
        pixels: the hash of its pixels before cropping, if known.
    """

    class_name: str
    origin: str
    read: Callable[[], bytes]
    cropped: bool = False
    pixels: str = ""


@dataclass(frozen=True)
class Source:
    """All pictures of a source, notices for the user, the owner's splits and groups by origin, and
    the files that were left out."""

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    notices: tuple[str, ...] = ()
    own: Mapping[str, Own] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


def class_folders(root: Path, *, seed: int = 0, splits: bool = False) -> Source:
    """Take every folder below `root` that holds pictures as a class.

    Args:
        root: the folder; a dataset that was prepared with the same seed keeps its splits.
        seed: the seed of the dataset to make.
        splits: take ready-made splits (`tod.data.ready_made`) as they are.

    Raises:
        DataError: no such folder, or no class in it.
    """
    check_folder(root)
    if (root / INDEX_NAME).is_file():
        return _prepared(root, seed)
    found = scan(root, splits=splits)
    pictures = tuple(
        Picture(name, file, partial(_read, root / file))
        for name, files in found.classes.items()
        for file in files
    )
    notices = (*found.notices, *summary(root, found.left_out))
    own = joined(found.own, read_own(root))
    return Source(tuple(found.classes), pictures, notices, own, found.left_out)


def places(root: Path, list_file: Path, categories_file: Path, wanted: Sequence[str]) -> Source:
    """Read pictures in the Places365 layout.

    Args:
        root: holds the pictures, flat or in `val_256/`.
        list_file: lines like "Places365_val_00000001.jpg 165".
        categories_file: lines like "/a/abbey 0".
        wanted: classes by name ("arena/hockey", "/a/abbey") or id, in the order of the labels.

    Raises:
        DataError: a file cannot be read or understood, or no listed picture is there.
        UsageError: an unknown class, with the nearest names.
    """
    names = {int(i): _short(name) for name, i in _pairs(categories_file)}
    ids = [_class_id(text, names) for text in wanted]
    if len(set(ids)) != len(ids):
        raise UsageError(f"a class was given twice: {', '.join(wanted)}")
    pictures, missing = [], []
    for file, label in _labels(list_file, names).items():
        if label not in ids:
            continue
        found = [p for p in (root / file, root / "val_256" / file) if p.is_file()]
        if found:
            origin = found[0].relative_to(root).as_posix()
            pictures.append(Picture(names[label], origin, partial(_read, found[0])))
        else:
            missing.append(file)
    if not pictures:
        raise DataError(
            f"{root}: none of the {len(missing)} listed pictures is there, e.g. {missing[:1]}",
            hint="give the folder that holds val_256/ or the pictures themselves",
        )
    pictures.sort(key=lambda picture: natural_key(picture.origin))
    notice = f"{len(missing)} listed pictures are not there, e.g. {missing[:1]}"
    classes = tuple(names[i] for i in ids)
    return Source(classes, tuple(pictures), (notice,) if missing else (), read_own(root))


def listed_pictures(root: Path, list_file: Path, wanted: Sequence[str] = ()) -> Source:
    """Read pictures from a table with the columns `file` and `label`, and optionally `split` and
    `group`.

    Args:
        root: the folder with the files.
        list_file: the table; a label is the name of a class.
        wanted: only these classes, in this order; all of them in their natural order by default.

    Raises:
        DataError: the table is not readable, lists a picture twice with different labels, or lists
            no existing picture.
        UsageError: an unknown class, with the nearest names.
    """
    try:
        table = read_table(list_file, list_file.read_bytes())
    except OSError as error:
        raise DataError(f"{list_file}: cannot be read: {error.strerror or error}") from error
    if not {"file", "label"} <= set(table.header):
        raise DataError(
            f"{list_file}: its first line is '{','.join(table.header)}', wanted the columns file "
            "and label",
            hint="for example: file,label,split,group; a Places365 list needs --categories",
        )
    rows = [(row.number, dict(zip(table.header, row.cells, strict=False))) for row in table.rows]
    files = existing(root, [cells.get("file", "") for _, cells in rows])
    labels: dict[str, str] = {}
    own: dict[str, Own] = {}
    for number, cells in rows:
        file, label = files[cells.get("file", "")], cells.get("label", "")
        if not label or not file:
            raise DataError(f"{list_file} line {number}: wanted a file and its label")
        if labels.setdefault(file, label) != label:
            raise DataError(
                f"{list_file} line {number}: {file} is listed as {label} and as {labels[file]}",
                hint="keep one line for each picture",
            )
        own[file] = own_of(f"{list_file} line {number}", cells)
    known = sorted(set(labels.values()), key=natural_key)
    for name in wanted:
        if name not in known:
            raise UsageError(f"there is no class '{name}'", hint=near_names(name, known))
    classes = tuple(wanted) or tuple(known)
    chosen = {file: label for file, label in labels.items() if label in classes}
    missing = [file for file in chosen if not (root / file).is_file()]
    pictures = tuple(
        Picture(chosen[file], file, partial(_read, root / file))
        for file in sorted(set(chosen) - set(missing), key=natural_key)
    )
    if not pictures:
        raise DataError(
            f"{root}: none of the {len(missing)} listed pictures is there, e.g. {missing[:1]}",
            hint="files are named by their paths below this folder",
        )
    notice = f"{len(missing)} listed pictures are not there, e.g. {missing[:1]}"
    own = read_own(root) | {picture.origin: own[picture.origin] for picture in pictures}
    return Source(classes, pictures, (notice,) if missing else (), own)


def digits() -> Source:
    """Draw scikit-learn's 1797 handwritten digits of 8 x 8 pixels, black on white.

    Source of the data: UCI "Optical Recognition of Handwritten Digits", CC BY 4.0.

    Raises:
        DeviceError: scikit-learn is not installed.
    """
    from tod.system.machine import require

    require("sklearn", "demo")
    from sklearn.datasets import load_digits

    data = load_digits()
    pictures = tuple(
        Picture(str(label), f"digits/{index}", partial(_draw, image), cropped=True)
        for index, (image, label) in enumerate(zip(data.images, data.target, strict=True))
    )
    return Source(tuple(str(digit) for digit in range(10)), pictures)


def _draw(image: object) -> bytes:
    """Encode an 8 x 8 picture with values 0..16 as a PNG file with a white margin."""
    import numpy as np

    from tod.data.image import encode

    grey = np.full((10, 10), 255, np.uint8)
    grey[1:-1, 1:-1] = (255 - np.asarray(image) * (255 / 16)).round().astype(np.uint8)
    return encode(np.repeat(grey[:, :, None], 3, axis=2), "png")


def _read(path: Path) -> bytes:
    return read_regular(path, limit_bytes=MAX_FILE_BYTES)[0]


def _prepared(root: Path, seed: int) -> Source:
    """Read a prepared dataset: its pictures are cropped already and are not cropped again."""
    index = read_index(root / INDEX_NAME)
    names = tuple(entry.name for entry in index.classes)
    pictures = tuple(
        Picture(names[file.label], file.file, partial(_read, root / file.file), True, file.pixels)
        for file in index.files
    )
    own = {file.file: Own(file.split) for file in index.files} if seed == index.seed else {}
    return Source(names, pictures, own=own)


def _pairs(path: Path) -> list[tuple[str, str]]:
    """Read lines of "text number"."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        text, _, label = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not text or not label.isdecimal():
            raise DataError(f"{path}, line {number}: wanted a name and a number, found {line!r}")
        pairs.append((text.strip(), label))
    return pairs


def _labels(path: Path, names: Mapping[int, str]) -> dict[str, int]:
    """Return the class id of each listed file.

    Raises:
        DataError: a file is listed under several classes.
    """
    found: dict[str, set[int]] = {}
    for file, label in _pairs(path):
        found.setdefault(file, set()).add(int(label))
    several = {file: sorted(ids) for file, ids in found.items() if len(ids) > 1}
    if several:
        file, ids = next(iter(several.items()))
        classes = listed([f"{names.get(i, '?')} ({i})" for i in ids])
        raise DataError(
            f"{path}: {len(several)} pictures are listed under several classes, e.g. {file} "
            f"under {classes}",
            hint="keep one line for each picture",
        )
    return {file: ids.pop() for file, ids in found.items()}


def _short(name: str) -> str:
    """ "/a/arena/hockey" -> "arena/hockey": the first letter only sorts Places' folders."""
    parts = name.strip("/").split("/")
    return "/".join(parts[1:] if len(parts) > 1 and len(parts[0]) == 1 else parts)


def _class_id(text: str, names: dict[int, str]) -> int:
    if text.isdecimal():
        if int(text) in names:
            return int(text)
        raise UsageError(f"there is no class {text}", hint=f"ids go from 0 to {max(names)}")
    matches = [i for i, name in names.items() if name == _short(text)]
    if not matches:
        raise UsageError(f"there is no class '{text}'", hint=near_names(text, [*names.values()]))
    return matches[0]

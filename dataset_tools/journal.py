"""Record the pictures that `prepare` has made in a folder, in earlier calls and in this one.

Every picture that is finished gets a line in `dataset.journal`; the index is written last.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from dataset_tools.sources import Picture
from tod.data.file_hashes import FOLDER
from tod.data.index import INDEX_NAME, JOURNAL_NAME, Index, IndexedFile, read_index
from tod.errors import DataError
from tod.system.files import write_whole

_SAMPLE = 50
_SUFFIXES = {"bmp": ".bmp", "png": ".png", "jpeg": ".jpg"}
# Settings that must be equal so that a picture of an earlier call can be used.
_RECIPE = ("size_px", "resize_px", "interpolation", "picture_format")
_ANOTHER = "choose another folder, or remove this one"


class Journal:
    """The finished pictures. The first line of the file is the recipe, each further line one
    picture."""

    def __init__(self, out: Path, recipe: Index, pictures: dict[str, Picture]) -> None:
        self.out = out
        self.recipe = recipe
        self._path = out / JOURNAL_NAME
        self.earlier = self._earlier()
        self._check_same_dataset(pictures)
        self._used = {file.file for file in self.earlier}
        self._made = {(f.source, f.file.rpartition("/")[0]): f for f in self.earlier}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        for rest in (*self.out.glob(".*.part"), *self.out.glob("*/.*.part")):
            rest.unlink()  # unfinished files of a killed call
        # Write the file again, to remove an incomplete last line of an interrupted call.
        lines = [msgspec.json.encode(item) for item in (self.recipe, *self.earlier)]
        write_whole(self._path, b"\n".join(lines) + b"\n")
        self._file = open(self._path, "ab")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, file: IndexedFile) -> None:
        assert self._file is not None
        self._file.write(msgspec.json.encode(file) + b"\n")
        self._file.flush()

    def close(self, index: Index) -> int:
        """Write the index, and remove the pictures that are no longer in it.

        Returns:
            How many pictures were removed.
        """
        data = msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"
        write_whole(self.out / INDEX_NAME, data)
        self._path.unlink()
        named = {file.file for file in index.files}
        removed = 0
        for file in self.earlier:
            path = self.out / file.file
            if file.file not in named and holds(path, file.sha256):
                path.unlink()
                removed += 1
        return removed

    def names(self, pictures: Sequence[Picture], labels: Sequence[int]) -> list[str]:
        """Choose a free file name for each picture, in case it must be made. New pictures get their
        names first, so that they are numbered without gaps."""
        folders = [self.recipe.classes[label].folder for label in labels]
        keys = [(picture.origin, f) for picture, f in zip(pictures, folders, strict=True)]
        suffix = _SUFFIXES[self.recipe.picture_format]
        counters: Counter[str] = Counter()
        names = [""] * len(keys)
        for index in sorted(range(len(keys)), key=lambda index: keys[index] in self._made):
            folder = folders[index]
            while not names[index] or names[index] in self._used:
                names[index] = f"{folder}/{counters[folder]}{suffix}"
                counters[folder] += 1
        return names

    def made_of(self, picture: Picture, label: int, source_sha256: str) -> IndexedFile | None:
        """Return the file that an earlier call made from this picture for this class, if the
        picture has not changed since."""
        file = self._made.get((picture.origin, self.recipe.classes[label].folder))
        if file is None or (file.source_sha256, file.cropped) != (source_sha256, picture.cropped):
            return None
        return file

    def _check_same_dataset(self, pictures: dict[str, Picture]) -> None:
        """Refuse a folder with pictures of another source, because they would be removed. Changes
        of pictures and labels within one source are allowed."""
        known = [file for file in self.earlier if file.source in pictures]
        strangers = [file.source for file in self.earlier if file.source not in pictures]
        if len(strangers) > len(known):
            raise DataError(
                f"{self.out}: it holds another dataset: {len(strangers)} of its "
                f"{len(self.earlier)} pictures are not in this source, e.g. {min(strangers)}",
                hint=_ANOTHER,
            )
        looked_at = known[:: max(1, len(known) // _SAMPLE)]
        changed = [file for file in looked_at if _changed(pictures[file.source], file)]
        if len(changed) > len(looked_at) / 2:
            raise DataError(
                f"{self.out}: it holds another dataset: most of its pictures have the names, but "
                f"not the content of this source's, e.g. {changed[0].source}",
                hint=_ANOTHER,
            )

    def _earlier(self) -> list[IndexedFile]:
        """The files that an earlier call has finished, from its journal or its index."""
        if self._path.exists():
            lines = self._path.read_bytes().split(b"\n")
            try:
                self._same_recipe(msgspec.json.decode(lines[0], type=Index))
            except msgspec.MsgspecError as error:
                raise DataError(
                    f"{self._path}: not readable: {error}", hint="remove this folder and try again"
                ) from error
            files = []
            for line in lines[1:-1]:  # text after the last newline is an incomplete line
                try:
                    files.append(msgspec.json.decode(line, type=IndexedFile))
                except msgspec.MsgspecError:
                    continue
            return files
        if (self.out / INDEX_NAME).exists():
            index = read_index(self.out / INDEX_NAME)
            self._same_recipe(index)
            return list(index.files)
        if any(p.suffix != ".part" and p.name != FOLDER for p in self.out.iterdir()):
            raise DataError(
                f"{self.out}: it holds files, but no dataset",
                hint="choose an empty or new folder",
            )
        return []

    def _same_recipe(self, other: Index) -> None:
        details = [
            f"{name} is {getattr(other, name)} there and {getattr(self.recipe, name)} here"
            for name in _RECIPE
            if getattr(self.recipe, name) != getattr(other, name)
        ]
        if details:
            raise DataError(
                f"{self.out}: it holds another dataset: {'; '.join(details)}", hint=_ANOTHER
            )


def holds(path: Path, sha256: str) -> bool:
    """Tell whether a file exists and has this content."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _changed(picture: Picture, file: IndexedFile) -> bool:
    try:
        return hashlib.sha256(picture.read()).hexdigest() != file.source_sha256
    except OSError:
        return False

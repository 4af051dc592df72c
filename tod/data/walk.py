"""List all files below a data folder: possible pictures, and why the others are none.

A file is a possible picture by its suffix or else by its first bytes. Each entry, or a folder
around it that is not entered, comes exactly once.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tod.data.heif import heif_version
from tod.data.picture_kind import (
    HEAD_BYTES,
    LFS_POINTER,
    RAW,
    SUFFIXES,
    is_heic,
    is_picture,
    other_kind,
)
from tod.system.files import read_start

# Folders of NAS, operating systems, editors, notebooks and version control: never a class.
_TOOLS = {
    "#recycle", "#snapshot", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "__macosx",
    "__pycache__", "$recycle.bin", "recycler", "lost+found", "system volume information",
    ".git", ".hg", ".svn", ".dvc", ".ipynb_checkpoints", ".thumbnails", ".@__thumb",
    ".spotlight-v100", ".fseventsd", ".trashes", ".trash", ".temporaryitems", ".appledouble",
    ".documentrevisions-v100", ".idea", ".vscode", ".venv",
}  # fmt: skip
_TOOL_FILES = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r",
    ".ds_store", ".picasa.ini", ".nomedia", ".directory", ".gitattributes", ".gitignore",
}  # fmt: skip
_RAW_SUFFIXES = {
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq", ".kdc",
    ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf",
    ".srw", ".x3f",
}  # fmt: skip
_HEIF_SUFFIXES = {".heic", ".heif", ".hif"}
_DESCRIPTIONS = ("dataset.json", "targets.csv", "splits.csv")
_DESCRIBING = ("readme", "license", "licence", "copying", "citation", "changelog")
OWN_FOLDER = ".tod-cache"
TOOL = "made by another program"
HIDDEN_FILE, HIDDEN_FOLDER = "a hidden file", "a hidden folder"
# Users are not told of files with these reasons.
DESCRIPTION, OWN = "it describes the data", "TOD's own folder"
ROUND = "a link to a folder that is read already"
NOT_TEXT = "its name is not valid UTF-8"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a folder that is not entered.

    Attributes:
        path: below the data's folder, with "/" between its parts.
        folder: the parts of the path of its folder; for a folder, of its own path.
        reason: why it is no picture; empty if it may be one.
        meant: it was probably meant to be a picture of a class.
        unreadable: it is a folder that may not be read.
    """

    path: str
    folder: tuple[str, ...]
    reason: str = ""
    meant: bool = True
    unreadable: bool = False


def walk(root: Path) -> Iterator[Entry]:
    """List all entries below a folder. Real folders come before linked folders; a linked folder
    that was read already is not entered."""
    seen = {os.path.realpath(root)}
    folders: deque[str] = deque([""])
    links: deque[str] = deque()
    while folders or links:
        if not folders:
            link = links.popleft()
            real = os.path.realpath(root / link)
            if real in seen:
                yield Entry(link, _parts(link), ROUND, meant=False)
                continue
            folders.append(link)
        path = folders.popleft()
        seen.add(os.path.realpath(root / path))
        try:
            with os.scandir(root / path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Entry(path, _parts(path), _cannot(error), unreadable=True)
            continue
        for entry in found:
            name = f"{path}/{entry.name}" if path else entry.name
            if not _is_folder(entry):
                yield _file(entry, name, _parts(path))
            elif reason := _folder_reason(entry.name):
                yield Entry(name, _parts(name), reason, meant=False)
            else:
                (links if entry.is_symlink() else folders).append(name)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")) if path else ()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop, or no permission
        return False


def _folder_reason(name: str) -> str:
    if name == OWN_FOLDER:
        return OWN
    if name.lower() in _TOOLS or name.lower().startswith((".trash-", ".fuse_hidden")):
        return f"{TOOL} ({name})"
    return HIDDEN_FOLDER if name.startswith(".") else ""


def _file(entry: os.DirEntry[str], path: str, folder: tuple[str, ...]) -> Entry:
    name = entry.name.lower()
    suffix = os.path.splitext(name)[1]
    meant = suffix in SUFFIXES or suffix in _RAW_SUFFIXES or suffix in _HEIF_SUFFIXES
    if reason := _reason_of_name(entry.name):
        return Entry(path, folder, reason, meant=False)
    try:
        mode = os.stat(entry.path).st_mode
        if not stat.S_ISREG(mode):
            return Entry(path, folder, "it is no regular file", meant)
        if not _is_text(path):
            return Entry(path, folder, NOT_TEXT, meant)
        if suffix in _RAW_SUFFIXES:
            return Entry(path, folder, RAW)
        if suffix in SUFFIXES:
            # Decoding shows whether it is a picture, with the reason.
            return Entry(path, folder)
        head = read_start(entry.path, HEAD_BYTES)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and entry.is_symlink():
            return Entry(path, folder, "a link to nowhere", meant)
        return Entry(path, folder, _cannot(error), meant or not suffix)
    if is_picture(head) or (is_heic(head) and heif_version()):
        return Entry(path, folder)
    reason = other_kind(head) or "not a picture"
    return Entry(path, folder, reason, meant or reason == LFS_POINTER or is_heic(head))


def _reason_of_name(name: str) -> str:
    low = name.lower()
    if low in _TOOL_FILES or name.startswith("._"):
        return f"{TOOL} ({'._*' if name.startswith('._') else name})"
    if name.startswith("."):
        return HIDDEN_FILE
    words = low.split(".")[0].split("-")[0].split("_")[0]
    if low in _DESCRIPTIONS or (words in _DESCRIBING and not low.endswith(tuple(SUFFIXES))):
        return DESCRIPTION
    return ""


def _cannot(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

"""Which shared libraries a tree of programs needs, read from the files themselves (ELF)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from tod.errors import DeviceError

_MAGIC = b"\x7fELF"


def machine(program: Path) -> str:
    """The machine that an ELF file is for, such as 'EM_AARCH64'; what it is where it is none."""
    try:
        with program.open("rb") as file:
            return str(ELFFile(file)["e_machine"])
    except ELFError:
        return "no Linux machine (no ELF file)"


def needed(file: Path) -> list[str]:
    """Names of the libraries that a file asks its loader for (DT_NEEDED); none of other files."""
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            return []
        sections = ELFFile(opened).iter_sections()
        dynamic = [section for section in sections if isinstance(section, DynamicSection)]
        tags = [tag for section in dynamic for tag in section.iter_tags("DT_NEEDED")]
        return [str(vars(tag)["needed"]) for tag in tags]  # set by the library, unknown to types


def closure(files: Iterable[Path], folders: Sequence[Path]) -> dict[str, Path]:
    """What some files need, and what that needs, found in folders.

    Args:
        files: programs and libraries; what they carry beside them needs no finding.
        folders: where libraries lie.

    Returns:
        File of each library by the name it is asked for.

    Raises:
        DeviceError: one is in none of the folders.
    """
    files = list(files)
    carried = {file.name for file in files}
    found: dict[str, Path] = {}
    waiting = [(name, file) for file in files for name in needed(file)]
    while waiting:
        name, user = waiting.pop()
        if name in found or name in carried:
            continue
        places = [folder / name for folder in folders if (folder / name).is_file()]
        if not places:
            raise DeviceError(
                f"{user.name} needs {name}, which is in none of the packages",
                hint="please report it: TOD's list of packages lacks one",
            )
        found[name] = places[0]
        waiting += [(more, places[0]) for more in needed(places[0])]
    return found


def orphans(folder: Path) -> list[Path]:
    """Libraries that wheels carry (in folders named *.libs) and that nothing left asks for.

    Args:
        folder: all files below it.
    """
    files = [file for file in sorted(folder.rglob("*.so*")) if file.is_file()]
    carried = {file.name: file for file in files if file.parent.name.endswith(".libs")}
    used: set[str] = set()
    waiting = [file for file in files if file.name not in carried]
    while waiting:
        for name in needed(waiting.pop()):
            if name in carried and name not in used:
                used.add(name)
                waiting.append(carried[name])
    return [file for name, file in carried.items() if name not in used]

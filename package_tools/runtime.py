"""The `lib` folder of a package, all but TOD itself.

```
lib/
  TARGET           what it is for, KEY=VALUE, for the scripts and the launcher
  system/          the loader and the C library, with what the interpreter needs (bundled)
  python/          the interpreter and its standard library (bundled, or from an archive)
  site-packages/   onnxruntime, numpy, Pillow and what they need
  licences/
```
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from package_tools import archive, distribution, libraries, licences, trim, wheels
from package_tools.interpreter import Interpreter, Piece
from package_tools.target import MINIMUM_GLIBC, Target
from tod.errors import UsageError

BUNDLED, ARCHIVE, SYSTEM = "bundled", "archive", "system"


@dataclass(frozen=True)
class Recipe:
    """What a runtime is made of.

    Attributes:
        target: the machine it is for.
        kind: BUNDLED (interpreter and C library of the distribution), ARCHIVE (an interpreter, on
            the device's C library) or SYSTEM (only packages for the device's own Python).
        archive: of an ARCHIVE.
        python: minor version of the device's own Python, of a SYSTEM.
    """

    target: Target
    kind: str
    archive: Path | None = None
    python: str | None = None


def python_version(lib: Path) -> str:
    """Minor version of the Python that a runtime is for."""
    return (lib / "TARGET").read_text().split("\npython=")[1].split("\n")[0]


def make(recipe: Recipe, work: Path, progress: Callable[[str], None]) -> Path:
    """Make a runtime's `lib` folder.

    Args:
        recipe: what it is made of.
        work: an empty folder to work in; the runtime is in it afterwards.
        progress: told what is being done.

    Raises:
        UsageError: no apt here, or not such an archive.
        DeviceError: something cannot be downloaded.
        OSError: the folder cannot be written.
    """
    lib, unpacked, packages = work / "lib", work / "interpreter", work / "packages"
    unpacked.mkdir()
    pieces: list[Piece] = []
    version = recipe.python or ""
    if recipe.kind != SYSTEM:
        progress(f"interpreter for {recipe.target.name}")
        interpreter = _interpreter(recipe, unpacked)
        version = interpreter.version
        _take_interpreter(interpreter, lib)
    progress(f"packages for {recipe.target.name}, Python {version}")
    wheels.install(recipe.target, version, packages)
    _copy(packages, lib / "site-packages", trim.trim(packages, trim.SITE_PACKAGES))
    if recipe.kind != SYSTEM:
        taken = _take_libraries(interpreter, recipe, lib)
        pieces = interpreter.used(taken)
        licences.take(pieces, lib / "licences")
    for library in libraries.orphans(lib / "site-packages"):
        library.unlink()
    progress("byte code")
    if not compile_python(lib, version, keep_sources=False):
        progress(f"there is no Python {version} here: starting takes the device seconds longer")
    if recipe.kind != SYSTEM:
        _zip_standard_library(lib / "python" / "lib", version)
    pinned = [
        f"{r.name} {str(r.specifier)[2:]}" for r, _ in wheels.requirements(recipe.target, version)
    ]
    lines = [
        f"machine={recipe.target.machine}", f"runtime={recipe.kind}", f"python={version}",
        f"glibc={'own' if recipe.kind == BUNDLED else MINIMUM_GLIBC}",
        *(f"from={piece.name} {piece.version}" for piece in pieces),
        *(f"from={line}" for line in pinned),
    ]  # fmt: skip
    (lib / "TARGET").write_text("\n".join(lines) + "\n")
    return lib


def _interpreter(recipe: Recipe, folder: Path) -> Interpreter:
    if recipe.archive is not None:
        found = archive.unpack(recipe.archive, recipe.target, folder)
    else:
        found = distribution.fetch(recipe.target, folder)
    if found.version not in wheels.VERSIONS:
        raise UsageError(
            f"the Python of {found.origin} is {found.version}, wanted one of "
            f"{', '.join(wheels.VERSIONS)}",
            hint="give a python-build-standalone archive of one of these with --python-archive",
        )
    return found


def _take_interpreter(interpreter: Interpreter, lib: Path) -> None:
    home = lib / "python"
    program = home / "bin" / interpreter.program.name
    program.parent.mkdir(parents=True)
    shutil.copyfile(interpreter.program, program)
    program.chmod(0o755)
    # Some interpreters are a small program beside a large library.
    for name in (Path(wanted).name for wanted in libraries.needed(interpreter.program)):
        if (interpreter.home / "lib" / name).is_file():
            _copy(interpreter.home, home, [Path("lib") / name])
    library = interpreter.standard_library
    kept = trim.trim(library, trim.STANDARD_LIBRARY)
    _copy(library, home / "lib" / library.name, kept)


def _take_libraries(interpreter: Interpreter, recipe: Recipe, lib: Path) -> list[str]:
    """Copy what is needed into lib/system, where the C library is brought.

    Returns:
        The names of what was copied.
    """
    if recipe.kind != BUNDLED:
        return []
    files = [file for file in sorted(lib.rglob("*")) if file.is_file()]
    found = libraries.closure(files, interpreter.libraries)
    name = recipe.target.loader
    found[name] = next(f / name for f in interpreter.libraries if (f / name).exists())
    system = lib / "system"
    system.mkdir()
    for name, file in found.items():
        shutil.copyfile(file, system / name)
    return list(found)


def compile_python(folder: Path, version: str, *, keep_sources: bool) -> bool:
    """Compile a folder's modules: a slow device would take seconds for it at every start.

    Byte code belongs to one minor version of Python; where this workstation has no such Python, the
    sources stay alone, and the device compiles.

    Args:
        folder: all modules below it.
        version: of the Python that will load them.
        keep_sources: or leave the byte code in their place.

    Returns:
        Whether there is such a Python here.
    """
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    program = sys.executable if version == here else shutil.which(f"python{version}")
    if program is None:
        return False
    # Checked by content where there is a source: times do not survive every way onto a device. The
    # seed makes the order of sets, and with it the bytes, the same each time.
    done = subprocess.run(
        [program, "-s", "-m", "compileall", "-q", "-s", str(folder),
         "--invalidation-mode", "checked-hash" if keep_sources else "unchecked-hash",
         *([] if keep_sources else ["-b"]), str(folder)],
        env={"PYTHONHASHSEED": "0", "PATH": os.environ.get("PATH", "")},
        capture_output=True,
    )  # fmt: skip
    # 1: some files are for other versions; else it is no Python, such as a shim of pyenv's.
    if done.returncode not in (0, 1):
        return False
    if not keep_sources:
        for source in folder.rglob("*.py"):
            if source.with_suffix(".pyc").is_file():  # else it is no module of this version
                source.unlink()
    return True


def _zip_standard_library(folder: Path, version: str) -> None:
    """Put the standard library into pythonXY.zip, where Python looks first: a third of the room,
    and hundreds of small files less to send."""
    library = folder / f"python{version}"
    modules = [p for p in sorted(library.rglob("*.py*")) if "lib-dynload" not in p.parts]
    with zipfile.ZipFile(folder / f"python{version.replace('.', '')}.zip", "w") as archive:
        for module in modules:
            entry = zipfile.ZipInfo(str(module.relative_to(library)))  # of 1980: the same each time
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, module.read_bytes(), compresslevel=9)
            # Python knows its home by this file.
            if module.stem != "os" or module.parent != library:
                module.unlink()
    for rest in sorted(library.rglob("*"), reverse=True):
        if rest.is_dir() and not any(rest.iterdir()):
            rest.rmdir()


def _copy(source: Path, target: Path, names: list[Path]) -> None:
    for name in names:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, place)

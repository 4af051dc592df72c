"""A package: runtime, TOD, a model, pictures and the scripts of `package_templates` in one folder.

`README.txt` in it says what is where. Everything is named in SHA256SUMS; whatever appears in the
folder later (trained models, logs, caches) is not, and is kept when the package is made again.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import tod
from package_tools import runtime, runtime_cache, sums
from package_tools.runtime import ARCHIVE, BUNDLED, SYSTEM, Recipe
from package_tools.target import MINIMUM_GLIBC
from tod.data.dataset import Dataset
from tod.data.file_hashes import FOLDER
from tod.errors import ArtifactError, DataError, UsageError
from tod.format import artifact

MODEL = "model/transfer_learning.tod"
TEMPLATES = Path(__file__).resolve().parent.parent / "package_templates"
# Rows of the size table; what is in none of these counts to the last.
_PARTS = (
    "lib/system", "lib/python", "lib/site-packages/onnxruntime", "lib/site-packages/tod",
    "lib/site-packages", "lib/licences", "model", "dataset", "scripts",
)  # fmt: skip
# In the way of sha256sum's format, or of file systems.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
# Reproducible: the times of the sources do not reach the package.
_TIME = 1_000_000_000


@dataclass(frozen=True)
class Package:
    """A finished package.

    Attributes:
        folder: where it lies.
        files: how many SHA256SUMS names.
        sizes: bytes by part, in the order of the README.
    """

    folder: Path
    files: int
    sizes: dict[str, int]


def make(
    model: Path,
    dataset: Path | None,
    out: Path,
    recipe: Recipe,
    *,
    require_signature: Path | None = None,
    refresh: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Package:
    """Make a package, or replace an earlier one; it is there whole or not at all.

    Args:
        model: a .tod file.
        dataset: a prepared dataset or a folder of class folders; None leaves it out.
        out: the folder to make. What an earlier package of this name has gained since stays.
        recipe: of the runtime.
        require_signature: a public key, whose holder has to have signed the model.
        refresh: make the runtime anew, with the distribution's newest interpreter.
        progress: told what is being done.

    Raises:
        ArtifactError: the model is none, or not signed as required.
        DataError: the dataset is none, or something cannot be written.
        UsageError: `out` is a folder, but no package.
        DeviceError: something cannot be downloaded.
    """
    out = out.resolve()
    if out.exists() and not all((out / name).is_file() for name in (sums.NAME, "lib/TARGET")):
        raise UsageError(f"{out} exists and is no package", hint="choose another name with -o")
    if dataset is not None and out.is_relative_to(dataset.resolve()):
        raise UsageError(f"{out} lies in the dataset {dataset}", hint="choose a folder beside it")
    if artifact.read(model, require_signature=require_signature).manifest.kind != "model":
        raise ArtifactError(
            f"{model}: it is a checkpoint, which is no use without its base",
            hint=f"make a whole model of it: tod merge {model} -o model.tod",
        )
    pictures = {} if dataset is None else _pictures(dataset)
    kept = runtime_cache.prepare(recipe, refresh=refresh, progress=progress)
    work = out.parent / f".{out.name}.{secrets.token_hex(4)}.part"
    try:
        progress("package")
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(kept / "lib", work / "lib")
        runtime_cache.check_copies(kept, sums.of(work))
        _add_tod(work)
        for name, source in {MODEL: model, **pictures}.items():
            place = work / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        _add_readme(work, recipe, has_dataset=bool(pictures))
        hashes, sizes = _seal(work)
        _replace(out, work)
    except (OSError, shutil.Error) as error:
        raise DataError(
            f"{out}: the package cannot be made: {_reason(error)}",
            hint="free some room or choose another place with -o",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Package(out, len(hashes), sizes)


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):  # a list of (from, to, reason)
        return str(error.args[0][0][2])
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _pictures(dataset: Path) -> dict[str, Path]:
    """Files of a dataset by their names in the package."""
    Dataset.open(dataset, cache=False)
    found = {}
    for folder, folders, names in os.walk(dataset, followlinks=True):
        folders[:] = sorted(name for name in folders if name != FOLDER)
        for name in sorted(names):
            file = Path(folder, name)
            inside = file.relative_to(dataset).as_posix()
            if _UNSAFE.search(inside):
                raise DataError(
                    f"{str(file)!r}: a package cannot hold this name (a control character, a "
                    "backslash, or not UTF-8)",
                    hint="rename it, or prepare the pictures with tod prepare-dataset",
                )
            found[f"dataset/{inside}"] = file
    return found


def _add_tod(work: Path) -> None:
    shutil.copytree(TEMPLATES, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*"))
    place = work / "lib" / "site-packages" / "tod"
    shutil.copytree(
        Path(tod.__file__).parent, place, ignore=shutil.ignore_patterns("__pycache__", "py.typed")
    )
    licence = Path(tod.__file__).parent.parent / "LICENSE"
    if licence.is_file():  # else TOD was installed, and its dist-info has it
        (work / "lib" / "licences").mkdir(exist_ok=True)
        shutil.copyfile(licence, work / "lib" / "licences" / "tod.txt")
    runtime.compile_python(place, runtime.python_version(work / "lib"), keep_sources=True)


def _add_readme(work: Path, recipe: Recipe, *, has_dataset: bool) -> None:
    version = runtime.python_version(work / "lib")
    packages = "onnxruntime, numpy, Pillow, TOD"
    needs, contents = {
        BUNDLED: ("", f"Python {version} with its C library, {packages}"),
        ARCHIVE: (f" It needs glibc {MINIMUM_GLIBC}.", f"Python {version}, {packages}"),
        SYSTEM: (f" It needs Python {version} and glibc {MINIMUM_GLIBC}.", packages),
    }[recipe.kind]
    readme = work / "README.txt"
    text = Template(readme.read_text()).substitute(
        target=recipe.target.name, runtime=recipe.kind, version=tod.__version__, needs=needs,
        contents=contents,
        dataset="the pictures" if has_dataset else "(left out: give a folder of pictures with -d)",
    )  # fmt: skip
    readme.write_text(text)


def _seal(work: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Give every file its mode and time, and SHA256SUMS its line for each."""
    hashes, sizes = sums.of(work), dict.fromkeys(_PARTS, 0)
    for name in map(Path, hashes):
        file = work / name
        program = name.parts[0] == "bin" or name.suffix == ".sh" or _is_program(name)
        file.chmod(0o755 if program else 0o644)
        os.utime(file, (_TIME, _TIME))
        sizes[_part(name)] += file.stat().st_size
    sums.write(work, hashes)
    for folder in (work, *(path for path in work.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
        os.utime(folder, (_TIME, _TIME))
    return hashes, sizes


def _part(name: Path) -> str:
    """Of the size table."""
    for part in _PARTS:
        if name.is_relative_to(part):
            return part
    return _PARTS[-1]


def _is_program(name: Path) -> bool:
    return name.parts[:3] == ("lib", "python", "bin") or name.name.startswith("ld-linux")


def _replace(out: Path, work: Path) -> None:
    """Put the new package in the old one's place, with what the old one had gained."""
    if not out.exists():
        work.rename(out)
        return
    listed = sums.read(out)
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        name = file.relative_to(out).as_posix()
        if name not in (*listed, sums.NAME, "INCOMPLETE") and not (work / name).exists():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, work / name)
            except OSError:  # no links on this file system
                shutil.copy2(file, work / name)
    old = work.with_suffix(".old")
    out.rename(old)
    try:
        work.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)

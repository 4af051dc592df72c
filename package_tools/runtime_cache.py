"""Runtimes that were made before: a second package downloads nothing and takes a second.

`<cache>/<target>-<kind>-<key>/lib`, beside it the SHA256SUMS of what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from package_tools import archive, distribution, runtime, sums, wheels
from package_tools.runtime import ARCHIVE, BUNDLED, SYSTEM, Recipe
from tod.errors import DataError

# A runtime takes 130 MB, and each new version of TOD makes others.
_UNUSED_SECONDS = 60 * 24 * 3600
_NAME = re.compile(r"[a-z0-9_]+-(bundled|archive|system)-[0-9a-f]{16}")


def folder() -> Path:
    """Where runtimes are kept: $TOD_PACKAGE_CACHE, else tod/packages in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kept = Path(os.environ.get("TOD_PACKAGE_CACHE") or Path(home) / "tod" / "packages")
    return kept.absolute()  # apt takes others for parts of its own


def prepare(
    recipe: Recipe, *, refresh: bool = False, progress: Callable[[str], None] = lambda step: None
) -> Path:
    """A folder with a runtime's `lib`, made now or found in the cache.

    Args:
        recipe: what it is made of.
        refresh: make it anew, with the distribution's newest interpreter.
        progress: told what is being done.

    Raises:
        UsageError: no apt here, or not such an archive.
        DeviceError: something cannot be downloaded.
        DataError: the cache cannot be written.
    """
    cache = folder()
    place = cache / f"{recipe.target.name}-{recipe.kind}-{_key(recipe)}"
    try:
        if refresh or not place.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=cache) as work:
                made = Path(work, "made")
                made.mkdir()
                runtime.make(recipe, Path(work), progress).rename(made / "lib")
                sums.write(made, sums.of(made))
                _keep(made, place, replace=refresh)
            _forget_unused(cache)
        os.utime(place)
    except OSError as error:
        raise DataError(
            f"{error.filename or cache}: {error.strerror or error}",
            hint="free some room, or name another cache folder in TOD_PACKAGE_CACHE",
        ) from error
    return place


def check_copies(place: Path, found: Mapping[str, str]) -> None:
    """Raise DataError when what was copied from a runtime is not what was made once.

    Args:
        place: what `prepare` returned.
        found: SHA-256 of the copies by name.
    """
    wanted = sums.read(place)
    damaged = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if damaged:
        shutil.rmtree(place, ignore_errors=True)
        raise DataError(
            f"{place}: it was damaged since it was made, and is removed: {damaged[0]}",
            hint="run the same command again; it makes it anew",
        )


def _key(recipe: Recipe) -> str:
    """Changes with all that the runtime is made of, and with the way it is made."""
    source = {
        BUNDLED: lambda: distribution.name(),
        ARCHIVE: lambda: archive.name(recipe.archive) if recipe.archive else "",
        SYSTEM: lambda: recipe.python or "",
    }[recipe.kind]()
    parts = [repr(recipe.target), recipe.kind, source, sys.version.split()[0]]
    files = [*sorted(Path(__file__).parent.glob("*.py")), wheels.REQUIREMENTS]
    digest = hashlib.sha256("\n".join(parts).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _keep(made: Path, place: Path, *, replace: bool) -> None:
    if replace:
        with contextlib.suppress(FileNotFoundError):
            place.rename(made.with_name("old"))
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():  # else another call has just made the same one
            raise


def _forget_unused(cache: Path) -> None:
    # The folder may be one that holds other things too.
    for place in cache.iterdir():
        ours = _NAME.fullmatch(place.name) and (place / sums.NAME).is_file()
        if ours and place.stat().st_mtime < time.time() - _UNUSED_SECONDS:
            shutil.rmtree(place, ignore_errors=True)

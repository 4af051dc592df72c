"""The device's Python packages as wheels for a target, pinned and checked by hash.

pip downloads and unpacks; `requirements.txt` beside this file names every version and hash, and
`make lock` makes it anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from package_tools.target import Target
from tod.errors import DeviceError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def requirements(target: Target, version: str) -> Iterator[tuple[Requirement, list[str]]]:
    """What a target needs, and the hashes of the files that it may be.

    pip evaluates markers such as `python_version < "3.11"` for the Python that it runs in, which
    is not the one on the device; so they are evaluated here.

    Args:
        target: the machine.
        version: of its Python, such as '3.11'.
    """
    environment = {
        "python_version": version, "python_full_version": f"{version}.0", "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
        "sys_platform": "linux", "platform_system": "Linux", "platform_machine": target.machine,
        "extra": "",
    }  # fmt: skip
    text = re.sub(r"^\s*#.*\n", "", REQUIREMENTS.read_text(), flags=re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", text.strip()):
        wanted, *hashes = entry.replace("\\\n", " ").split("--hash=")
        requirement = Requirement(wanted.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield requirement, [digest.strip() for digest in hashes]


def install(target: Target, version: str, folder: Path) -> None:
    """Put the packages into a folder, as they would lie in site-packages.

    Args:
        target: the machine.
        version: of its Python, such as '3.11'.
        folder: the folder to make.

    Raises:
        DeviceError: pip cannot reach the index, or a file is not what was pinned.
    """
    listing = folder.with_name(f"{folder.name}-requirements.txt")
    lines = [
        " ".join((f"{wanted.name}{wanted.specifier}", *(f"--hash={digest}" for digest in hashes)))
        for wanted, hashes in requirements(target, version)
    ]
    listing.write_text("\n".join(lines) + "\n")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        # pip would compare with the Python that it runs in.
        "--ignore-requires-python",
        "--no-input", "--no-deps", "--no-compile", "--require-hashes", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={version}",
        *(f"--platform={tag}" for tag in target.wheel_platforms),
        f"--target={folder}", f"--requirement={listing}",
    ]  # fmt: skip
    # What a user set for installing here must not steer what is made for elsewhere.
    environment = {k: v for k, v in os.environ.items() if k not in {"PIP_CONSTRAINT", "PIP_USER"}}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        raise DeviceError(
            f"pip could not fetch the packages for {target.name}, Python {version}: "
            f"{(said or [done.stderr.strip()])[-1].removeprefix('ERROR: ')}",
            hint="check that the package index can be reached, and that pip is installed here",
        )
    listing.unlink()

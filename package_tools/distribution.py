"""An interpreter and its C library from the workstation's own distribution, for any architecture.

apt downloads and checks the signatures, with lists, state and cache in a folder of ours: the
workstation's own apt is neither read for what is installed nor changed. Needs no root.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from package_tools.interpreter import Interpreter
from package_tools.target import Target
from tod.errors import DeviceError, UsageError, first_line

# What to ask apt for; it adds what these need.
_WANTED = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgcc-s1", "libc6")
_TOOLS = ("apt-get", "dpkg-deb")
_ELSEWHERE = "give a python-build-standalone archive with --python-archive FILE"
_CONFIGURATION = """\
Dir::State "{folder}/state";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
{sources}
APT::Architecture "{debian}";
APT::Architectures {{ "{debian}"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
"""
# Ubuntu keeps arm64 on another server than amd64, which the workstation's lists do not name.
_UBUNTU_PORTS = """\
Types: deb
URIs: http://ports.ubuntu.com/ubuntu-ports
Suites: {codename} {codename}-updates {codename}-security
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""


def name() -> str:
    """The distribution, such as 'debian bookworm'.

    Raises:
        UsageError: this workstation has no apt.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise UsageError(f"this workstation has no {' and no '.join(missing)}", hint=_ELSEWHERE)
    release = platform.freedesktop_os_release()
    return f"{release.get('ID', 'debian')} {release.get('VERSION_CODENAME', 'unknown')}"


def fetch(target: Target, folder: Path) -> Interpreter:
    """Download the interpreter's packages and unpack them.

    Args:
        target: the machine it is for.
        folder: an empty folder to work in; the interpreter stays in it.

    Raises:
        DeviceError: apt cannot be reached, or has no such packages.
    """
    distribution = name()
    apt = folder / "apt"
    configuration = _private_apt(target, distribution, apt)
    _run(configuration, "apt-get", "update")
    _run(configuration, "apt-get", "install", "--download-only", "--yes", *_WANTED)
    root = folder / "root"
    origin = []
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        _run(configuration, "dpkg-deb", "--extract", str(package), str(root))
        origin.append(" ".join(package.stem.replace("%3a", ":").split("_")[:2]))
    shutil.rmtree(apt)
    libraries = [root / "lib", root / "usr" / "lib"]
    triplets = [f for parent in libraries for f in parent.glob(f"{target.machine}-linux-gnu*")]
    licences = {p.parent.name: p for p in sorted(root.glob("usr/share/doc/*/copyright"))}
    return Interpreter(
        root / "usr", (*libraries, *triplets), licences, (distribution, *sorted(origin))
    )


def _private_apt(target: Target, distribution: str, folder: Path) -> Path:
    for part in ("state", "lists/partial", "cache/archives/partial", "log"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    sources = ""
    if distribution.startswith("ubuntu ") and target.debian == "arm64":
        (folder / "sources.d").mkdir()
        codename = distribution.split()[1]
        (folder / "sources.d" / "ports.sources").write_text(_UBUNTU_PORTS.format(codename=codename))
        sources = f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{folder}/sources.d";'
    configuration = folder / "apt.conf"
    text = _CONFIGURATION.format(folder=folder, sources=sources, debian=target.debian)
    configuration.write_text(text)
    return configuration


def _run(configuration: Path, *command: str) -> None:
    environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise DeviceError(f"{command[0]}: {first_line(error)}", hint=_ELSEWHERE) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb:"))]
        raise DeviceError(
            f"{' '.join(command[:2])} failed: {'; '.join(said) or done.stderr.strip()}",
            hint=f"check the network and try again, or {_ELSEWHERE}",
        )

"""An interpreter and its C library from the workstation's own distribution, for any architecture.

apt downloads and checks the signatures, with lists, state and cache in a folder of ours; of the
workstation's own apt it takes the sources and the proxies, and changes nothing. Needs no root.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from package_tools.interpreter import Interpreter, Piece
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
Dir::Etc::parts "{folder}/no-more";
{settings}
APT::Architecture "{debian}";
APT::Architectures {{ "{debian}"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
"""
# Ubuntu keeps arm64 and amd64 on different servers; a workstation's lists name one of them.
_UBUNTU = {
    "arm64": "http://ports.ubuntu.com/ubuntu-ports",
    "amd64": "http://archive.ubuntu.com/ubuntu",
}
_UBUNTU_SOURCES = """\
Types: deb
URIs: {server}
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
    # A source that has nothing for this machine, or a bad key, is no matter if the others have all.
    complaint = _said(_call(configuration, "apt-get", "update"))
    install = ("apt-get", "install", "--download-only", "--yes", *_WANTED)
    _run(configuration, *install, complaint=complaint)
    root = folder / "root"
    pieces = []
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        _run(configuration, "dpkg-deb", "--extract", str(package), str(root))
        listing = _run(configuration, "dpkg-deb", "--contents", str(package))
        pieces.append(_piece(package, listing, root))
    shutil.rmtree(apt)
    libraries = [root / "lib", root / "usr" / "lib"]
    triplets = [f for parent in libraries for f in parent.glob(f"{target.machine}-linux-gnu*")]
    return Interpreter(root / "usr", (*libraries, *triplets), distribution, tuple(pieces))


def _piece(package: Path, listing: str, root: Path) -> Piece:
    """One package, from its file name and the lines of `dpkg-deb --contents`."""
    name, version = package.stem.replace("%3a", ":").split("_")[:2]
    # Mode, owner, size, date, time, and the path with what a link leads to.
    paths = [line.split(None, 5)[5].split(" -> ")[0] for line in listing.splitlines()]
    licence = root / "usr/share/doc" / name / "copyright"
    return Piece(name, version, frozenset(Path(path).name for path in paths), licence)


def _private_apt(target: Target, distribution: str, folder: Path) -> Path:
    for part in ("state", "lists/partial", "cache/archives/partial", "log", "no-more", "sources.d"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    # Proxies and their kind are the workstation's; its hooks and extra lists are not for here.
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout
    settings = [line for line in dump.splitlines() if line.startswith("Acquire::http")]
    codename = platform.freedesktop_os_release().get("UBUNTU_CODENAME")
    if codename and platform.machine() != target.machine:
        sources = _UBUNTU_SOURCES.format(server=_UBUNTU[target.debian], codename=codename)
        (folder / "sources.d" / "ubuntu.sources").write_text(sources)
        settings += ['Dir::Etc::sourcelist "/dev/null";']
        settings += [f'Dir::Etc::sourceparts "{folder}/sources.d";']
    configuration = folder / "apt.conf"
    text = _CONFIGURATION.format(folder=folder, settings="\n".join(settings), debian=target.debian)
    configuration.write_text(text)
    return configuration


def _run(configuration: Path, *command: str, complaint: str = "") -> str:
    done = _call(configuration, *command)
    if done.returncode != 0:
        raise DeviceError(
            f"{' '.join(command[:2])} failed: {_said(done)}{complaint and f' ({complaint})'}",
            hint=f"check the network and try again, or {_ELSEWHERE}",
        )
    return done.stdout


def _call(configuration: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise DeviceError(f"{command[0]}: {first_line(error)}", hint=_ELSEWHERE) from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb:"))]
    return "; ".join(lines) or (done.stderr.strip() if done.returncode else "")

"""A device that is reached over ssh: a real sshd on a loopback port, and a link that can break."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import jail
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class SshDevice:
    """An sshd and the folder with its keys and its client's configuration."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        """Where a login begins."""
        return self.folder / "home"

    @property
    def tools(self) -> Path:
        """The only folder on its path."""
        return self.folder / "bin"

    @property
    def name(self) -> str:
        return self.at(self.port)

    def at(self, port: int) -> str:
        return f"ssh:{getpass.getuser()}@127.0.0.1:{port}"

    @property
    def client(self) -> str:
        """The ssh command for TOD_SSH."""
        return f"ssh -F {shlex.quote(str(self.folder / 'client'))}"

    def know(self, *ports: int) -> None:
        """Write the host key for these ports into known_hosts; without ports nothing is known."""
        key = (self.folder / "host.pub").read_text()
        lines = [f"[127.0.0.1]:{port} {key}" for port in ports]
        (self.folder / "known").write_text("".join(lines))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def ssh_device(folder: Path, around: str = "") -> Iterator[SshDevice]:
    """Start an sshd with its own keys; end it by its process.

    Args:
        folder: an empty one, for keys and configuration.
        around: shell commands that run before it, as root in a mount namespace of its own.
    """
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:
        pytest.skip("sshd is not installed (make device-test-tools)")
    if not jail.BUSYBOX.is_file():
        pytest.skip("busybox is not installed (make device-test-tools)")
    if around and os.geteuid() != 0:
        pytest.skip("a mount namespace with an sshd in it needs root")
    if os.geteuid() == 0:
        # Debian's service makes it, and sshd asks for it when it runs as root.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True)
    port = free_port()
    (folder / "server").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nUsePAM no\nStrictModes no\nMaxStartups 100\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        # The user's own login shell comes first, without its settings, and then the device's.
        f"SetEnv HOME={folder}/home\n"
        f"ForceCommand cd {folder}/home && PATH={folder}/bin && . {folder}/greeting && "
        f'exec {folder}/bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    (folder / "greeting").touch()
    (folder / "client").write_text(
        f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile /dev/null\n"
    )
    for name in ("bin", "home"):
        (folder / name).mkdir()
    # What Android 8 has, but setsid, which not every device has.
    jail.add_tools(folder / "bin", jail.TOOLS.replace(" setsid ", " "))
    command = [sshd, "-D", "-e", "-f", str(folder / "server")]
    if around:
        command = ["unshare", "--mount", "sh", "-c", f'{around}; exec "$@"', "-",
                   *command]  # fmt: skip
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    device = SshDevice(folder, port, process)
    device.know(port)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        if process.poll() is not None and around:
            pytest.skip(f"no mount namespace here: {(folder / 'log').read_text().strip()}")
        assert process.poll() is None, (folder / "log").read_text()
        yield device
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


class Link:
    """A TCP connection through loopback that breaks when it has carried enough.

    Args:
        port: of the server behind it.
        limit_bytes: it breaks for good after so many bytes in both directions together.
        silently: then it carries nothing more, and neither end hears of it.
    """

    def __init__(self, port: int, limit_bytes: float, silently: bool) -> None:
        self.silent = threading.Event()
        self._silently = silently
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._behind = port
        self._left = limit_bytes
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._behind))
            self._open += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1024):
                self._left -= len(data)
                if self._left < 0:
                    self.silent.set()
                    if not self._silently:
                        self.cut()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Break it now."""
        # A thread that waits in accept() would keep the socket listening.
        for end in (self._server, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def link(
    device: SshDevice, limit_bytes: float = float("inf"), silently: bool = False
) -> Iterator[Link]:
    """A breaking link to a device whose host key is known under the link's port too."""
    made = Link(device.port, limit_bytes, silently)
    device.know(device.port, made.port)
    try:
        yield made
    finally:
        made.cut()
        device.know(device.port)

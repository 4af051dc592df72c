"""A phone for the tests: the real adb client with its own server, and the daemon in its jail."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.support import jail
from tests.support.waiting import wait_until


def missing() -> str | None:
    """Why there can be no phone on this machine; None: there can."""
    for program in ("adb", "setpriv"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return jail.missing()


class Adb:
    """The user's adb with a server of its own, which sees no other device; a context manager.

    Attributes:
        environment: What a program needs so that its adb asks this server.
    """

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        keys = {
            "HOME": folder,
            "ANDROID_USER_HOME": folder / ".android",
            "ANDROID_SDK_HOME": folder,
        }
        # It looks for nothing: not on USB, in the network, or for emulators on this machine.
        more = {"ANDROID_ADB_SERVER_PORT": port, "ADB_USB": 0, "ADB_MDNS": 0, "ADB_EMU": 0}
        self.environment = os.environ | {name: str(value) for name, value in (keys | more).items()}
        for name in ("ANDROID_SERIAL", "ADB_SERVER_SOCKET"):
            self.environment.pop(name, None)
        self._folder, self._port = folder, port

    def __enter__(self) -> Adb:
        with (self._folder / "adb-server.log").open("w") as log:
            self._server = subprocess.Popen(
                # However the tests end, the server ends with them.
                ["setpriv", "--pdeathsig", "TERM", "adb", "nodaemon", "server"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait()

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self._port)) == 0

    def run(self, *arguments: object, **more) -> subprocess.CompletedProcess[str]:
        """Run adb."""
        return subprocess.run(
            ["adb", *map(str, arguments)],
            env=self.environment,
            timeout=60,
            **{"capture_output": True, "text": True} | more,
        )

    def state(self, serial: str) -> str:
        """The word of "adb devices" for a device; empty when it is not listed."""
        lines = self.run("devices").stdout.splitlines()
        return next((line.split()[1] for line in lines if line.startswith(serial + "\t")), "")


class Phone:
    """The daemon in a jail, connected to adb; a context manager.

    Attributes:
        root: The jail; without a tmpfs its files can be looked at here too.
        serial: What adb calls it.
    """

    def __init__(self, adb: Adb, root: Path, *options: str, data: str = "") -> None:
        self.adb, self.root = adb, root
        self._options, self._data = options, data

    def __enter__(self) -> Phone:
        daemon = [sys.executable, "-m", "tests.support.adb_daemon", self.root, *self._options]
        self._daemon = subprocess.Popen(
            jail.enter(self.root, *daemon, data=self._data),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.serial = f"127.0.0.1:{self._answer()}"
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.switch_off()
        self.adb.run("disconnect", self.serial)

    def switch_off(self) -> None:
        """At once, with all that runs in it; its files stay."""
        self._daemon.kill()
        self._daemon.communicate()

    def _answer(self) -> str:
        line = self._daemon.stdout.readline()
        if not line:
            raise RuntimeError(f"the adb daemon ended with {self._daemon.wait()}")
        return line.strip()

    def connect(self) -> None:
        """Connect adb to the daemon, again after a cut."""
        self.adb.run("disconnect", self.serial)
        self.adb.run("connect", self.serial)
        states = ("device", "unauthorized")
        wait_until(lambda: self.adb.state(self.serial) in states)

    def cut(self, direction: str, after_bytes: int) -> None:
        """Cut the connection once after so many further bytes "received" or "sent" by the phone."""
        self._daemon.stdin.write(f"cut {direction} {after_bytes}\n")
        self._daemon.stdin.flush()
        assert self._answer() == "ok"

    def run(self, *arguments: object, **more) -> subprocess.CompletedProcess:
        """Run adb with this device."""
        return self.adb.run("-s", self.serial, *arguments, **more)

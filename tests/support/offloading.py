"""A receiver, a sender and a broker as processes, for tests that kill them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import FILES
from tests.support.waiting import wait_until

PROGRAM = [sys.executable, "-m", "tod", "offload"]
needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None,
    reason="needs mosquitto: make device-test-tools",
)
TOKEN = {"TOD_OFFLOAD_TOKEN": "a token of a test"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_data(path: Path, count: int = 300, seed: int = 0) -> Path:
    """Samples of `samples.tod`: three kinds of 4 x 4 bytes, hard to tell apart."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 256, (3, 4, 4))
    labels = random.integers(0, 3, count)
    noise = random.normal(0, 60, (count, 4, 4))
    x = np.clip(kinds[labels] + noise, 0, 255).astype(np.uint8)
    np.savez(path, x=x, y=labels)
    return path


class Broker:
    """A real mosquitto, on loopback."""

    def __init__(self, folder: Path, lines: str = "allow_anonymous true\n") -> None:
        self.port, self._folder = free_port(), folder
        folder.mkdir(exist_ok=True)
        # Started by root, it would become a user who may not read the files of a test.
        listen = f"user root\nlistener {self.port} 127.0.0.1\npersistence false\n"
        (folder / "mosquitto.conf").write_text(listen + lines)
        self.start()

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-c", str(self._folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as found:
            return found.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Peer:
    """`tod offload send` or `receive`."""

    def __init__(self, folder: Path, *arguments: object, log: str) -> None:
        self.log = folder / log
        with self.log.open("a") as output:
            self._process = subprocess.Popen(
                [*PROGRAM, *map(str, arguments)], cwd=folder, stdout=output, stderr=output,
                env={**os.environ, **TOKEN},
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, limit_s: float = 120) -> int:
        return self._process.wait(limit_s)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
        return self.wait()


def prepare(folder: Path) -> None:
    """`models/samples.tod` and `data.npz`."""
    (folder / "models").mkdir()
    shutil.copy(FILES / "samples.tod", folder / "models")
    write_data(folder / "data.npz")


def receive(folder: Path, at: str, *more: object) -> Peer:
    options = ("--allow-models", "models", "--name", "bench", "-t", 1)
    return Peer(folder, "receive", at, *options, *more, log="receive.log")


def send(folder: Path, to: str, *more: object, cycles: int = 300, out: str = "out.tod") -> Peer:
    given = ("-f", "models/samples.tod", "-d", "data.npz", "-c", cycles, "--eval-every", 100)
    return Peer(folder, "send", to, *given, "--name", "phone", "-o", out, *more, log="send.log")

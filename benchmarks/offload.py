"""How long 1000 samples of 3,136 bytes take to a receiver's disk, and how many bytes cross.

Run it with `python -m benchmarks.offload`; the broker's part needs mosquitto. Each round is a new
job: from the first offer to the moment when all samples are synced to the disk.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tod
from benchmarks.data import machine
from benchmarks.processes import program, run
from tod.offload.allowed import Limits
from tod.offload.job import Status
from tod.offload.link import Link
from tod.offload.mqtt import Broker as Address
from tod.offload.mqtt import MqttLink
from tod.offload.receiver import Receiver
from tod.offload.sender import Sender, make_job
from tod.offload.tcp import Address as TcpAddress
from tod.offload.tcp import TcpReceiver, TcpSender
from tod.runtime.model import Model
from tod.training.settings import Settings

SAMPLES, ROUNDS = 1000, 5
NETWORK = """
from torch import nn
from model.transfer_net import TransferNet

INPUT = {"shape": (28, 28), "std": 255.0}

def build(classes):
    return TransferNet(nn.Sequential(nn.Flatten(), nn.Linear(784, 8)), nn.Linear(8, classes))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start_broker(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    port, file = free_port(), folder / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin") or "mosquitto"
    process = subprocess.Popen([program, "-c", str(file)], stderr=subprocess.DEVNULL)
    time.sleep(1)
    return process, port


def one_round(folder: Path, seed: int, links: Callable[[], tuple[Link, Link]]) -> tuple[float, int]:
    """Seconds to the disk, and bytes that the sender sent."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (SAMPLES, 28, 28)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=np.arange(SAMPLES) % 10)
    model = Model.load(folder / "models" / "net.tod", cache=False)
    job = make_job(
        model, tod.Dataset.open(folder / "data.npz"), Settings(cycles=1, seed=seed), "samples"
    )
    there, here = links()
    stop = threading.Event()
    limits = Limits(folder / "models")
    receiver = Receiver(there, folder / f"spool{seed}", limits, lambda text: None, threads=1)
    serving = threading.Thread(target=receiver.serve, args=(stop.is_set,))
    serving.start()
    time.sleep(0.5)
    seen: dict[str, float] = {}

    def show(status: Status) -> None:
        seen.setdefault(status.state, time.perf_counter())

    start = time.perf_counter()
    sender = Sender(here, job, model.artifact.path, show=show)
    sender.run()
    stop.set()
    serving.join()
    here.close()
    there.close()
    return seen["waiting"] - start, sender.sent_bytes


def tcp() -> tuple[Link, Link]:
    address = TcpAddress("127.0.0.1", free_port(), "token")
    there = TcpReceiver(address)
    return there, TcpSender(address, "phone")


def main() -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "models").mkdir()
        (folder / "net.py").write_text(NETWORK)
        run([program("tod"), "export", folder / "net.py", "-o", folder / "models" / "net.tod"])
        ways: dict[str, Callable[[], tuple[Link, Link]]] = {"tcp": tcp}
        broker = None
        if shutil.which("mosquitto", path="/usr/sbin:/usr/bin"):
            broker, port = start_broker(folder)
            address = Address("127.0.0.1", port)
            ways["mqtt"] = lambda: (
                MqttLink(address, "bench", None), MqttLink(address, "bench", "phone")
            )  # fmt: skip
        for number, (name, links) in enumerate(ways.items()):
            found = [one_round(folder, 100 * number + seed, links) for seed in range(ROUNDS)]
            seconds = sorted(taken for taken, _ in found)
            data = SAMPLES * 28 * 28 * 4
            share = found[0][1] / data
            print(
                f"{name}: median {seconds[ROUNDS // 2]:.2f} s ({seconds[0]:.2f} to "
                f"{seconds[-1]:.2f}); {found[0][1]:,} bytes for {data:,} of data ({share:.3f})"
            )
        if broker is not None:
            broker.kill()


if __name__ == "__main__":
    main()

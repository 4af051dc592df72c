"""A package and its way to a device: sizes, the first and the second packaging, push, run, pull.

Run it with `python -m benchmarks.package [DEVICE [TARGET]]`: the device as for scripts/push.sh
(local), and whose package it is sent (this machine's). Lite0 and 1000 BMPs. The folder on a device
is tod-benchmark: in the home over ssh, in /data/local/tmp over adb.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.data import ROOT, machine, prepared
from benchmarks.processes import Done, program, run

AGAIN = 5


def packages(model: Path, dataset: Path, folder: Path, target: str) -> Path:
    """Make a package several times; print what it holds and how long that took."""
    out = folder / f"package-{target}"
    command: list[str] = [str(program("tod")), "package", str(model), str(dataset), "-o", str(out)]
    command += ["--target", target]
    first = run([*command, "--refresh"])
    seconds = statistics.median(run(command).seconds for _ in range(AGAIN))
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    parts = json.loads(done.stdout)["parts"]
    print(f"\n{target}: first {first.seconds:.1f} s, again {seconds:.1f} s (median of {AGAIN})")
    for name, size in parts.items():
        print(f"  {name:32}{size / 1e6:7.1f} MB")
    runtime = sum(size for name, size in parts.items() if name.startswith("lib/"))
    print(f"  {'lib':32}{runtime / 1e6:7.1f} MB")
    return out


def way(package: Path, device: str, place: Path | str) -> None:
    """Push a package, push it again, run it, pull what was made."""

    def script(name: str, *more: object) -> Done:
        return run(["sh", ROOT / "scripts" / name, package, "-i", device, "-w", place, *more])

    first = script("push.sh")
    again = statistics.median(script("push.sh").seconds for _ in range(AGAIN))
    job, pull = script("run.sh"), script("pull.sh", "-o", package.parent / "results")
    print(f"\n{device}: {first.output.strip().splitlines()[-1]}")
    print(f"  push {first.seconds:.1f} s, with nothing changed {again:.1f} s (median of {AGAIN})")
    print(f"  run {job.seconds:.1f} s ({job.output.strip().splitlines()[-1]})")
    print(f"  pull {pull.seconds:.1f} s")


def _place(device: str, folder: Path) -> Path | str:
    if device == "local":
        return folder / "there"
    return ("/data/local/tmp/" if device.startswith("adb:") else "") + "tod-benchmark"


def main(device: str = "local", target: str | None = None) -> None:
    print(machine())
    with prepared(1000) as dataset, tempfile.TemporaryDirectory(prefix="tod-package-") as name:
        folder = Path(name)
        model = folder / "transfer_learning.tod"
        run([program("tod"), "export", "-o", model])
        made = {each: packages(model, dataset, folder, each) for each in ("arm64", "x86_64")}
        target = target or {"aarch64": "arm64"}.get(platform.machine(), "x86_64")
        way(made[target], device, _place(device, folder))


if __name__ == "__main__":
    main(*sys.argv[1:3])

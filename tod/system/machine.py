"""Facts about this machine: cores, processor, clock, temperature, memory, optional packages.

Sensors are files below `root`, which is "/" except in tests. A value that the machine does not
report is None.
"""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import re
import sys
from pathlib import Path

from tod.errors import DeviceError

_ROOT = Path("/")
# Keys that identify a kind of core: x86 has the first four, Arm the others.
_CORE_KEYS = (
    "model name", "cpu family", "model", "stepping",
    "CPU implementer", "CPU part", "CPU variant", "CPU revision",
)  # fmt: skip
# Sensors that are not connected show 0 or impossibly high numbers.
_PLAUSIBLE_CELSIUS = (1, 150)
_BATTERIES = ("Battery", "UPS")
_CGROUP = "sys/fs/cgroup"
_SUPPLIES = "sys/class/power_supply"


def available_cores(root: Path = _ROOT) -> int:
    """Return how many threads can compute in parallel: the number of usable cores, limited to the
    CPU time that a control group allows, rounded up; at least 1."""
    limit = cores_limit(root)
    cores = usable_cores()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def usable_cores() -> int:
    """Return how many cores this process may run on, without limits on its CPU time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor(root: Path = _ROOT) -> str:
    """Name board, kinds of cores and architecture in one line: speed and rounding depend on
    them."""
    kinds: dict[str, None] = {}
    for core in re.split(r"\n\s*\n", _read(root / "proc/cpuinfo")):
        fields = dict(re.findall(r"^(.*?)\s*:[ \t]*(.*)$", core, re.M))
        said = [f"{k.split()[-1]} {fields[k]}" for k in _CORE_KEYS if k in fields]
        kinds[", ".join(said).removeprefix("name ")] = None
    board = _read(root / "proc/device-tree/model").strip("\0\n ")
    known = [board] * bool(board) + [" + ".join(kind for kind in kinds if kind)]
    name = ", ".join(text for text in known if text) or platform.processor() or "unknown"
    return f"{name} ({platform.machine()})"


def instructions(root: Path = _ROOT) -> tuple[str, ...]:
    """List the instruction sets of the first core. A hypervisor may hide some of them, and then a
    runtime computes in another order."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(root / "proc/cpuinfo"), re.M)
    return tuple(sorted(found[1].split())) if found else ()


def governor(root: Path = _ROOT) -> str | None:
    """Name the kernel's governor of the cores' clocks, e.g. "schedutil"."""
    cores = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    found = {_read(file).strip() for file in cores} - {""}
    return ", ".join(sorted(found)) or None


def temperature_celsius(root: Path = _ROOT) -> float | None:
    """Temperature of the hottest sensor that the kernel knows."""
    texts = [_read(file).strip() for file in (root / "sys/class/thermal").glob("*/temp")]
    found = [int(text) / 1000 for text in texts if re.fullmatch(r"-?\d+", text)]
    low, high = _PLAUSIBLE_CELSIUS
    return max((celsius for celsius in found if low <= celsius <= high), default=None)


def mains_online(root: Path = _ROOT) -> bool | None:
    """Tell whether a socket or a charger feeds this machine; None if unknown.

    A charger that is online decides first, then the state of the batteries. USB entries that are
    offline prove nothing: a desktop's ports, which power other devices, look the same.
    """
    supplies = _supplies(root)
    if any(s["online"] not in ("", "0") for s in supplies if s["type"] not in _BATTERIES):
        return True
    doing = {s["status"] for s in supplies if s["type"] in _BATTERIES}
    if "Discharging" in doing:
        return False
    if "Charging" in doing:
        return True
    # "Full" may stay for a while after the plug is pulled, so a sensor of the plug is asked first.
    if any(s["type"] == "Mains" and s["online"] == "0" for s in supplies):
        return False
    return True if doing & {"Full", "Not charging"} else None


def battery_percent(root: Path = _ROOT) -> float | None:
    """Charge of the battery, or the mean of several; None if there is no battery."""
    texts = [s["capacity"] for s in _supplies(root) if s["type"] in _BATTERIES]
    found = [min(float(text), 100.0) for text in texts if re.fullmatch(r"\d+", text)]
    return sum(found) / len(found) if found else None


def _supplies(root: Path) -> list[dict[str, str]]:
    """Read the kernel's data on each power supply of this machine, without those of a mouse or
    pen."""
    keys = ("type", "online", "status", "capacity", "scope", "present")
    found = [
        {key: _read(supply / key).strip() for key in keys}
        for supply in sorted((root / _SUPPLIES).glob("*"))
    ]
    return [s for s in found if s["type"] and s["scope"] != "Device" and s["present"] != "0"]


def sensors_root() -> Path:
    """Return the folder that holds /sys with the sensors: `TOD_SENSORS_ROOT`, or "/"."""
    return Path(os.environ.get("TOD_SENSORS_ROOT") or _ROOT)


def resident_memory_mb() -> float | None:
    """The memory of this process now, counted as in `peak_memory_mb`; None except on Linux."""
    status = re.search(r"^VmRSS:\s*(\d+) kB", _read(_ROOT / "proc/self/status"), re.M)
    return int(status[1]) * 1024 / 1e6 if status else None


def peak_memory_mb(root: Path = _ROOT) -> float | None:
    """The peak memory of this process so far, in units of 10^6 bytes. It counts resident pages,
    including the parts of libraries and files that the process has used."""
    status = re.search(r"^VmHWM:\s*(\d+) kB", _read(root / "proc/self/status"), re.M)
    if status:
        return int(status[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024) / 1e6


def memory_mb(root: Path = _ROOT) -> tuple[float, float] | None:
    """Total and available memory, in units of 10^6 bytes."""
    text = _read(root / "proc/meminfo")
    found = [
        re.search(rf"^{name}:\s*(\d+) kB", text, re.M) for name in ("MemTotal", "MemAvailable")
    ]
    total, available = (None if match is None else int(match[1]) * 1024 / 1e6 for match in found)
    return None if total is None or available is None else (total, available)


def memory_limit_mb(root: Path = _ROOT) -> float | None:
    """The lowest memory limit that a control group (a container, a service) sets on this
    process."""
    texts = [
        _read(folder / file).strip()
        for folder in _groups(root, "memory")
        for file in ("memory.max", "memory.limit_in_bytes")
    ]
    # Version 1 shows a huge number if there is no limit.
    limits = [int(text) / 1e6 for text in texts if re.fullmatch(r"\d{1,18}", text)]
    return min(limits, default=None)


def cores_limit(root: Path = _ROOT) -> float | None:
    """The CPU time that a control group allows this process, in cores, e.g. 1.5."""
    texts = []
    for folder in _groups(root, "cpu"):
        texts.append(_read(folder / "cpu.max"))
        texts.append(f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}")
    found = [re.fullmatch(r"\s*(\d+)\s+([1-9]\d*)\s*", text) for text in texts]
    return min((int(match[1]) / int(match[2]) for match in found if match), default=None)


def libc(root: Path = _ROOT) -> str:
    """Name the C library, with its version if known."""
    name, version = platform.libc_ver()
    if name:
        return f"{name} {version}"
    if list((root / "lib").glob("ld-musl-*")):
        return "musl"
    return "bionic" if (root / "system/bin/linker64").exists() else "unknown"


def _groups(root: Path, controller: str) -> list[Path]:
    """List the folders of this process's control group and of the groups above it, for version 2
    and for `controller` in version 1. The root folders are included, because in a container the
    root may be the process's own group.

    Source: cgroups(7), "/proc files".
    """
    places: dict[Path, Path] = dict.fromkeys((Path(), Path(controller)), Path())
    for _, names, place in re.findall(
        r"^(\d+):(.*?):/?(.*)$", _read(root / "proc/self/cgroup"), re.M
    ):
        # ".." means a group that is not visible from here.
        own = Path() if ".." in Path(place).parts else Path(place)
        if not names:
            places |= dict.fromkeys((Path(), Path("unified")), own)
        elif controller in names.split(","):
            places |= dict.fromkeys((Path(controller), Path(names)), own)
    return [
        root / _CGROUP / top / Path(*own.parts[:count])
        for top, own in places.items()
        for count in range(len(own.parts) + 1)
    ]


def require(module: str, extra: str) -> None:
    """Raise DeviceError when a package of an optional extra is not installed."""
    if importlib.util.find_spec(module) is None:
        raise DeviceError(
            f"this command needs the package '{module}', which is not installed here",
            hint=install(extra),
        )


def install(extra: str) -> str:
    """How to get an optional extra, in words.

    Not `pip install tod[...]`: in the package index that name belongs to another project.
    """
    return f"in the folder with TOD's source: pip install -c constraints.txt '.[{extra}]'"


def _read(file: Path) -> str:
    """Read a small file; the text is empty if the file is missing or forbidden, or its sensor
    fails."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""

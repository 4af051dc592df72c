"""What this machine has: processor, cores and optional packages."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

from tod.errors import DeviceError


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Architecture and name of the processor, as far as the system tells."""
    told: dict[str, str] = {}
    try:
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            told.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    # An ARM core has numbers in place of a name.
    named = [told[key] for key in ("model name", "CPU implementer", "CPU part") if key in told]
    return " ".join([platform.machine(), *(named or [platform.processor()])]).strip()


def require(module: str, extra: str) -> None:
    """Raise DeviceError when a package of an optional extra is not installed."""
    if importlib.util.find_spec(module) is None:
        raise DeviceError(
            f"this command needs the package '{module}', which is not installed here",
            hint=f"pip install 'tod[{extra}]'",
        )

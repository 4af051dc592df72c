"""What this machine has: cores and optional packages."""

from __future__ import annotations

import importlib.util
import os

from tod.errors import DeviceError


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require(module: str, extra: str) -> None:
    """Raise DeviceError when a package of an optional extra is not installed."""
    if importlib.util.find_spec(module) is None:
        raise DeviceError(
            f"this command needs the package '{module}', which is not installed here",
            hint=f"pip install 'tod[{extra}]'",
        )

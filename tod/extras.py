"""Optional packages: one line that says what to install instead of a traceback."""

from __future__ import annotations

import importlib.util

from tod.errors import DeviceError


def require(module: str, extra: str) -> None:
    """Raise DeviceError when a package of an optional extra is not installed."""
    if importlib.util.find_spec(module) is None:
        raise DeviceError(
            f"this command needs the package '{module}', which is not installed here",
            hint=f"pip install 'tod[{extra}]'",
        )

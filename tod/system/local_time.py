"""The local time, and whether the C library knows its time zone.

A C library that does not know the zone uses UTC without a message.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from tod.system import machine

_ROOT = Path("/")
_ZONES = "usr/share/zoneinfo"
_LOCAL = "etc/localtime"
# A rule that needs no file: POSIX.1-2024, 8.3 "Other Environment Variables", TZ, third form.
_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_MINUTES = r"(?::[0-5]?\d(?::[0-5]?\d)?)?"
_OFFSET = rf"[+-]?(?:2[0-4]|[01]?\d){_MINUTES}"
_DAY = r"(?:M(?:1[0-2]|0?[1-9])\.[1-5]\.[0-6]|J?(?:36[0-5]|3[0-5]\d|[012]?\d?\d))"
_CHANGE = rf",{_DAY}(?:/[+-]?(?:16[0-7]|1[0-5]\d|\d?\d){_MINUTES})?"
_RULE = re.compile(rf"{_NAME}{_OFFSET}(?:{_NAME}(?:{_OFFSET})?(?:{_CHANGE}{_CHANGE})?)?", re.ASCII)


def clock(now: time.struct_time) -> str:
    """Write a time with its zone, such as "14:05 CET (UTC+1)"."""
    minutes = now.tm_gmtoff // 60
    hours, rest = divmod(abs(minutes), 60)
    offset = f"{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02d}" if rest else "")
    return f"{now.tm_hour:02d}:{now.tm_min:02d} {now.tm_zone} (UTC{offset})"


def is_told(environment: Mapping[str, str] = os.environ, root: Path = _ROOT) -> bool:
    """Tell whether anything here names a time zone; if not, the local time is UTC."""
    return not hasattr(time, "tzset") or "TZ" in environment or (root / _LOCAL).exists()


def unknown_zone(environment: Mapping[str, str] = os.environ, root: Path = _ROOT) -> str | None:
    """Return `TZ` if the C library does not know it: it is neither a rule nor the file of a zone.

    Source: tzset(3) of glibc.
    """
    given = environment.get("TZ")
    # Android's C library has all zones in one file and finds them there.
    if given is None or not hasattr(time, "tzset") or machine.libc() == "bionic":
        return None
    zone = given.removeprefix(":")
    # An empty name means UTC by definition; "UTC" and "GMT" need no file.
    if zone in ("", "UTC", "GMT") or _RULE.fullmatch(zone):
        return None
    # An absolute path stays as it is when it is joined.
    file = Path(environment.get("TZDIR") or root / _ZONES, zone)
    return None if _is_zone(file) else given


def _is_zone(file: Path) -> bool:
    """Tell whether a file begins as RFC 8536 says."""
    try:
        with file.open("rb") as opened:
            return opened.read(4) == b"TZif"
    except (OSError, ValueError):
        return False

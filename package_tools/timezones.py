"""Make `package_templates/lib/timezones`: the rule of each time zone, for devices without tzdata.

A phone has its zones in a file that only its own C library reads. One line for each rule as POSIX
writes it in TZ, and after it the zones that have it: 9 KB, where the files take 0.35 MB packed and
1.3 MB unpacked. A rule knows no changes of the past and no Ramadan; what it says of today is right
as long as no government changes its mind. Called by hand when that has happened, with the newest
tzdata of the package index:

    python -m package_tools.timezones FOLDER_WITH_ZONES >package_templates/lib/timezones
"""

from __future__ import annotations

import sys
from pathlib import Path

# Links of old, and the same zones once more with and without leap seconds.
_NO_ZONES = ("posix", "right", "posixrules", "localtime", "Factory")


def table(folder: Path) -> str:
    """The lines for a folder of zones."""
    zones: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and name.parts[0] not in _NO_ZONES and (rule := _rule(file)):
            zones.setdefault(rule, []).append(name.as_posix())
    return "".join(f"{rule} {' '.join(zones[rule])}\n" for rule in sorted(zones))


def _rule(file: Path) -> str:
    """The last line of a zone's file (RFC 8536, 3.3); empty for other files and those of before
    2005, which have none."""
    data = file.read_bytes()
    if data[:4] != b"TZif" or data[4:5] < b"2":
        return ""
    return data[:-1].rpartition(b"\n")[2].decode("ascii")


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])))

"""The text of an INI file as sections with their keys, each with its line.

Knows lines, sections, keys, comments and quotes; knows no key by name. Names of sections and keys
are in lower case, as nntrainer compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tod.errors import UsageError

MAX_BYTES = 1 << 20
_COMMENTS = ("#", ";")


@dataclass(frozen=True)
class Place:
    """Where something stands in a file."""

    path: Path
    line: int
    section: str = ""

    def wrong(self, problem: str, hint: str = "") -> UsageError:
        """The one error about this place."""
        within = f", [{self.section}]" if self.section else ""
        return UsageError(f"{self.path}, line {self.line}{within}: {problem}", hint=hint)


@dataclass(frozen=True)
class Item:
    value: str
    place: Place


@dataclass(frozen=True)
class Section:
    name: str
    place: Place
    items: dict[str, Item]


def read(path: Path) -> tuple[Section, ...]:
    """Read a file's sections, in their order.

    Raises:
        UsageError: it cannot be read, or a line that is none of an INI file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", hint="give an INI file of nntrainer") from None
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: more than {MAX_BYTES:,} bytes, which no INI file has")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Place(path, line).wrong("it is no text in UTF-8") from None
    return parse(text, path)


def parse(text: str, path: Path) -> tuple[Section, ...]:
    """The sections of a text; see `read`."""
    found: dict[str, Section] = {}
    section: Section | None = None
    # Not splitlines: it also splits at characters that no editor counts as the end of a line.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        line = line.strip()
        place = Place(path, number, section.name if section else "")
        if not line or line.startswith(_COMMENTS):
            continue
        if line.startswith("["):
            section = _section(line, Place(path, number))
            if section.name in found:
                first = found[section.name].place.line
                raise section.place.wrong(f"this section stands in line {first} already")
            found[section.name] = section
        elif section is None:
            raise place.wrong("this stands before the first [section]")
        else:
            _add(section, line, place)
    return tuple(found.values())


def _section(line: str, place: Place) -> Section:
    name, closed, rest = line[1:].partition("]")
    name = name.strip().lower()
    if not closed or not name:
        raise place.wrong(f"{line!r} is no section", hint="a section is [name] on its own line")
    if rest.strip() and not rest.strip().startswith(_COMMENTS):
        raise place.wrong(f"{rest.strip()!r} follows a section on its line")
    return Section(name, Place(place.path, place.line, name), {})


def _add(section: Section, line: str, place: Place) -> None:
    key, equals, rest = line.partition("=")
    key = key.strip().lower()
    if not equals or not key or any(mark in key for mark in _COMMENTS):
        raise place.wrong(f"{line!r} is neither a section nor key = value")
    if key in section.items:
        first = section.items[key].place.line
        raise place.wrong(f"{key} is given a second time, first in line {first}")
    value = _value(rest.strip(), key, place)
    if not value:
        raise place.wrong(f"{key} has no value", hint="give one, or take the line out")
    section.items[key] = Item(value, place)


def _value(text: str, key: str, place: Place) -> str:
    if text[:1] in ("'", '"'):
        value, closed, rest = text[1:].partition(text[0])
        if not closed or (rest.strip() and not rest.strip().startswith(_COMMENTS)):
            raise place.wrong(f"the quotes of {key} do not end where its value does")
        return value.strip()
    ends = [text.index(mark) for mark in _COMMENTS if mark in text]
    return text[: min(ends, default=len(text))].strip()

"""Declare a setting once: its default, range, option and help.

A table of settings is a frozen dataclass whose fields are made with `setting`. Its Python keywords
are the fields, its checks are `checked`, and `tod.cli.options` makes the options of the command
line from it. Knows no command line and no model.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tod.errors import SettingError

_KEY = "setting"
_Table = TypeVar("_Table")
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of a table.

    Attributes:
        name: the Python keyword.
        option: the long option of the command line.
        short: further options, such as "-c".
        help: its meaning; begins with a noun or a verb.
        kinds: the types of its values; the last type is used on the command line. None is always
            allowed and means "not given".
        choices: the allowed values, if there are only a few.
        default: the value if it is not given; None: the value comes from `default_from`.
        default_from: where the default comes from, in words.
        least, above, most: the range; a value may equal `least` and `most`, but not `above`.
        kept: a checkpoint keeps it, so it need not be given again for a resumed run.
        exact: another value changes the numbers that a resumed run computes.
    """

    name: str
    option: str
    short: tuple[str, ...]
    help: str
    kinds: tuple[type, ...]
    choices: tuple[str, ...]
    default: Any
    default_from: str
    least: float
    above: float
    most: float
    kept: bool
    exact: bool

    @property
    def kind(self) -> type:
        """The type of a value on the command line."""
        return self.kinds[-1]

    @property
    def text(self) -> str:
        """The help text: the meaning, and the default."""
        known = self.default_from or ("" if self.default is None else f"{self.default:g}")
        return f"{self.help.removesuffix('.')} (default: {known})." if known else self.help

    @property
    def wanted(self) -> str:
        """The values that are allowed, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)} is wanted"
        number = "a whole number" if self.kind is int else "a number"
        if self.kind not in (int, float):
            return "a text is wanted" if self.kind is str else f"{self.kind.__name__} is wanted"
        if self.above > -math.inf:
            up_to = "" if self.most == math.inf else f" up to {self.most:g}"
            return f"{number} above {self.above:g}{up_to} is wanted"
        if self.most < math.inf:
            return f"{number} from {self.least:g} to {self.most:g} is wanted"
        return (
            f"at least {self.least:g} is wanted"
            if self.least > -math.inf
            else f"{number} is wanted"
        )

    def taken(self, value: Any) -> Any:
        """Return the value as a plain Python value; None if it is not allowed."""
        if self.choices:
            return value if value in self.choices else None
        if self.kind is bool or not isinstance(value, Real):
            return value if isinstance(value, self.kinds) else None
        if isinstance(value, bool) or (self.kind is int and not isinstance(value, Integral)):
            return None
        # A comparison with NaN is false.
        number = float(value)
        if not (self.least <= number <= self.most and self.above < number < math.inf):
            return None
        return self.kind(value)


def setting(
    help: str,
    *short: str,
    default: Any = None,
    default_from: str = "",
    option: str = "",
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    kept: bool = True,
    exact: bool = False,
    unset: Any = None,
) -> Any:
    """A field of a table of settings; the arguments are the attributes of `Setting`.

    Args:
        unset: the field's value if the setting is not given; None by default.
    """
    row = {
        "help": help, "short": short, "default": default, "default_from": default_from,
        "option": option, "least": least, "above": above, "most": most, "kept": kept,
        "exact": exact,
    }  # fmt: skip
    return dataclasses.field(default=unset, metadata={_KEY: row})


def flag(help: str, *short: str, option: str = "") -> Any:
    """A field that is False by default."""
    return setting(help, *short, option=option, kept=False, unset=False)


def rows(table: type) -> Mapping[str, Setting]:
    """The settings of a table by name, in its order."""
    hints = get_type_hints(table)
    found = {}
    for field in dataclasses.fields(table):
        if _KEY in field.metadata:
            row = dict(field.metadata[_KEY])
            kinds, choices = _kinds(hints[field.name])
            row["option"] = row["option"] or "--" + field.name.replace("_", "-")
            found[field.name] = Setting(name=field.name, kinds=kinds, choices=choices, **row)
    return found


def from_keywords(table: type[_Table], given: Mapping[str, Any]) -> _Table:
    """Make a checked table from Python keywords.

    Raises:
        SettingError: a keyword that the table does not have, or a value that is not allowed.
    """
    known = rows(table)
    if unknown := [name for name in given if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        raise SettingError(
            *((name, name, "is no setting") for name in unknown),
            hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}",
        )
    return checked(table(**given))


def with_keywords(table: type) -> Callable[[_Function], _Function]:
    """Add a table's settings to the signature and docstring of a function that takes
    `**settings`."""

    def shown(function: _Function) -> _Function:
        signature = inspect.signature(function)
        others = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        annotations = {field.name: field.type for field in dataclasses.fields(table)}
        keywords = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, annotation=annotations[name],
                default=_unset(table, name),
            )
            for name in rows(table)
        ]  # fmt: skip
        function.__signature__ = signature.replace(parameters=[*others, *keywords])  # type: ignore[attr-defined]
        lines = [f"    {name}: {row.text}" for name, row in rows(table).items()]
        text = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = "\n".join([text, "", "Settings:", *lines, ""])
        return function

    return shown


def _unset(table: type, name: str) -> Any:
    return next(field.default for field in dataclasses.fields(table) if field.name == name)


def checked(table: _Table) -> _Table:
    """Return the table with plain Python values, so that NumPy numbers are written like others.

    Raises:
        SettingError: values that are not allowed.
    """
    return dataclasses.replace(table, **check(table))  # type: ignore[type-var]


def check(table: object) -> dict[str, Any]:
    """Return the given values of a table, as plain Python values.

    Raises:
        SettingError: values that are not allowed, all of them at once.
    """
    settings = rows(type(table))
    given = {name: value for name in settings if (value := getattr(table, name)) is not None}
    taken = {name: settings[name].taken(value) for name, value in given.items()}
    wrong = [_wrong(settings[name], given[name]) for name, value in taken.items() if value is None]
    if wrong:
        raise SettingError(*wrong)
    return taken


def _wrong(row: Setting, value: Any) -> tuple[str, str, str]:
    """Return the arguments of `SettingError` for a value that is not allowed."""
    shown = f"{value:g}" if isinstance(value, float) else repr(value)
    return row.name, row.option, f"is {shown}, {row.wanted}"


def refused(table: type, name: str, problem: str, *, hint: str = "") -> SettingError:
    """Make the error for a setting whose value is valid, but not allowed here.

    Args:
        table: the table that declares the setting.
        name: its keyword.
        problem: text that continues after the name.
        hint: what to do.
    """
    return SettingError((name, rows(table)[name].option, problem), hint=hint)


def _kinds(hint: Any) -> tuple[tuple[type, ...], tuple[str, ...]]:
    """Return the types of a field's values without None, and the texts of a Literal."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if get_origin(kinds[0]) is Literal:
        return (str,), get_args(kinds[0])
    return kinds, ()

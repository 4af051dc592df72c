"""HTML and SVG that is escaped by construction: what is no Markup becomes text.

Names of files, folders and classes come from anyone. They reach a page through `tag` alone, as
children or values of attributes; both are escaped there, so no caller can forget it.
"""

from __future__ import annotations

from html import escape

from tod.system.text import shown

_EMPTY = {"meta", "img", "br"}
_LONGEST = 72


class Markup(str):
    """Text that is HTML already."""


def text(value: object) -> Markup:
    """Anything as text of a page: control characters, lone surrogates and what turns the direction
    of writing are shown as escapes, the five characters of HTML as entities."""
    return value if isinstance(value, Markup) else Markup(escape(shown(str(value))))


def tag(kind: str, *inside: object, **attributes: object) -> Markup:
    """An element. Children and values of attributes that are no Markup are escaped; None is left
    out.

    Args:
        kind: "p", "rect" and so on; never from outside.
        inside: its children.
        attributes: `class_` is class, `stroke_width` is stroke-width; True stands alone.
    """
    made = [kind]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        made.append(name if value is True else f'{name}="{_value(value)}"')
    opening = f"<{' '.join(made)}>"
    if kind in _EMPTY:
        return Markup(opening)
    return Markup(f"{opening}{joined(*inside)}</{kind}>")


def joined(*parts: object) -> Markup:
    """Several parts, one after the other."""
    return Markup("".join(text(part) for part in parts if part is not None))


def cut(value: object, longest: int = _LONGEST) -> str:
    """A text as it is shown, without its middle where it is very long: a page has an end."""
    whole = shown(str(value))
    if len(whole) <= longest:
        return whole
    end = longest // 3
    return f"{whole[: longest - end]}…{whole[-end:]}"


def name(value: object) -> Markup:
    """The name of a file or a class: apart from what stands around it, whatever way it is written,
    and cut where it is very long."""
    # A path may be broken after a folder.
    return tag("bdi", Markup("/<wbr>".join(text(part) for part in cut(value).split("/"))))


def _value(value: object) -> str:
    # Twice, as a Markup inside an attribute would still be text there.
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10 else f"{value:.1f}"
    return escape(shown(str(value)))

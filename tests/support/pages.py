"""What a browser makes of a report's page: its elements, its text, and what in it could do harm."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

KNOWN = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section",
    "h1", "h2", "h3", "p", "a", "b", "bdi", "wbr", "span", "div", "ul", "li", "dl", "dt", "dd",
    "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary",
    "img", "svg", "line", "path", "rect", "circle", "text",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "href", "id", "class", "scope", "tabindex",
    "src", "alt", "loading", "role", "aria-label", "aria-hidden", "viewbox", "preserveaspectratio",
    "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "width", "height", "text-anchor",
}  # fmt: skip
EMPTY = {"meta", "img", "br", "wbr"}


class Page(HTMLParser):
    """Elements with their attributes, and the text outside of styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len({name for name, _ in attrs}), attrs
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data):
        raise AssertionError(f"an instruction: {data}")

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.elements if attribute in attrs]


def harmless(html: str) -> Page:
    """Parse a page, and check that it is whole and that nothing in it can act: elements and
    attributes of ours only, no script, no address but pictures in the page and places in it."""
    page = Page(html)
    assert page.open == []
    assert {tag for tag, _ in page.elements} <= KNOWN
    assert {name for _, attrs in page.elements for name in attrs} <= ATTRIBUTES
    assert all(re.fullmatch(r"#[a-z]+", address) for address in page.values("href"))
    for source in page.values("src"):
        kind, data = source.split(",")
        assert kind == "data:image/jpeg;base64"
        Image.open(io.BytesIO(base64.b64decode(data, validate=True))).verify()
    (policy,) = [p for p in page.values("content") if "default-src" in p]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "img-src data:;" in policy
    assert "unsafe" not in policy
    assert html.count("<style>") == 1
    html.encode()  # no lone surrogate is in it
    assert not re.search(r"[\0-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    return page

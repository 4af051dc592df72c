"""200 names that would do harm on a page that takes them as they are."""

from __future__ import annotations

_MARKUP = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</title><script>x</script>",
    "\"><svg onload=alert(1)>", "' onmouseover='alert(1)", "</style><script>x</script>",
    "<!-- ", "--><b>", "<![CDATA[x]]>", "<?php x ?>", "&lt;script&gt;", "&#60;b&#62;", "&amp;",
    "javascript:alert(1)", "<iframe src=//evil.example>", "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0;url=//evil.example>", "<link rel=stylesheet href=//x>",
    "<a href=//evil.example>click</a>", "{{7*7}}", "${7*7}", "<bdi>", "</bdi></td></table>",
    "<details open ontoggle=alert(1)>", "<style>*{display:none}</style>", "</svg><p>", "` onx=`",
    "=cmd|' /C calc'!A0", "a\tb", "a\nb", "a\r\nb", "\x1b[31mred", "\x07", "a\0b", "\x7f", "\x85",
    "\u202egnp.exe", "\u2066a\u2069", "\u200f", "\u05d0\u05d1\u05d2", "\u0627\u0644", "\u2028",
    "\udcff\udcfe", "caf\udce9", "\ud83d", "\ufeff", "\ufffe", "e" + "\u0301" * 20,
    "\U0001f469\u200d\U0001f680", "x" * 300,
)  # fmt: skip
NAMES = tuple(
    f"{before}{name}{after}"
    for before, after in (("", ""), ('"', '"'), ("a/", ".png"), ("'>", "<'"))
    for name in _MARKUP
)
assert len(set(NAMES)) == 200, len(set(NAMES))

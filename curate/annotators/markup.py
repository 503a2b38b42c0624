"""Find and take out HTML that was left in a text: known tags only, so that "a < b" stays."""

from __future__ import annotations

import re
from html.entities import html5

# Source of the names: HTML Living Standard, text-level, grouping, table and embedded elements, and
# the presentational ones of HTML 4 that old pages still carry.
_INLINE = (
    "a|abbr|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|"
    "strike|strong|sub|sup|time|tt|u|var|wbr"
)
_BLOCK = (
    "article|aside|blockquote|br|button|center|div|figcaption|figure|footer|form|h1|h2|h3|h4|h5|h6|"
    "header|hr|img|input|li|main|nav|noscript|ol|option|p|picture|pre|script|section|select|source|"
    "style|svg|table|tbody|td|th|tr|ul|iframe|object|embed|video|audio"
)
# Attributes without a value are none here: "x<b and c>d" is no tag.
_ATTRIBUTES = r"(?:\s+[a-z:-]{1,40}\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=]+))*\s*/?"
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})\b{_ATTRIBUTES}>", re.I)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK})\b{_ATTRIBUTES}>", re.I)
_COMMENT = re.compile(r"<!--[^<>]*-->")
_ENTITY = re.compile(r"&(?:#[0-9]{2,7}|#x[0-9a-f]{2,6}|([a-z][a-z0-9]{1,31}));", re.I)


def has_markup(text: str) -> bool:
    """Tell whether tags or entities are left in a text ("&amp;", "<br>").

    >>> [has_markup(text) for text in ("cats &amp; dogs", "<b>cat</b>", "a < b & c;")]
    [True, True, False]
    """
    if "&" in text and any(_is_entity(match) for match in _ENTITY.finditer(text)):
        return True
    return "<" in text and strip_tags(text) != text


def strip_tags(text: str) -> str:
    """Take tags and comments out; a space stands for those that break a line."""
    if "<" not in text:
        return text
    return _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", _COMMENT.sub(" ", text)))


def _is_entity(match: re.Match[str]) -> bool:
    name = match.group(1)
    return name is None or f"{name};" in html5

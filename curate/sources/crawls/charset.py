"""Decode a web page's bytes as browsers do: byte order mark, HTTP header, its own words, a guess.

Source: HTML Standard 13.2.3 (the sniffing) and WHATWG Encoding Standard 4.2 (the labels).
"""

from __future__ import annotations

import codecs
import re

_PRESCAN_BYTES = 1024  # Source: HTML Standard 13.2.3.3, "prescan a byte stream"
_COMMENT = re.compile(rb"<!--.*?(?:-->|$)", re.DOTALL)
_IN_PAGE = re.compile(
    rb"<(?:meta\b[^>]*?charset|\?xml\b[^>]*?encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE
)
_IN_HEADER = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
          (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip

# What browsers read as a larger character set than Python does, and labels Python lacks.
_WIDER = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874",
    "tis-620": "cp874", "windows-874": "cp874", "gb2312": "gb18030", "gbk": "gb18030",
    "x-gbk": "gb18030", "shift_jis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932",
    "euc_kr": "cp949", "big5": "big5hkscs", "iso-8859-8-i": "iso8859-8",
    "x-mac-cyrillic": "mac-cyrillic", "utf-16": "utf-16-le",
}  # fmt: skip
# Python has more (utf-7, rot13, unicode_escape), which no page may choose.
_KNOWN = frozenset(
    (
        "utf-8", "utf-16-le", "utf-16-be", "gb18030", "big5hkscs", "cp932", "euc_jp", "iso2022_jp",
        "cp949", "koi8-r", "koi8-u", "cp866", "mac-roman", "mac-cyrillic", "cp874",
        *(f"cp125{number}" for number in range(9)),
        *(f"iso8859-{number}" for number in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)),
    )
)  # fmt: skip


def decode_page(data: bytes, content_type: str = "") -> str:
    """Decode a page; bytes that do not fit become U+FFFD.

    Args:
        data: of the page.
        content_type: the answer's header.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, errors="replace")
    stated = _IN_HEADER.search(content_type)
    name = _find_codec(stated[1]) if stated else ""
    name = name or _from_page(data[:_PRESCAN_BYTES])
    if not name:
        try:
            return data.decode()
        except UnicodeDecodeError:
            name = "cp1252"
    return data.decode(name, errors="replace")


def _from_page(head: bytes) -> str:
    found = _IN_PAGE.search(_COMMENT.sub(b"", head))
    name = _find_codec(found[1].decode("latin-1")) if found else ""
    return "utf-8" if name.startswith("utf-16") else name  # its own words were read as ASCII


def _find_codec(label: str) -> str:
    """Find the codec that browsers mean by a label; "" when they know none."""
    label = label.lower()
    try:
        name = codecs.lookup(label).name
    except LookupError:
        name = label
    name = _WIDER.get(name, name)
    return name if name in _KNOWN else ""

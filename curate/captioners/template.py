"""Make captions from a sample's own metadata, without a model: cleaned alt text, or its file name.

Used where no captioner is wanted or none fits, and as the baseline that generated captions must
beat. No picture is opened.
"""

from __future__ import annotations

import html
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from curate.captioners.captioner import CaptionAttempt

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
# File names of cameras and exports say nothing. Source: the kinds listed in the default names of
# DCF cameras (JEITA CP-3461: four letters, four digits) and common exports.
_CAMERA_NAME = re.compile(
    r"(?:img|dsc|dscn|dscf|pict?|image|photo|picture|screenshot|untitled|scan|p)?[\s\d]*",
    re.IGNORECASE,
)


def clean_alt_text(alt: str) -> str:
    """Unescape HTML, drop tags and URLs, fold whitespace."""
    text = _URL.sub(" ", _TAG.sub(" ", html.unescape(alt)))
    return " ".join(text.split())


def words_from_name(url: str) -> str:
    """Turn the file name in a URL or path into words; "" when it is a camera's number.

    >>> words_from_name("https://example.org/a/red-circle_and%20star.jpg")
    'red circle and star'
    """
    stem = PurePosixPath(unquote(urlsplit(url).path)).stem
    text = " ".join(re.sub(r"[-_+.]+", " ", stem).split())
    return "" if _CAMERA_NAME.fullmatch(text) else text


def caption_from_metadata(alt: str, url: str = "") -> CaptionAttempt:
    """Caption a sample from its alt text, or from its file name when the alt text is empty."""
    text = clean_alt_text(alt) or words_from_name(url)
    return CaptionAttempt(text_raw=text, prompt="", finish_reason="stop")

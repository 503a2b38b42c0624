"""Spell the key, the columns every side table has, and the schemas that several stages share.

A key is 20 hex characters of sha256 over what the sample is (url and caption, or the bytes of a
local file): unique in a shard set, without dots and slashes, sortable, never rewritten.
"""

from __future__ import annotations

import hashlib
import re

import pyarrow as pa

KEY = "key"
STATUS = "status"
OK = "ok"

_KEY_RULE = "[0-9a-f]{20}"
# For arrow's regular expressions: scheme, user and port are no part of a host; an IPv6 address
# stands in brackets.
URL_HOST = r"^[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/:?#]+)"
KEY_PATTERN = f"^{_KEY_RULE}$"  # for arrow's regular expressions

INGEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("error", pa.string()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("source_key", pa.string()),  # what the source calls the sample: uid, __key__, id
        ("fields", pa.string()),  # JSON object of the source's other fields
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("format", pa.string()),
        ("mode", pa.string()),  # of the source's pixels, in PIL's names
        ("frames", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),  # before ingest made the picture smaller
        ("original_height", pa.int32()),
        ("row", pa.int64()),
        ("offset", pa.int64()),  # of the picture's payload in the tar, in bytes
    ]
)

VERDICTS = "verdicts"  # the input of stages that take what the last stage with verdicts kept
VERDICT_FIELDS = (
    pa.field("key", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    pa.field("keep", pa.bool_(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
)


def make_key(*parts: str | bytes) -> str:
    """Hash what a sample is to its key.

    Args:
        parts: url and caption of a web sample, or the bytes of a local file.

    Returns:
        20 hex characters of sha256 over the parts, each preceded by its length.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:20]


def is_key(text: str) -> bool:
    """Tell whether a text has the form of a key."""
    return re.fullmatch(_KEY_RULE, text) is not None


def shard_name(index: int) -> str:
    """Name the shard with this number, e.g. 42 -> "00042"."""
    return f"{index:05d}"

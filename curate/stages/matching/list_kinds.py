"""Name the kinds of hashes that lists hold: those we match, and those that nobody can match here.

A type that no table knows is an error, never an entry that is left out: a misspelt type would open
a hole in the list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

KINDS: Mapping[str, int] = {"md5": 16, "sha1": 20, "sha256": 32, "pdq": 32}
"""Kinds that are matched -> bytes of a hash."""

_NAMES: Mapping[str, str] = {
    "md5": "md5", "hash_md5": "md5", "hash_video_md5": "md5", "videomd5": "md5",
    "video_md5": "md5", "imagemd5": "md5",
    "sha1": "sha1", "sha-1": "sha1", "sha_1": "sha1", "hash_sha1": "sha1",
    "sha256": "sha256", "sha-256": "sha256", "sha_256": "sha256", "hash_sha256": "sha256",
    "hash_video_sha256": "sha256",
    "pdq": "pdq", "hash_pdq": "pdq", "imagepdq": "pdq",
}  # fmt: skip
"""What lists call them, in lower case. Source: ThreatExchange's indicator types (vocabulary.py of
pytx), signal types of StopNCII's API, fingerprints of NCMEC's hash sharing v2 as
python-threatexchange reads them. Equal bytes are equal bytes: digests of videos count too."""

NO_HASH = "no_hash"
UNMATCHABLE: Mapping[str, str] = {
    **dict.fromkeys(("pdna", "photodna", "hash_photodna"), "photodna"),  # not redistributable
    **dict.fromkeys(("netclean", "videntifier", "ssvh_pdna", "ssvh_safer_hash"), "proprietary"),
    **dict.fromkeys(
        ("tmk", "tmk_pdqf", "hash_tmk", "videotmk", "vpdq", "video_vpdq", "tmk_safer_hash"),
        "video",
    ),
    **dict.fromkeys(
        ("hash_imphash", "hash_ssdeep", "hash_tlsh", "tlsh", "hash_pdq_ocr", "pdq_ocr",
         "hash_text_tlsh"),
        "other_hash",
    ),
    **dict.fromkeys(
        ("uri", "raw_uri", "url", "unclickable_url", "domain", "ip_address", "ip_subnet", "text",
         "raw_text", "trend_query", "email_address", "debug_string", "file_name"),
        NO_HASH,
    ),
}  # fmt: skip
"""Types that are known and cannot be compared with a picture -> what they are counted as."""

_BY_LENGTH = {2 * size: kind for kind, size in KINDS.items() if kind != "pdq"}
_HEX = {kind: re.compile(f"[0-9a-fA-F]{{{2 * size}}}") for kind, size in KINDS.items()}
_AMBIGUOUS = 64  # characters: sha256 or pdq


class Entry(NamedTuple):
    """Hold one entry of a list.

    Args:
        kind: of KINDS, or a value of UNMATCHABLE.
        digest: the hash; b"" when it cannot be matched or a withdrawal names none.
        owner: whose entry it is, e.g. member and id; "" where the list has no such thing.
        withdrawn: the entry takes earlier ones back: those of its owner, or with its digest.
    """

    kind: str
    digest: bytes
    owner: str = ""
    withdrawn: bool = False


def kind_of(name: str) -> str | None:
    """Give the kind that a type's name stands for, or what it is counted as; None when unknown."""
    plain = name.strip().lower()
    return _NAMES.get(plain) or UNMATCHABLE.get(plain)


def parse_hash(text: str, kind: str) -> bytes:
    """Read a hash in hexadecimal, of either case.

    Args:
        text: white space around it does not count.
        kind: of KINDS, or "" to go by its length.

    Raises:
        ValueError: says what it must be.
    """
    plain = text.strip()
    known = kind or _kind_by_length(plain)
    if not _HEX[known].fullmatch(plain):
        raise ValueError(f"{known} of {2 * KINDS[known]} hex characters")
    return bytes.fromhex(plain)


def parse_entry(name: str, text: str, kind: str) -> Entry:
    """Read an entry from its type and hash.

    Args:
        name: its type as the list says it; "" where it says none.
        text: its hash.
        kind: of entries that do not say it; "" goes by length.

    Raises:
        ValueError: says what it must be.
    """
    known = kind_of(name) if name.strip() else (kind or _kind_by_length(text.strip()))
    if known is None:
        raise ValueError(f"of a known type ({', '.join(KINDS)}), not {name.strip()[:20]!r}")
    if known not in KINDS:
        return Entry(known, b"")
    return Entry(known, parse_hash(text, known))


def _kind_by_length(text: str) -> str:
    if len(text) == _AMBIGUOUS:
        raise ValueError("of a said type, for 64 characters may be sha256 or pdq (set `kind`)")
    if len(text) not in _BY_LENGTH:
        raise ValueError("a hash of 32, 40 or 64 hex characters")
    return _BY_LENGTH[len(text)]

"""Read one record of a list: a row of CSV, an object of JSON.

    type + hash             indicator + type, raw_indicator (ThreatExchange), hashValue + signalType
                            (StopNCII), signal_str + signal_type (threatexchange dataset --csv), ...
    a field for each kind   md5, sha1, sha256, pdq, pdna; beside the others or alone
    fingerprints            NCMEC's entries as JSON: an object with a field for each kind

Names count without case. What a record means besides its hash is honoured where sources document
it: `should_delete`, `deleted`, the status Withdrawn or Deleted take entries back, a descriptor of
status NON_MALICIOUS is none.
Source: ThreatExchange repository, python-threatexchange/threatexchange/exchanges/clients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curate.stages.matching.list_kinds import NO_HASH, Entry, kind_of, parse_entry

HASH_FIELDS = (
    "indicator", "raw_indicator", "td_raw_indicator", "hashvalue", "hash_value", "signal_str",
    "hash", "value", "signal",
)  # fmt: skip
TYPE_FIELDS = (
    "type", "indicator_type", "td_indicator_type", "signaltype", "signal_type", "hash_type",
    "hashtype", "kind", "algorithm",
)  # fmt: skip
FINGERPRINTS = "fingerprints"
_STATUSES = ("hashstatus", "status")
_WITHDRAWN = ("withdrawn", "deleted")
_HARMLESS = "non_malicious"
_OWNERS = ("member_id", "id")


def read_record(record: Mapping[str, Any], kind: str) -> Iterator[Entry]:
    """Yield the entries of a record, at least one.

    Args:
        record: names in lower case -> values.
        kind: of hashes whose kind nobody says; "" goes by length.

    Raises:
        ValueError: says what the record must be.
    """
    status = next((str(record[name]).lower() for name in _STATUSES if record.get(name)), "")
    withdrawn = status in _WITHDRAWN or _is_true(record, "should_delete", "deleted")
    if status == _HARMLESS:
        yield Entry(_HARMLESS, b"")
        return
    owner = "/".join(str(record[name]) for name in _OWNERS if record.get(name))
    found = list(_read_hashes(record, kind))
    if not found and withdrawn and owner:
        found = [Entry("", b"")]
    if not found:
        raise ValueError("a record with a hash (a field indicator, hash, md5, sha1, sha256, pdq)")
    for entry in found:
        yield entry._replace(owner=owner, withdrawn=withdrawn)


def has_known_field(names: list[str]) -> bool:
    """Tell whether a table with these columns, in lower case, can hold hashes."""
    return any(name in HASH_FIELDS or _is_kind(name) for name in names)


def _read_hashes(record: Mapping[str, Any], kind: str) -> Iterator[Entry]:
    inner = record.get(FINGERPRINTS)
    if isinstance(inner, Mapping):
        yield from _read_kinds({str(name).lower(): value for name, value in inner.items()})
    holder = record.get("indicator")
    if isinstance(holder, Mapping):  # a descriptor names its indicator as an object
        record = {**record, **{str(name).lower(): value for name, value in holder.items()}}
    yield from _read_kinds(record)
    name = next((name for name in HASH_FIELDS if record.get(name) not in (None, "")), None)
    if name is None:
        return
    said = next((str(record[field]) for field in TYPE_FIELDS if record.get(field)), "")
    yield parse_entry(said, _text(record[name]), kind)


def _read_kinds(record: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield a hash for each field that is called as its kind; empty ones hold none."""
    for name, value in record.items():
        if value not in (None, "") and _is_kind(name):
            yield parse_entry(name, _text(value), "")


def _is_kind(name: str) -> bool:
    """Tell whether a field's name is that of a hash; `url` and `text` may be any record's."""
    return kind_of(name) not in (None, NO_HASH)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a hash as text, not {type(value).__name__}")
    return value


def _is_true(record: Mapping[str, Any], *names: str) -> bool:
    return any(str(record.get(name, "")).lower() in ("true", "1") for name in names)

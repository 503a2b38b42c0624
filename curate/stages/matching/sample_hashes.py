"""Collect the hashes of a shard's samples that lists ask for.

    ingest's table                      sha256 of the file as it came
    ingest's tar, only if asked         MD5 and SHA-1 of the same bytes
    annotate's table                    PDQ, with the turned forms where they were measured

MD5 and SHA-1 are computed here and not by an annotator: those are given pictures, not files. Where
ingest made a picture smaller the bytes that a list could know are gone; it has neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from curate.stages.matching.list_kinds import KINDS
from curate.stages.pictures import read_bytes

PDQ_HASH, PDQ_QUALITY, PDQ_DIHEDRAL = "pdq.hash", "pdq.quality", "pdq.dihedral"
_SIZES = ("width", "height", "original_width", "original_height")
INGEST_COLUMNS = (KEY, STATUS, "sha256", *_SIZES)

MIN_PDQ_QUALITY = 50
"""Source: ThreatExchange, pdq/README.md, "Matching": hashes of quality 49 and less are discarded;
python-threatexchange, PdqSignal.QUALITY_THRESHOLD."""

_OF_BYTES = {"md5": hashlib.md5, "sha1": hashlib.sha1}
_PDQ_BYTES = KINDS["pdq"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleHashes:
    """Hold the hashes of N samples.

    Args:
        digests: md5, sha1, sha256 -> [N, bytes]; those that a list asks for.
        known: the same kinds -> [N], where the digest was measured: of files that came, also of
            those that failed after.
        forms: [N, F, 32], PDQ hashes: of the picture as it is, then of its turned forms if any.
        is_hashed: [N], where the sample is good and PDQ was measured.
        is_sharp: [N], where its quality is high enough besides.
    """

    digests: Mapping[str, NDArray[np.uint8]]
    known: Mapping[str, NDArray[np.bool_]]
    forms: NDArray[np.uint8]
    is_hashed: NDArray[np.bool_]
    is_sharp: NDArray[np.bool_]


def collect_hashes(
    ingested: ShardSet, shard: str, table: pa.Table, kinds: Collection[str]
) -> SampleHashes:
    """Collect digests of all files that came, and PDQ hashes of the good samples.

    Args:
        ingested: ingest's shards, for the bytes of files.
        shard: which one.
        table: INGEST_COLUMNS and the PDQ columns, where they were measured.
        kinds: that some list has.
    """
    is_ok = np.array([status == OK for status in table[STATUS].to_pylist()], bool)
    texts: dict[str, Sequence[str | None]] = {}
    if "sha256" in kinds:
        texts["sha256"] = table["sha256"].to_pylist()
    if of_bytes := [kind for kind in _OF_BYTES if kind in kinds]:
        texts |= _hash_files(ingested, shard, table, of_bytes)
    known = {
        kind: np.array([text is not None for text in own], bool) for kind, own in texts.items()
    }
    forms, is_hashed, is_sharp = _read_pdq(table, is_ok & ("pdq" in kinds))
    return SampleHashes(
        digests={kind: _digests(own, KINDS[kind]) for kind, own in texts.items()},
        known=known,
        forms=forms,
        is_hashed=is_hashed,
        is_sharp=is_sharp,
    )


def _hash_files(
    ingested: ShardSet, shard: str, table: pa.Table, kinds: Sequence[str]
) -> dict[str, Sequence[str | None]]:
    """Hash the files that the tar holds as they came: kind -> [N] texts."""
    keys = table[KEY].to_pylist()
    sizes = zip(*(table[name].to_pylist() for name in _SIZES), strict=True)
    whole = {key for key, (w, h, was_w, was_h) in zip(keys, sizes, strict=True)
             if (w, h) == (was_w, was_h)}  # fmt: skip
    found: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for key, data in read_bytes(ingested, shard, whole):
        for kind in kinds:
            found[kind][key] = _OF_BYTES[kind](data, usedforsecurity=False).hexdigest()
    return {kind: [own.get(key) for key in keys] for kind, own in found.items()}


def _digests(texts: Sequence[str | None], num_bytes: int) -> NDArray[np.uint8]:
    """Turn hex texts into bytes: [N, W]; zeros where there is none."""
    none = bytes(num_bytes)
    data = b"".join(none if text is None else bytes.fromhex(text) for text in texts)
    return np.frombuffer(data, np.uint8).reshape(-1, num_bytes)


def _read_pdq(
    table: pa.Table, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Give hashes [N, F, 32], where they were measured [N], and where they may be matched [N]."""
    if not wanted.any():
        none = np.zeros(len(wanted), bool)
        return np.zeros((len(wanted), 1, _PDQ_BYTES), np.uint8), none, none
    plain: Sequence[bytes | None] = table[PDQ_HASH].to_pylist()
    quality = table[PDQ_QUALITY].fill_null(-1).to_numpy()
    is_hashed = wanted & (quality >= 0) & np.array([own is not None for own in plain], bool)
    turned: Sequence[Sequence[bytes] | None] = [None] * len(plain)
    if PDQ_DIHEDRAL in table.column_names:
        turned = table[PDQ_DIHEDRAL].to_pylist()
    num_forms = max((len(own) for own in turned if own), default=1)
    data = b"".join(
        b"".join(own) if own else (first or bytes(_PDQ_BYTES)) * num_forms
        for first, own in zip(plain, turned, strict=True)
    )
    forms = np.frombuffer(data, np.uint8).reshape(len(plain), num_forms, _PDQ_BYTES)
    return forms, is_hashed, is_hashed & (quality >= MIN_PDQ_QUALITY)

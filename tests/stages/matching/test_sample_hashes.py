"""Hashes of samples are those of good pictures of enough quality, and of files as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.core.shard import ShardSet
from curate.stages.matching.sample_hashes import SampleHashes, collect_hashes

PLAIN, TURNED = bytes(range(32)), bytes(range(32, 64))


def collect(folder: Path, rows: Sequence[Mapping[str, Any]], *kinds: str) -> SampleHashes:
    """Collect hashes of rows of ingest and annotate; no tar is there to be asked."""
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("status", pa.string()),
            ("sha256", pa.string()),
            ("pdq.hash", pa.binary(32)),
            ("pdq.quality", pa.int32()),
            ("pdq.dihedral", pa.list_(pa.binary(32))),
        ]
    )
    good = {"key": "0" * 20, "status": "ok", "sha256": "0f" * 32, "pdq.hash": PLAIN,
            "pdq.quality": 100}  # fmt: skip
    table = pa.Table.from_pylist([{**good, **row} for row in rows], schema=schema)
    return collect_hashes(ShardSet(folder), "00000", table, kinds)


@pytest.mark.parametrize(("quality", "is_sharp"), [(49, False), (50, True), (None, False)])
def test_the_least_quality_is_inclusive(
    tmp_path: Path, quality: int | None, is_sharp: bool
) -> None:
    found = collect(tmp_path, [{"pdq.quality": quality}], "pdq")
    assert found.is_sharp.tolist() == [is_sharp]
    assert found.is_hashed.tolist() == [quality is not None]


def test_a_failed_sample_has_a_digest_and_no_picture_to_compare(tmp_path: Path) -> None:
    rows = [{"status": "nsfw_model_failed"}, {"status": "timeout", "sha256": None}, {}]
    found = collect(tmp_path, rows, "pdq", "sha256")
    assert found.is_hashed.tolist() == found.is_sharp.tolist() == [False, False, True]
    assert found.known["sha256"].tolist() == [True, False, True]


def test_only_what_a_list_asks_for_is_collected(tmp_path: Path) -> None:
    found = collect(tmp_path, [{}], "sha256")
    assert found.digests.keys() == found.known.keys() == {"sha256"}
    assert not found.is_hashed.any()


def test_a_sample_without_turned_forms_has_its_own_hash_in_their_place(tmp_path: Path) -> None:
    rows = [{"pdq.dihedral": [PLAIN, TURNED]}, {"pdq.hash": TURNED}, {"pdq.hash": None}]
    forms = collect(tmp_path, rows, "pdq").forms
    assert [[form.tobytes() for form in own] for own in forms] == [
        [PLAIN, TURNED], [TURNED, TURNED], [bytes(32), bytes(32)],
    ]  # fmt: skip

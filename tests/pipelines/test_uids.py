"""The uids of what a run kept go out as DataComp's sorted list, and come back in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.errors import ConfigError, DataError, StoreError
from curate.core.manifest import SUMMARY, Identity
from curate.core.schema import OK, make_key
from curate.core.shard import ShardWriter
from curate.core.store import LocalStore
from curate.stages.filtering.uid_lists import UID_TYPE
from pipelines.cli import VERBS
from pipelines.inspect import RUN_FILE
from pipelines.uids import write_uids

UIDS = [f"{high:016x}{low:016x}" for high, low in [(9, 1), (0, 7), (9, 0), (2**64 - 1, 3), (5, 5)]]


def finish(folder: Path, shard: str, table: pa.Table) -> None:
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, table.schema, with_tar=False) as writer:
        writer.write_table(table)
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"in": table.num_rows})
    work.rmdir()


def make_run(out: Path, uids: Sequence[str | None], keep: Sequence[bool]) -> Path:
    """Write two shards that ingest has read and filter has judged."""
    for index, rows in enumerate((slice(0, 2), slice(2, None))):
        keys = [make_key(str(row)) for row in range(len(uids))][rows]
        plain = {"key": keys, "status": [OK] * len(keys)}
        source = {"source_key": pa.array(uids[rows], pa.string())}
        finish(out / "ingest", f"{index:05d}", pa.table({**plain, **source}))
        verdicts = {"keep": list(keep[rows]), "reason": [""] * len(keys)}
        finish(out / "filter", f"{index:05d}", pa.table({**plain, **verdicts}))
    (out / "filter" / SUMMARY).write_text("{}")
    stages = {"pipeline": "base", "stages": ["ingest", "annotate", "filter", "dedup"]}
    (out / RUN_FILE).write_text(json.dumps(stages))
    return out


def test_kept_uids_are_written_sorted_by_both_halves(tmp_path: Path) -> None:
    out = make_run(tmp_path, UIDS, [True, False, True, True, True])
    path = tmp_path / "kept.npy"
    assert write_uids(LocalStore(out), "filter", path) == 4
    written = np.load(path)
    assert written.dtype == UID_TYPE
    assert written.tolist() == [(5, 5), (9, 0), (9, 1), (2**64 - 1, 3)]
    assert not list(tmp_path.glob("*.partial"))


def test_datacomps_reader_finds_them(tmp_path: Path) -> None:
    out = make_run(tmp_path, UIDS, [True] * 5)
    write_uids(LocalStore(out), "filter", tmp_path / "kept.npy")
    written = np.load(tmp_path / "kept.npy")
    # As DataComp writes a subset: pairs of halves, sorted by numpy.
    halves = [(int(uid[:16], 16), int(uid[16:32], 16)) for uid in UIDS]
    expected = np.array(halves, np.dtype("u8,u8"))
    expected.sort()
    assert np.array_equal(written, expected)


def test_nothing_kept_gives_an_empty_list(tmp_path: Path) -> None:
    out = make_run(tmp_path, UIDS, [False] * 5)
    assert write_uids(LocalStore(out), "filter", tmp_path / "kept.npy") == 0
    assert np.load(tmp_path / "kept.npy").dtype == UID_TYPE


def test_a_kept_sample_without_a_uid_is_refused_and_a_dropped_one_is_not(tmp_path: Path) -> None:
    out = make_run(tmp_path / "a", [*UIDS[:3], None, "cat.jpg"], [True, True, True, False, False])
    assert write_uids(LocalStore(out), "filter", tmp_path / "kept.npy") == 3
    out = make_run(tmp_path / "b", [*UIDS[:3], None, "cat.jpg"], [True, True, True, False, True])
    with pytest.raises(DataError, match=r"must be a uid of 32 hexadecimal digits, got 'cat\.jpg'"):
        write_uids(LocalStore(out), "filter", tmp_path / "other.npy")
    assert not (tmp_path / "other.npy").exists()


def test_other_stages_files_and_unfinished_stages_are_refused(tmp_path: Path) -> None:
    out = LocalStore(make_run(tmp_path, UIDS, [True] * 5))
    with pytest.raises(ConfigError, match="stage: must be one of filter, dedup, got 'annotate'"):
        write_uids(out, "annotate", tmp_path / "kept.npy")
    with pytest.raises(DataError, match="must be a finished stage"):
        write_uids(out, "dedup", tmp_path / "kept.npy")
    with pytest.raises(ConfigError, match=r"must be written to a \.npy file"):
        write_uids(out, "filter", tmp_path / "kept.txt")
    with pytest.raises(StoreError, match="cannot be written"):
        write_uids(out, "filter", tmp_path / "nowhere" / "kept.npy")


def test_the_verb_writes_and_says_how_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = make_run(tmp_path, UIDS, [True] * 5)
    path = tmp_path / "kept.npy"
    assert VERBS["uids"]([str(path), f"out={out}"]) == 0
    assert capsys.readouterr().out == f"5 uids in {path}\n"
    with pytest.raises(ConfigError, match="uids: needs one file, got 0"):
        VERBS["uids"]([f"out={out}"])

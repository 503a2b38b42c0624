"""Repeated pictures and texts are counted over all shards, whatever the bins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.errors import ConfigError, StageError
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.schema import INGEST_SCHEMA, make_key
from curate.core.seed import derive_seed
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.stages.repeats import RepeatsConfig, RepeatsStage
from tests.silent import Silent

LOOKS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("phash.phash", pa.uint64()),
    ]
)


def sample(name: str, picture: int, look: int, caption: str, host: str = "a", **more: Any) -> dict:
    return {
        "key": make_key(name),
        "status": "ok",
        "sha256": f"{picture:064x}"[::-1],
        "phash.phash": look,
        "caption": caption,
        "url": f"http://{host}.test/{name}",
        **more,
    }


# A placeholder's bytes under 3 captions, its look once more; a popular picture with one caption.
SAMPLES = [
    sample("p0", 1, 7, "a cat", "a"),
    sample("p1", 1, 7, "a dog", "b"),
    sample("p2", 1, 7, "A  Dog", "b"),
    sample("p3", 2, 7, "a fish", "c"),
    sample("q0", 3, 8, "the mona lisa", "a"),
    sample("q1", 3, 8, "the mona lisa", "d"),
    sample("q2", 3, 8, "The Mona Lisa", "e"),
    sample("u0", 4, 9, ""),
    sample("u1", 5, 10, ""),
    sample("t0", 6, 11, "photo"),
    sample("t1", 9, 12, "photo"),
    sample("n0", 10, 13, "a red fox jumps over two lazy dogs near the lake"),
    sample("n1", 11, 14, "A red fox jumps over two lazy dogs near the lake!"),
    sample("n2", 12, 15, "a red fox jumps over two lazy dogs near the lake shore"),
    sample("e0", 13, 16, "..."),
    sample("f0", 1, 7, "gone", status="http_404"),
]


def write(folder: Path, shard: str, schema: pa.Schema, rows: list[dict]) -> None:
    out = folder / f"new-{shard}"
    out.mkdir(parents=True)
    with ShardWriter(out, shard, schema, with_tar=False) as writer:
        for row in rows:
            writer.write({k: v for k, v in row.items() if k in schema.names})
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    kept = sum(row["status"] == "ok" for row in rows)
    counts = {"in": len(rows), "kept": kept}
    commit(out, Output(store=LocalStore(folder)), shard, identity, counts)


NAMES = ("pictures", "captions", "hosts", "texts", "near_texts")


def run(folder: Path, shards: int, bin_entries: int, **more: Any) -> dict[str, dict[str, int]]:
    for number in range(shards):
        rows = SAMPLES[number::shards]
        write(folder / "ingest", f"{number:05d}", INGEST_SCHEMA, rows)
        write(folder / "annotate", f"{number:05d}", LOOKS, rows)
    inputs = {name: ShardSet(folder / name) for name in ("annotate", "ingest")}
    own = ShardSet(folder / "repeats")
    config = RepeatsConfig(bin_entries=bin_entries, **more)
    stage = RepeatsStage(config, inputs, {}, 0, own=own)
    run_stage(stage, Output(store=own.store), InlineExecutor(), Silent())
    found: dict[str, dict[str, int]] = {}
    for _, table in own.tables():
        for row in table.to_pylist():
            found[row.pop("key")] = {
                name.removeprefix("repeats."): value
                for name, value in row.items()
                if name != "status"
            }
    return found


EXPECTED = {
    "p0": (4, 3, 3, 1, 1), "p1": (4, 3, 3, 2, 2), "p2": (4, 3, 3, 2, 2), "p3": (4, 3, 3, 1, 1),
    "q0": (3, 1, 3, 3, 3), "q1": (3, 1, 3, 3, 3), "q2": (3, 1, 3, 3, 3),
    "u0": (1, 1, 1, 0, 0), "u1": (1, 1, 1, 0, 0), "t0": (1, 1, 1, 2, 2), "t1": (1, 1, 1, 2, 2),
    "n0": (1, 1, 1, 1, 3), "n1": (1, 1, 1, 1, 3), "n2": (1, 1, 1, 1, 3), "e0": (1, 1, 1, 1, 0),
    "f0": (None, None, None, None, None),
}  # fmt: skip


@pytest.mark.parametrize(("shards", "bin_entries"), [(1, 1000), (3, 1000), (3, 10)])
def test_counts_are_those_of_a_plain_count(tmp_path: Path, shards: int, bin_entries: int) -> None:
    found = run(tmp_path, shards, bin_entries)
    expected = {make_key(name): values for name, values in EXPECTED.items()}
    assert {key: tuple(row[name] for name in NAMES) for key, row in found.items()} == expected


@pytest.mark.parametrize(("shards", "bin_entries"), [(1, 1000), (3, 15)])
def test_samples_of_a_caption_are_numbered_by_their_keys(
    tmp_path: Path, shards: int, bin_entries: int
) -> None:
    found = {key: row["text_number"] for key, row in run(tmp_path, shards, bin_entries).items()}
    for names in (("q0", "q1", "q2"), ("p1", "p2"), ("t0", "t1"), ("p0",), ("e0",)):
        keys = [make_key(name) for name in names]
        draws = {key: derive_seed(0, "repeats.text_number", key) for key in keys}
        ordered = sorted(keys, key=lambda key: draws[key])
        assert [found[key] for key in ordered] == list(range(1, len(keys) + 1))
    assert found[make_key("u0")] == 0


def test_a_set_without_repeats_counts_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SAMPLES", SAMPLES[7:8])
    (row,) = run(tmp_path, 1, 1000).values()
    assert tuple(row[name] for name in NAMES) == (1, 1, 1, 0, 0)


def test_near_captions_need_not_be_measured(tmp_path: Path) -> None:
    found = run(tmp_path, 2, 1000, min_jaccard=None)
    assert all("near_texts" not in row for row in found.values())
    assert not list((tmp_path / "repeats").glob("*.arrow"))
    assert not list((tmp_path / "repeats").glob("_near-*"))


@pytest.mark.parametrize("value", [0.49, 1.01])
def test_thresholds_that_bands_cannot_serve_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"repeats\.min_jaccard: must be in .*{value}"):
        RepeatsConfig(min_jaccard=value)


def test_a_missing_phash_is_said(tmp_path: Path) -> None:
    plain = pa.schema(list(LOOKS)[:2])
    write(tmp_path / "ingest", "00000", INGEST_SCHEMA, SAMPLES[:1])
    write(tmp_path / "annotate", "00000", plain, SAMPLES[:1])
    inputs = {name: ShardSet(tmp_path / name) for name in ("annotate", "ingest")}
    own = ShardSet(tmp_path / "repeats")
    stage = RepeatsStage(RepeatsConfig(), inputs, {}, 0, own=own)
    with pytest.raises(StageError, match=r"repeats: needs column phash\.phash"):
        run_stage(stage, Output(store=own.store), InlineExecutor(), Silent())

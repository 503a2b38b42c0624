"""The page says what dedup did not compare, and nothing where it compared everything."""

from __future__ import annotations

from pathlib import Path

from benchmarks.dedup_inputs import cut_shards, draw_samples, write_inputs
from curate.core.shard import ShardSet
from eval.report_duplicates import describe_bounds
from tests.stages.dedup_run import dedup


def test_a_hash_with_too_many_pictures_is_told(tmp_path: Path) -> None:
    samples = draw_samples(40, "bounds")
    samples.phashes[:] = 7
    write_inputs(tmp_path, samples, cut_shards(40, 2))
    dedup(tmp_path, max_looks=4)
    assert describe_bounds(ShardSet(tmp_path / "dedup")) == [
        "1 perceptual hashes have more different pictures than are compared",
        "36 of these pictures are near to none that stand for them",
    ]


def test_a_full_comparison_is_not_mentioned(tmp_path: Path) -> None:
    write_inputs(tmp_path, draw_samples(10, "bounds"), cut_shards(10, 2))
    dedup(tmp_path)
    assert describe_bounds(ShardSet(tmp_path / "dedup")) == []
    assert describe_bounds(None) == ()

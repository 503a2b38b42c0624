"""A shard's samples are all at home in it or none is: captions are written for whole shards."""

from __future__ import annotations

from pathlib import Path

from tests.stages.bucket_run import make_inputs, read_rows, run_bucket
from tests.stages.test_bucket import make_many


def test_homes_and_copies_never_share_a_shard(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "inputs", make_many(60))
    # Steps of 32 px are coarse at 64 px: many pictures fit only the finer buckets of 128.
    bucketed, _ = run_bucket(
        inputs, tmp_path / "bucket", resolutions=[64, 128], step_px=32, max_crop_frac=0.1,
        shard_size=6, image_format="png",
    )  # fmt: skip
    rows = read_rows(bucketed)
    kinds: dict[str, set[tuple[int, str, bool]]] = {}
    for row in rows:
        is_home = row["home_shard"] == row["shard"]
        kinds.setdefault(row["shard"], set()).add((row["resolution"], row["bucket"], is_home))
    assert all(len(kind) == 1 for kind in kinds.values())
    found = {(side, is_home) for kind in kinds.values() for side, _, is_home in kind}
    assert found == {(64, True), (128, True), (128, False)}
    at = {(row["shard"], row["row"]): row["key"] for row in rows}
    assert all(at[row["home_shard"], row["home_row"]] == row["key"] for row in rows)

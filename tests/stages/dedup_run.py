"""Run dedup over drawn inputs, for the tests beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.dedup_inputs import open_inputs
from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.engine_config import EngineConfig
from curate.core.executor import InlineExecutor
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages.dedup import DedupConfig, DedupStage
from tests.silent import Silent

Found = dict[str, tuple[str | None, str | None, float | None]]
"""Key -> keeper, edge, distance."""


def dedup(folder: Path, **config: Any) -> Found:
    """Run dedup over what `write_inputs` wrote; give what it found."""
    folder.joinpath("dedup").mkdir(exist_ok=True)
    stage = DedupStage(
        DedupConfig(**config), open_inputs(folder), {}, seed=0, own=ShardSet(folder / "dedup")
    )
    executor = InlineExecutor(EngineConfig(name="inline", retry_pause_s=0))
    output = Output(store=LocalStore(folder / "dedup"))
    assert run_stage(stage, output, executor, Silent()).quarantined == {}
    return {
        row["key"]: (row["keeper"], row["edge"], row["distance"])
        for path in sorted((folder / "dedup").glob("[0-9]*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }

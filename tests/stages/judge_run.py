"""Run judge on tables of recaption that are written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.core.commit import Output, commit
from curate.core.engine import Executor, StageReport, run_stage
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.model_ref import ModelRef
from curate.core.schema import make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.stages.judge import JudgeStage
from curate.stages.judging.config import JudgeConfig
from curate.stages.recaptioning.rows import CAPTION_SCHEMA
from tests.silent import Silent

Row = dict[str, Any]


def attempt(sample: str, text: str, source: str = "detailed", **more: Any) -> Row:
    """Spell an attempt of recaption's table; the sample's name stands for its key."""
    return {
        "key": make_key(sample),
        "status": "ok",
        "attempt": make_key(sample, source, text, str(more.get("number", 0))),
        "source": source,
        "number": 0,
        "text_raw": text,
        "template": f"{source}-v1",
        "template_digest": "",
        "prompt": "",
        "alt_used": False,
        "parent": "",
        "backend": "test",
        "model": "test",
        "finish_reason": "stop",
        "tokens": 9,
        **more,
    }


def write_attempts(folder: Path, shards: list[list[Row]], **counts: int) -> None:
    """Write recaption's shards; each sample is one that captions were wanted for."""
    for number, rows in enumerate(shards):
        shard = f"{number:05d}"
        out = folder / f"new-{shard}"
        out.mkdir(parents=True)
        with ShardWriter(out, shard, CAPTION_SCHEMA, with_tar=False, unique_keys=False) as writer:
            for row in rows:
                writer.write(row)
        identity = Identity(
            stage="recaption", version=1, seed=0, config={}, models={}, inputs={}, params={}
        )
        kept = len({row["key"] for row in rows})
        own = {"in": kept, "kept": kept, "attempts": len(rows), **counts}
        commit(out, Output(store=LocalStore(folder)), shard, identity, own)


class Judge:
    """Judge attempts in a folder.

    Args:
        folder: of the run.
        shards: rows of recaption's table, shard by shard.
        models: of the pack.
        executor: runs the tasks.
    """

    def __init__(
        self,
        folder: Path,
        shards: list[list[Row]],
        models: dict[str, ModelRef] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.folder = folder
        self.models = models or {}
        self.executor = executor or InlineExecutor()
        write_attempts(folder / "recaption", shards)
        self.report: StageReport

    def run(self, config: JudgeConfig | None = None) -> list[Row]:
        """Judge, and give the verdicts of all shards in order."""
        own = ShardSet(self.folder / "judge")
        inputs = {"recaption": ShardSet(self.folder / "recaption")}
        stage = JudgeStage(config or JudgeConfig(), inputs, self.models, 0, own=own)
        store = LocalStore(self.folder / "judge")
        self.report = run_stage(stage, Output(store=store), self.executor, Silent())
        return [row for _, table in own.tables() for row in table.to_pylist()]

    @property
    def counts(self) -> dict[str, int]:
        """Give the counts of the last run."""
        return dict(self.report.counts)

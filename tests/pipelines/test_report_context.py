"""The report's context comes from what really ran: rules in force, statuses, effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.schema import make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place
from curate.core.store import LocalStore
from curate.stages.filter import FilterStage
from curate.stages.filtering.config import Bounds, FilterConfig, Languages
from pipelines.config import RunConfig
from pipelines.report import build_report, explain_failures, measure_rules
from tests.silent import Silent

CONFIG = FilterConfig(
    min_side=Bounds(min=100),
    language=Languages(keep=["en", "de"]),
    similarity=Bounds(top_frac=0.5, by_language={"de": 0.9}),
    where="pixels.min_side_px < 190",
)
INGEST = [("url", pa.string()), ("caption", pa.string())]
ANNOTATE = [
    ("pixels.min_side_px", pa.int32()),
    ("clip.similarity", pa.float32()),
    ("language.code", pa.string()),
]


def finish(
    folder: Path, rows: list[dict[str, Any]], columns: list[Any], counts: dict[str, int]
) -> ShardSet:
    work = folder / ".work"
    work.mkdir(parents=True)
    names = ["key", "status", *(name for name, _ in columns)]
    schema = pa.schema([("key", pa.string()), ("status", pa.string()), *columns])
    with ShardWriter(work, "00000", schema, with_tar=False) as writer:
        for row in rows:
            writer.write({name: row[name] for name in names})
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), "00000", identity, counts)
    work.rmdir()
    return ShardSet(folder)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, ShardSet]:
    statuses = {90: "http_503", 91: "opted_out"}
    rows = [
        {
            "key": make_key(str(row)),
            "status": statuses.get(row, "ok"),
            "url": f"http://host{row % 3}.example/secret-{row}.jpg",
            "caption": f"caption {row}",
            "pixels.min_side_px": 2 * row,
            "clip.similarity": row / 100,
            "language.code": ("en", "de", "fr")[row % 3],
        }
        for row in range(100)
    ]
    counts = {"in": 100, "kept": 98, "failed.http_503": 1, "failed.opted_out": 1}
    found = {
        "ingest": finish(tmp_path / "ingest", rows, INGEST, counts),
        "annotate": finish(tmp_path / "annotate", rows, ANNOTATE, counts),
    }
    own = ShardSet(tmp_path / "filter")
    stage = FilterStage(CONFIG, found, {}, 0, own=own)
    run_stage(stage, Output(store=LocalStore(tmp_path / "filter")), InlineExecutor(), Silent())
    return {**found, "filter": own}


def test_statuses_that_were_met_are_explained(inputs: dict[str, ShardSet]) -> None:
    meanings = explain_failures(inputs["ingest"])
    assert sorted(meanings) == ["http_503", "opted_out"]
    assert meanings["http_503"].is_fetched_again
    assert "fault of its own" in meanings["http_503"].sentence
    assert not meanings["opted_out"].is_fetched_again


def test_every_active_rule_is_measured_with_its_source(inputs: dict[str, ShardSet]) -> None:
    facts = {item.name: item for item in measure_rules(inputs)}
    assert list(facts) == ["min_side", "language", "similarity", "where"]
    assert facts["min_side"].summary == "shortest side in pixels"
    assert "DataComp" in facts["min_side"].source
    assert facts["min_side"].num_outside == 50
    assert [item.score for item in facts["min_side"].near_dropped][:1] == [98]
    assert facts["language"].limits == ["in en, de"]
    assert any("best 0.5" in text for text in facts["similarity"].limits)
    assert any("(de)" in text for text in facts["similarity"].limits)
    assert facts["where"].limits == ["pixels.min_side_px < 190"]
    assert set(facts["where"].groups) == {"language", "host", "size"}


def test_the_page_shows_them_and_no_url(inputs: dict[str, ShardSet], tmp_path: Path) -> None:
    stage = build_report(RunConfig(filter=CONFIG), "base", inputs, {})
    (task,) = next(iter(stage.waves()))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        stage.run(task, Place(out=tmp_path / name, scratch=tmp_path))
    page = (tmp_path / "a" / "index.html").read_text()
    assert page == (tmp_path / "b" / "index.html").read_text()
    for text in ("host0.example", "in en, de", "pixels.min_side_px &lt; 190", "&gt;= 100"):
        assert text in page
    assert "secret" not in page


def test_without_filter_no_rule_is_measured(inputs: dict[str, ShardSet]) -> None:
    assert measure_rules({"ingest": inputs["ingest"], "annotate": inputs["annotate"]}) == []

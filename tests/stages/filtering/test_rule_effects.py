"""A rule's effect is what a plain count over all samples says, whatever the sharding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.schema import OK, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.stages.filter import FilterStage
from curate.stages.filtering.config import Bounds, FilterConfig, Languages
from curate.stages.filtering.rule_effects import RuleEffect, measure_effects
from curate.stages.filtering.sample_groups import columns_to_group, group_by_size
from tests.silent import Silent

NUM_ROWS = 300
CONFIG = FilterConfig(
    min_side=Bounds(min=100),
    language=Languages(keep=["en", "de"]),
    similarity=Bounds(min=0.3, by_language={"en": 0.5}),
    where="aesthetic > 4",
)


def make_rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "key": make_key(str(row)),
            "status": str(rng.choice([OK, OK, OK, "http_404"])),
            "pixels.min_side_px": float(rng.integers(50, 1200)),
            "clip.similarity": None if rng.random() < 0.1 else round(float(rng.random()), 2),
            "aesthetic.score": float(rng.integers(1, 10)),
            "language.code": rng.choice(["en", "en", "de", "fr", None]),
            "url": f"http://{rng.choice(['a', 'b', 'c'])}.example/{row}",
        }
        for row in range(NUM_ROWS)
    ]


def finish(
    folder: Path, shard: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> None:
    work = folder / ".work"
    work.mkdir(parents=True)
    table = pa.Table.from_pylist([{name: row[name] for name in names} for row in rows])
    with ShardWriter(work, shard, table.schema, with_tar=False) as writer:
        writer.write_table(table)
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"in": len(rows)})
    work.rmdir()


def effects(out: Path, rows: Sequence[Mapping[str, Any]], num_shards: int) -> list[RuleEffect]:
    size = -(-len(rows) // num_shards)
    for index in range(num_shards):
        some = rows[index * size : (index + 1) * size]
        measured = [name for name in rows[0] if name != "url"]
        finish(out / "annotate", f"{index:05d}", some, measured)
        finish(out / "ingest", f"{index:05d}", some, ["key", "status", "url"])
    inputs = {name: ShardSet(out / name) for name in ("annotate", "ingest")}
    stage = FilterStage(CONFIG, inputs, {}, 0, own=ShardSet(out / "filter"))
    run_stage(stage, Output(store=LocalStore(out / "filter")), InlineExecutor(), Silent())
    return measure_effects(inputs, ShardSet(out / "filter"))


def judge(row: Mapping[str, Any]) -> dict[str, str]:
    """Say plainly what each rule says of a sample."""
    code, score = row["language.code"], row["clip.similarity"]
    similarity = "unmeasured"
    if score is not None and code is not None:
        similarity = "passed" if score >= (0.5 if code == "en" else 0.3) else "outside"
    language = "unmeasured" if code is None else "passed" if code in ("en", "de") else "outside"
    return {
        "min_side": "passed" if row["pixels.min_side_px"] >= 100 else "outside",
        "language": language,
        "similarity": similarity,
        "where": "passed" if row["aesthetic.score"] > 4 else "outside",
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RuleEffect]:
    found = effects(tmp_path_factory.mktemp("run"), make_rows(), 3)
    assert [effect.rule for effect in found] == ["min_side", "language", "similarity", "where"]
    return {effect.rule: effect for effect in found}


def test_outcomes_are_counted_by_each_rule_alone(measured: dict[str, RuleEffect]) -> None:
    good = [judge(row) for row in make_rows() if row["status"] == OK]
    for name, effect in measured.items():
        counts = Counter(said[name] for said in good)
        found = (effect.num_passed, effect.num_outside, effect.num_unmeasured)
        assert found == (counts["passed"], counts["outside"], counts["unmeasured"])


def test_histograms_hold_every_score_on_its_side(measured: dict[str, RuleEffect]) -> None:
    effect = measured["similarity"]
    good = [row for row in make_rows() if row["status"] == OK]
    for outcome, counts in (("passed", effect.kept), ("outside", effect.dropped)):
        scores = [row["clip.similarity"] for row in good if judge(row)["similarity"] == outcome]
        assert counts.tolist() == np.histogram(scores, effect.edges)[0].tolist()
        assert counts.sum() == len(scores)
    assert effect.thresholds == ((0.3, ">= 0.3"), (0.5, ">= 0.5 (en)"))
    assert measured["where"].edges.size == 0
    assert measured["where"].words == "aesthetic > 4"
    assert measured["language"].words == "in en, de"


def test_the_nearest_are_those_that_the_rule_decides_first(measured: dict[str, RuleEffect]) -> None:
    effect = measured["similarity"]
    rows = {row["key"]: row for row in make_rows() if row["status"] == OK}

    def order(key: str) -> tuple[bool, float, str]:
        row = rows[key]
        others = [said for name, said in judge(row).items() if name != "similarity"]
        limit = 0.5 if row["language.code"] == "en" else 0.3
        return set(others) != {"passed"}, abs(row["clip.similarity"] - limit), key

    for outcome, found in (("passed", effect.nearest_kept), ("outside", effect.nearest_dropped)):
        keys = sorted((k for k in rows if judge(rows[k])["similarity"] == outcome), key=order)
        expected = [order(key)[:2] for key in keys[:10]]
        assert [(not item.is_decided, item.distance) for item in found] == expected
        assert all(item.score == rows[item.key]["clip.similarity"] for item in found)
    assert measured["language"].nearest_dropped == ()


def test_groups_are_counted_before_and_after_in_the_order_of_judgement(
    measured: dict[str, RuleEffect],
) -> None:
    alive = [row for row in make_rows() if row["status"] == OK]
    for name, effect in measured.items():
        after = [row for row in alive if judge(row)[name] == "passed"]
        for kind, key in (("language", "language.code"), ("host", "url")):
            names = [Counter(_group(row[key]) for row in rows) for rows in (alive, after)]
            found = {item.name: (item.before, item.after) for item in effect.groups[kind]}
            assert found == {group: (names[0][group], names[1][group]) for group in names[0]}
        assert sum(item.before for item in effect.groups["size"]) == len(alive)
        alive = after


def _group(value: str | None) -> str:
    if value is None:
        return "unknown"
    return value.split("/")[2] if "//" in value else value


def test_sharding_changes_nothing(tmp_path: Path, measured: dict[str, RuleEffect]) -> None:
    for effect in effects(tmp_path, make_rows(), 1):
        other = measured[effect.rule]
        assert effect.kept.tolist() == other.kept.tolist()
        assert effect.groups == other.groups
        assert [(n.key, n.distance) for n in effect.nearest_kept] == [
            (n.key, n.distance) for n in other.nearest_kept
        ]


def test_without_rules_or_shards_there_is_nothing_to_say(tmp_path: Path) -> None:
    inputs = {"annotate": ShardSet(tmp_path / "annotate")}
    assert measure_effects(inputs, ShardSet(tmp_path / "filter")) == []


def test_sizes_fall_into_the_group_that_begins_at_their_edge() -> None:
    grouping = group_by_size("a")
    values = pa.table({"a": pa.array([63, 64, 127, 1024, 9000, None], pa.int32())})
    names = [grouping.labels[place] for place in grouping.places(values)]
    assert names == ["below 64 px", "64 to 127 px", "64 to 127 px", "1024 px and more",
                     "1024 px and more", "unknown"]  # fmt: skip


def test_kinds_that_no_table_tells_are_left_out() -> None:
    assert columns_to_group(["clip.similarity"], ["key"]) == {}
    found = columns_to_group(["language.code", "pixels.min_side_px"], ["url"])
    assert found == {"language": "language.code", "host": "host", "size": "pixels.min_side_px"}

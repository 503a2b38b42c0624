"""The ledger tells each sample's verdicts, stage by stage, and equal runs give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.errors import ConfigError, DataError, ShardError
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.schema import OK, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import plain_config
from curate.core.store import LocalStore
from curate.stages.bucketing.sizes import SIZES, SIZES_SCHEMA
from curate.stages.dedup import DEDUP_SCHEMA
from curate.stages.filter import FilterStage
from curate.stages.filtering.config import Bounds, FilterConfig, Languages
from curate.stages.filtering.verdicts import VERDICT_SCHEMA
from curate.stages.judging.verdicts import JUDGE_SCHEMA
from curate.stages.recaptioning.rows import CAPTION_SCHEMA
from pipelines.inspect import RUN_FILE, tell_story
from pipelines.ledger import LEDGER, LEDGER_SCHEMA, describe_ledger, write_ledger
from tests.silent import Silent

STATUS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
    ]
)
MEASURED_SCHEMA = pa.schema(
    [*STATUS_SCHEMA, ("pixels.min_side_px", pa.int32()), ("clip.similarity", pa.float32())]
)
STAGES = ("ingest", "annotate", "filter", "dedup", "recaption", "judge", "bucket")
THRESHOLDS = FilterConfig(min_side=Bounds(min=48), similarity=Bounds(min=0.25, max=0.75))

GONE, SMALL, OFF, BLANK, TWIN, LONG, GOOD = (
    make_key(name) for name in ("gone", "small", "off", "blank", "twin", "long", "good")
)


def finish(
    folder: Path,
    shard: str,
    schema: pa.Schema,
    rows: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any] | None = None,
) -> None:
    """Commit one finished shard of a stage, as the engine does."""
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, schema, with_tar=False, unique_keys=False) as writer:
        for row in rows:
            writer.write({"status": OK, **row})
    identity = Identity(
        stage=folder.name, version=1, seed=0, config=config or {}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"in": len(rows)})
    work.rmdir()


def measured(key: str, side: int | None, similarity: float | None) -> dict[str, Any]:
    return {"key": key, "pixels.min_side_px": side, "clip.similarity": similarity}


def verdict(key: str, *failed: str, status: str = OK) -> dict[str, Any]:
    reason = status if status != OK else (failed or ("",))[0]
    return {"key": key, "status": status, "keep": not reason, "reason": reason,
            "failed_rules": list(failed)}  # fmt: skip


def attempt(key: str, source: str, status: str = OK) -> dict[str, Any]:
    return {"key": key, "source": source, "status": status, "number": 0, "text_raw": "a text",
            "attempt": f"{key}{source}"}  # fmt: skip


def make_run(out: Path, stages: Sequence[str] = STAGES) -> Path:
    """Write a run of seven samples in two shards, in which each stage loses some."""
    gone = {"key": GONE, "status": "http_404"}
    tables: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {
        "ingest": {
            "00000": [gone, *({"key": key} for key in (SMALL, OFF, BLANK))],
            "00001": [{"key": key} for key in (TWIN, LONG, GOOD)],
        },
        "annotate": {
            "00000": [gone, measured(SMALL, 16, 0.0), measured(OFF, 48, 0.125),
                      measured(BLANK, 64, None)],
            "00001": [measured(TWIN, 64, 0.25), measured(LONG, 64, 0.5), measured(GOOD, 64, 0.75)],
        },
        "filter": {
            "00000": [verdict(GONE, status="http_404"), verdict(SMALL, "min_side", "similarity"),
                      verdict(OFF, "similarity"), verdict(BLANK, "unmeasured.similarity")],
            "00001": [verdict(TWIN), verdict(LONG), verdict(GOOD)],
        },
        "dedup": {
            "00000": [verdict(GONE, status="http_404"), verdict(SMALL, "min_side"),
                      verdict(OFF, "similarity"), verdict(BLANK, "unmeasured.similarity")],
            "00001": [{**verdict(TWIN, "duplicate_near"), "distance": 4.0}, verdict(LONG),
                      {**verdict(GOOD), "distance": 4.0}],
        },
        "recaption": {
            "00001": [attempt(LONG, "short"), attempt(GOOD, "short"),
                      attempt(GOOD, "detailed"), attempt(LONG, "tags", "captioner_error")],
        },
        "judge": {
            "00001": [{"key": LONG, "source": "short"}, {"key": GOOD, "source": "short"},
                      {"key": GOOD, "source": "detailed", "status": "repetition"},
                      {"key": LONG, "source": "tags", "status": "captioner_error"}],
        },
        "bucket": {
            f"{SIZES}00001": [{"key": LONG, "status": "crop_loss", "score": 0.5,
                               "threshold": "<= 0.35", "source_shard": "00001"},
                              {"key": GOOD, "buckets": ["64x64"], "source_shard": "00001"}],
            "00000": [{"key": GOOD}],
        },
    }  # fmt: skip
    schemas = {
        "ingest": STATUS_SCHEMA,
        "annotate": MEASURED_SCHEMA,
        "filter": VERDICT_SCHEMA,
        "dedup": DEDUP_SCHEMA,
        "recaption": CAPTION_SCHEMA,
        "judge": JUDGE_SCHEMA,
        "bucket": SIZES_SCHEMA,
    }
    for stage in stages:
        config = plain_config(THRESHOLDS) if stage == "filter" else {}
        for shard, rows in tables[stage].items():
            finish(out / stage, shard, schemas[stage], rows, config)
    (out / RUN_FILE).write_text(
        json.dumps({"pipeline": "base", "stages": [*STAGES, "encode", "train"]})
    )
    return out


def ledger(out: Path, stage: str, *, all_rules: bool = False) -> list[tuple[Any, ...]]:
    """Write the ledger and give a stage's rows without its name."""
    table = pq.read_table(write_ledger(LocalStore(out), all_rules=all_rules).path)
    assert table.schema.equals(LEDGER_SCHEMA)
    names = ("key", "rule", "score", "threshold", "verdict", "shard")
    return [tuple(row[n] for n in names) for row in table.to_pylist() if row["stage"] == stage]


def test_ingest_has_a_row_for_every_sample(tmp_path: Path) -> None:
    assert ledger(make_run(tmp_path), "ingest") == [
        (GONE, "http_404", None, "", "failed", "00000"),
        (SMALL, "", None, "", "kept", "00000"),
        (OFF, "", None, "", "kept", "00000"),
        (BLANK, "", None, "", "kept", "00000"),
        (TWIN, "", None, "", "kept", "00001"),
        (LONG, "", None, "", "kept", "00001"),
        (GOOD, "", None, "", "kept", "00001"),
    ]


def test_annotate_has_the_failed_samples(tmp_path: Path) -> None:
    assert ledger(make_run(tmp_path), "annotate") == [
        (GONE, "http_404", None, "", "failed", "00000")
    ]


def test_filter_names_the_first_failing_rule_its_score_and_threshold(tmp_path: Path) -> None:
    both = ">= 0.25 and <= 0.75"
    assert ledger(make_run(tmp_path), "filter") == [
        (GONE, "http_404", None, "", "failed", "00000"),
        (SMALL, "min_side", 16.0, ">= 48", "dropped", "00000"),
        (OFF, "similarity", 0.125, both, "dropped", "00000"),
        (BLANK, "unmeasured.similarity", None, both, "dropped", "00000"),
        (TWIN, "", None, "", "kept", "00001"),
        (LONG, "", None, "", "kept", "00001"),
        (GOOD, "", None, "", "kept", "00001"),
    ]


def test_all_rules_gives_a_row_for_every_sample_and_rule(tmp_path: Path) -> None:
    both = ">= 0.25 and <= 0.75"
    rows = ledger(make_run(tmp_path), "filter", all_rules=True)
    assert rows[:9] == [
        (GONE, "http_404", None, "", "failed", "00000"),
        (SMALL, "min_side", 16.0, ">= 48", "dropped", "00000"),
        (SMALL, "similarity", 0.0, both, "dropped", "00000"),
        (OFF, "min_side", 48.0, ">= 48", "kept", "00000"),
        (OFF, "similarity", 0.125, both, "dropped", "00000"),
        (BLANK, "min_side", 64.0, ">= 48", "kept", "00000"),
        (BLANK, "unmeasured.similarity", None, both, "dropped", "00000"),
        (TWIN, "min_side", 64.0, ">= 48", "kept", "00001"),
        (TWIN, "similarity", 0.25, both, "kept", "00001"),
    ]
    assert len(rows) == 13


def test_without_rules_all_rules_still_gives_a_row_for_every_sample(tmp_path: Path) -> None:
    out = make_run(tmp_path, ["ingest", "annotate"])
    rows = [verdict(GONE, status="http_404"), verdict(SMALL), verdict(OFF), verdict(BLANK)]
    finish(out / "filter", "00000", VERDICT_SCHEMA, rows, plain_config(FilterConfig()))
    assert ledger(out, "filter", all_rules=True) == [
        (GONE, "http_404", None, "", "failed", "00000"),
        (SMALL, "", None, "", "kept", "00000"),
        (OFF, "", None, "", "kept", "00000"),
        (BLANK, "", None, "", "kept", "00000"),
    ]


def test_dedup_has_what_filter_kept_with_the_distance(tmp_path: Path) -> None:
    assert ledger(make_run(tmp_path), "dedup") == [
        (TWIN, "duplicate_near", 4.0, "", "dropped", "00001"),
        (LONG, "", None, "", "kept", "00001"),
        (GOOD, "", 4.0, "", "kept", "00001"),
    ]


def test_recaption_has_the_attempts_that_the_captioner_failed_on(tmp_path: Path) -> None:
    assert ledger(make_run(tmp_path), "recaption") == [
        (LONG, "captioner_error", None, "", "failed", "00001")
    ]


def test_judge_has_the_captions_that_it_rejects_by_source_and_reason(tmp_path: Path) -> None:
    assert ledger(make_run(tmp_path), "judge") == [
        (GOOD, "detailed.repetition", None, "", "dropped", "00001")
    ]


def test_bucket_has_what_its_plan_dropped_under_its_own_shard(tmp_path: Path) -> None:
    assert ledger(make_run(tmp_path), "bucket") == [
        (LONG, "crop_loss", 0.5, "<= 0.35", "dropped", "00001")
    ]


def test_the_summary_counts_every_row_by_stage_and_verdict(tmp_path: Path) -> None:
    summary = write_ledger(LocalStore(make_run(tmp_path)))
    assert summary.counts == {
        "ingest": {"kept": 6, "failed": 1},
        "annotate": {"failed": 1},
        "filter": {"kept": 3, "dropped": 3, "failed": 1},
        "dedup": {"kept": 2, "dropped": 1},
        "recaption": {"failed": 1},
        "judge": {"dropped": 1},
        "bucket": {"dropped": 1},
    }
    assert summary.num_rows == pq.read_metadata(summary.path).num_rows == 21
    assert describe_ledger(summary)[:2] == [
        "stage      kept  dropped  failed",
        "ingest        6        0       1",
    ]


def test_equal_runs_give_equal_bytes_in_the_order_of_stages(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_ledger(LocalStore(make_run(tmp_path / name)))
    bytes_one, bytes_two = (tmp_path / name / LEDGER for name in ("one", "two"))
    assert bytes_one.read_bytes() == bytes_two.read_bytes()
    stages = pq.read_table(bytes_one)["stage"].to_pylist()
    assert list(dict.fromkeys(stages)) == list(STAGES)
    assert stages == sorted(stages, key=STAGES.index)


def test_absent_stages_are_left_out(tmp_path: Path) -> None:
    summary = write_ledger(LocalStore(make_run(tmp_path, ["ingest", "annotate"])))
    assert list(summary.counts) == ["ingest", "annotate"]


def test_a_run_without_shards_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, [])
    with pytest.raises(DataError, match="must hold finished shards, got none"):
        write_ledger(LocalStore(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a folder made by"):
        write_ledger(LocalStore(tmp_path))


def test_verdicts_of_other_samples_are_refused_and_the_old_ledger_stays(tmp_path: Path) -> None:
    before = Path(write_ledger(LocalStore(make_run(tmp_path))).path).read_bytes()
    rows = [measured(GOOD, 64, 0.5), measured(LONG, 64, 0.5), measured(TWIN, 64, 0.5)]
    finish(tmp_path / "annotate", "00001", MEASURED_SCHEMA, rows)
    with pytest.raises(ShardError, match="must have the keys of annotate, got others in shard 0"):
        write_ledger(LocalStore(tmp_path))
    assert (tmp_path / LEDGER).read_bytes() == before
    assert not (tmp_path / ".work").exists()


def make_judged(out: Path, config: FilterConfig, columns: Mapping[str, Sequence[Any]]) -> Path:
    """Run filter over one shard of measured columns."""
    keys = [SMALL, OFF, BLANK, TWIN][: len(next(iter(columns.values())))]
    rows = [
        {"key": key, **{name: values[row] for name, values in columns.items()}}
        for row, key in enumerate(keys)
    ]
    fields = [(name, pa.string() if name == "language.code" else pa.float64()) for name in columns]
    finish(out / "annotate", "00000", pa.schema([*STATUS_SCHEMA, *fields]), rows)
    own = ShardSet(out / "filter")
    stage = FilterStage(config, {"annotate": ShardSet(out / "annotate")}, {}, 0, own=own)
    run_stage(stage, Output(store=LocalStore(out / "filter")), InlineExecutor(), Silent())
    (out / RUN_FILE).write_text(json.dumps({"pipeline": "base", "stages": ["annotate", "filter"]}))
    return out


LANGUAGES = {"clip.similarity": [0.27, 0.25, None, 0.9], "language.code": ["en", "de", "de", None]}


def test_the_threshold_is_the_one_of_the_samples_language(tmp_path: Path) -> None:
    config = FilterConfig(similarity=Bounds(min=0.26, by_language={"en": 0.28}))
    assert ledger(make_judged(tmp_path, config, LANGUAGES), "filter") == [
        (SMALL, "similarity", 0.27, ">= 0.28 (en)", "dropped", "00000"),
        (OFF, "similarity", 0.25, ">= 0.26", "dropped", "00000"),
        (BLANK, "unmeasured.similarity", None, ">= 0.26", "dropped", "00000"),
        (TWIN, "unmeasured.similarity", 0.9, "by language", "dropped", "00000"),
    ]


def test_a_share_shows_the_score_that_it_came_to(tmp_path: Path) -> None:
    columns = {"clip.similarity": [0.1, 0.4, 0.3, 0.2]}
    config = FilterConfig(similarity=Bounds(top_frac=0.5))
    assert ledger(make_judged(tmp_path, config, columns), "filter", all_rules=True) == [
        (SMALL, "similarity", 0.1, ">= 0.3 (best 0.5)", "dropped", "00000"),
        (OFF, "similarity", 0.4, ">= 0.3 (best 0.5)", "kept", "00000"),
        (BLANK, "similarity", 0.3, ">= 0.3 (best 0.5)", "kept", "00000"),
        (TWIN, "similarity", 0.2, ">= 0.3 (best 0.5)", "dropped", "00000"),
    ]


def test_conditions_and_languages_have_a_threshold_and_no_score(tmp_path: Path) -> None:
    config = FilterConfig(language=Languages(keep=["de"]), where="similarity > 0.25")
    assert ledger(make_judged(tmp_path, config, LANGUAGES), "filter", all_rules=True) == [
        (SMALL, "language", None, "in de", "dropped", "00000"),
        (SMALL, "where", None, "similarity > 0.25", "kept", "00000"),
        (OFF, "language", None, "in de", "kept", "00000"),
        (OFF, "where", None, "similarity > 0.25", "dropped", "00000"),
        (BLANK, "language", None, "in de", "kept", "00000"),
        (BLANK, "unmeasured.where", None, "similarity > 0.25", "dropped", "00000"),
        (TWIN, "unmeasured.language", None, "in de", "dropped", "00000"),
        (TWIN, "where", None, "similarity > 0.25", "kept", "00000"),
    ]


def test_why_tells_every_threshold_that_was_in_force(tmp_path: Path) -> None:
    config = FilterConfig(
        similarity=Bounds(top_frac=0.5, within="language", by_language={"en": 0.28}),
        language=Languages(keep=["en"]),
        where="similarity > 0.2 and similarity < 0.26",
    )
    out = LocalStore(make_judged(tmp_path, config, LANGUAGES))
    story = dict(tell_story(out, SMALL))["filter"]
    assert [line for line in story if "threshold" in line] == [
        "threshold language in en: passes",
        "threshold similarity >= 0.28 (en), got 0.27: fails",
        "threshold where similarity > 0.2 and similarity < 0.26: fails",
        "  threshold where similarity > 0.2: passes",
        "  threshold where similarity < 0.26: fails",
    ]
    story = dict(tell_story(out, OFF))["filter"]
    assert "threshold similarity >= 0.25 (best 0.5 of de), got 0.25: passes" in story
    story = dict(tell_story(out, TWIN))["filter"]
    assert "threshold similarity by language, got 0.9: unmeasured" in story

"""Rules judge columns in order, bounds are inclusive, the unmeasured never passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.errors import ConfigError, ShardError, StageError
from curate.core.manifest import Task
from curate.core.schema import OK, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place
from curate.stages.filter import FilterStage
from curate.stages.filtering.columns import read_columns
from curate.stages.filtering.config import Bounds, FilterConfig
from curate.stages.filtering.rules import RULES
from curate.stages.filtering.score_rule import OUTSIDE, PASSED, UNMEASURED, score_rule
from curate.stages.filtering.verdicts import VERDICT_SCHEMA

FIELDS = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
]


def outcomes(values: Sequence[float], bounds: Bounds) -> list[int]:
    table = pa.table({"clip.similarity": pa.array(values, pa.float64())})
    return score_rule("similarity", bounds, {}).judge(table).tolist()


def annotated(
    folder: Path, columns: Mapping[str, Sequence[Any]], statuses: Sequence[str] = ()
) -> ShardSet:
    """Write one shard of measured columns by rule name, as annotate does, and an embedding."""
    num_rows = len(next(iter(columns.values())))
    types = {"caption_filename": pa.bool_(), "min_side": pa.int32()}
    schema = pa.schema(
        [
            *FIELDS,
            *((RULES[rule].column, types.get(rule, pa.float32())) for rule in columns),
            ("clip.image_embedding", pa.list_(pa.float16(), 4)),
        ]
    )
    folder.mkdir()
    with ShardWriter(folder, "00000", schema, with_tar=False) as writer:
        for row in range(num_rows):
            measured = {RULES[rule].column: values[row] for rule, values in columns.items()}
            status = statuses[row] if statuses else OK
            writer.write({"key": make_key(str(row)), "status": status, **measured})
    return ShardSet(folder)


def verdicts(
    tmp_path: Path, config: FilterConfig, shards: ShardSet
) -> tuple[pa.Table, Counter[str]]:
    out = tmp_path / "out"
    out.mkdir()
    stage = FilterStage(config, {"annotate": shards}, {}, 0)
    counts = stage.run(Task(shard="00000", inputs={}), Place(out=out, scratch=out))
    return pq.read_table(out / "00000.parquet"), counts


def test_bounds_are_inclusive_at_both_ends() -> None:
    assert outcomes([0.1, 0.2, 0.3, 0.4, 0.5], Bounds(min=0.2, max=0.4)) == [
        OUTSIDE,
        PASSED,
        PASSED,
        PASSED,
        OUTSIDE,
    ]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_bounds_are_inclusive_in_the_precision_of_the_column(kind: pa.DataType) -> None:
    values = [0.1, 0.2, 0.3, 0.7]
    table = pa.table({"nsfw.score": pa.array(values, kind), "language.code": ["en"] * 4})
    for end in values:
        upper = score_rule("nsfw", Bounds(max=end), {}).judge(table)
        assert upper.tolist() == [PASSED if value <= end else OUTSIDE for value in values]
        lower = score_rule("nsfw", Bounds(min=end), {}).judge(table)
        assert lower.tolist() == [PASSED if value >= end else OUTSIDE for value in values]
        of_language = score_rule("nsfw", Bounds(by_language={"en": end}), {}).judge(table)
        assert of_language.tolist() == upper.tolist()


def test_an_open_end_bounds_nothing() -> None:
    assert outcomes([-1.0, -np.inf, 1.0], Bounds(max=0.5)) == [PASSED, PASSED, OUTSIDE]


def test_infinite_values_fail_a_bound_they_exceed() -> None:
    assert outcomes([np.inf], Bounds(max=0.5)) == [OUTSIDE]


def test_the_unmeasured_is_neither_in_nor_out() -> None:
    assert outcomes([np.nan], Bounds(max=0.5)) == [UNMEASURED]


def test_the_unmeasured_fails_with_a_reason_of_its_own(tmp_path: Path) -> None:
    shards = annotated(tmp_path / "annotate", {"similarity": [None, float("nan"), 0.4]})
    table, counts = verdicts(tmp_path, FilterConfig(similarity=Bounds(max=0.5)), shards)
    assert table["keep"].to_pylist() == [False, False, True]
    assert table["reason"].to_pylist() == ["unmeasured.similarity", "unmeasured.similarity", ""]
    assert counts == {"in": 3, "kept": 1, "dropped.unmeasured.similarity": 2}


def test_the_first_failing_rule_is_the_reason_and_all_are_listed(tmp_path: Path) -> None:
    columns = {"similarity": [0.1, 0.1, 0.5, 0.5], "min_side": [5, 20, 10, None]}
    config = FilterConfig(similarity=Bounds(min=0.3), min_side=Bounds(min=10))
    table, counts = verdicts(tmp_path, config, annotated(tmp_path / "annotate", columns))
    assert table["reason"].to_pylist() == ["min_side", "similarity", "", "unmeasured.min_side"]
    assert table["failed_rules"].to_pylist() == [
        ["min_side", "similarity"],
        ["similarity"],
        [],
        ["unmeasured.min_side"],
    ]
    assert counts == {
        "in": 4,
        "kept": 1,
        "dropped.min_side": 1,
        "dropped.similarity": 1,
        "dropped.unmeasured.min_side": 1,
    }


def test_a_sample_that_failed_before_keeps_its_status_and_fails_no_rule(tmp_path: Path) -> None:
    columns = {"similarity": [None, 0.9, 0.9]}
    shards = annotated(tmp_path / "annotate", columns, ["http_404", "truncated", OK])
    table, counts = verdicts(tmp_path, FilterConfig(similarity=Bounds(min=0.3)), shards)
    assert table["status"].to_pylist() == ["http_404", "truncated", OK]
    assert table["keep"].to_pylist() == [False, False, True]
    assert table["reason"].to_pylist() == ["http_404", "truncated", ""]
    assert table["failed_rules"].to_pylist() == [[], [], []]
    assert counts == {"in": 3, "kept": 1, "failed.http_404": 1, "failed.truncated": 1}


def test_without_rules_every_measured_sample_is_kept(tmp_path: Path) -> None:
    shards = annotated(tmp_path / "annotate", {"similarity": [None, 0.9]}, [OK, "http_404"])
    table, counts = verdicts(tmp_path, FilterConfig(), shards)
    assert table["keep"].to_pylist() == [True, False]
    assert counts == {"in": 2, "kept": 1, "failed.http_404": 1}


def test_an_empty_shard_gives_an_empty_table(tmp_path: Path) -> None:
    shards = annotated(tmp_path / "annotate", {"similarity": []})
    table, counts = verdicts(tmp_path, FilterConfig(similarity=Bounds(min=0.3)), shards)
    assert table.num_rows == 0
    assert table.schema.equals(VERDICT_SCHEMA)
    assert counts == {}


def test_verdicts_equal_those_of_a_row_by_row_judgement(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rules = ["min_side", "caption_filename", "watermark", "nsfw", "similarity", "aesthetic"]
    columns: dict[str, list[Any]] = {
        rule: [None if rng.random() < 0.1 else round(rng.random(), 1) for _ in range(400)]
        for rule in rules
    }
    columns["min_side"] = [int(rng.integers(0, 9)) for _ in range(400)]
    columns["caption_filename"] = [bool(rng.integers(0, 2)) for _ in range(400)]
    statuses = rng.choice([OK, OK, OK, "http_404", "truncated"], 400).tolist()
    bounds = {
        "min_side": Bounds(min=3, max=7),
        "caption_filename": Bounds(max=0),
        "watermark": Bounds(max=0.5),
        "nsfw": Bounds(min=0.25, max=0.75),
        "similarity": Bounds(min=0.5),
        "aesthetic": Bounds(min=0.25),
    }
    shards = annotated(tmp_path / "annotate", columns, statuses)
    table, counts = verdicts(tmp_path, FilterConfig(**bounds), shards)

    expected: list[dict[str, Any]] = []
    for row, measured in enumerate(shards.table("00000").to_pylist()):
        failed = [judge_row(measured[RULES[rule].column], rule, bounds[rule]) for rule in rules]
        failed = [name for name in failed if name and statuses[row] == OK]
        reason = statuses[row] if statuses[row] != OK else (failed or [""])[0]
        expected.append(
            {
                "key": make_key(str(row)),
                "status": statuses[row],
                "keep": not reason,
                "reason": reason,
                "failed_rules": failed,
            }
        )
    assert table.schema.equals(VERDICT_SCHEMA)
    assert table.to_pylist() == expected
    assert counts["in"] == 400
    assert counts["kept"] == sum(row["keep"] for row in expected)
    named = Counter(row["reason"] for row in expected if row["status"] == OK and row["reason"])
    assert {n: c for n, c in counts.items() if n.startswith("dropped.")} == {
        f"dropped.{reason}": count for reason, count in named.items()
    }


def judge_row(value: float | None, rule: str, bounds: Bounds) -> str:
    """Judge one value the plain way; give the name under which it fails."""
    if value is None:
        return f"unmeasured.{rule}"
    too_low = bounds.min is not None and value < bounds.min
    too_high = bounds.max is not None and value > bounds.max
    return rule if too_low or too_high else ""


def test_only_the_columns_of_the_rules_are_read(tmp_path: Path) -> None:
    shards = annotated(tmp_path / "annotate", {"similarity": [0.5], "nsfw": [0.1]})
    table = read_columns({"annotate": shards}, "00000", {"clip.similarity": "filter.similarity"})
    assert table.column_names == ["key", "status", "clip.similarity"]


def test_a_rule_whose_column_was_not_measured_is_refused(tmp_path: Path) -> None:
    shards = annotated(tmp_path / "annotate", {"similarity": [0.5]})
    with pytest.raises(StageError) as caught:
        verdicts(tmp_path, FilterConfig(nsfw=Bounds(max=0.5)), shards)
    assert str(caught.value).startswith("filter.nsfw: needs column nsfw.score")


def test_a_table_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    shards = annotated(tmp_path / "annotate", {"similarity": [0.5]})
    shards.table_path("00000").write_bytes(b"not parquet")
    with pytest.raises(ShardError, match=r"00000\.parquet: must be a readable parquet file"):
        verdicts(tmp_path, FilterConfig(similarity=Bounds(min=0.3)), shards)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"similarity": Bounds(min=1.5)}, "filter.similarity.min: must be in [-1, 1], got 1.5"),
        ({"watermark": Bounds(max=-0.1)}, "filter.watermark.max"),
        ({"similarity": Bounds(min=0.5, max=0.2)}, "min must be <= max"),
    ],
)
def test_thresholds_out_of_range_are_refused(bounds: dict[str, Bounds], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FilterConfig(**bounds)
    assert message in str(caught.value)


def test_a_rule_without_bounds_is_off() -> None:
    assert FilterConfig().active_rules() == {}
    assert list(FilterConfig(aspect=Bounds(max=3)).active_rules()) == ["aspect"]


def test_every_rule_has_a_field_of_its_name_and_a_source() -> None:
    config = FilterConfig()
    for name, rule in RULES.items():
        assert rule.name == name
        assert isinstance(getattr(config, name), Bounds)
        assert rule.summary and rule.source
        assert rule.range[0] < rule.range[1]

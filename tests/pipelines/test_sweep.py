"""A sweep counts what filter would keep at other thresholds, exactly and without writing."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.errors import ConfigError, DataError
from curate.core.executor import InlineExecutor
from curate.core.manifest import SUMMARY, Identity, Task
from curate.core.schema import OK, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, plain_config
from curate.core.store import LocalStore
from curate.stages.filter import FilterStage
from curate.stages.filtering.config import Bounds, FilterConfig
from curate.stages.filtering.rules import RULES
from pipelines.inspect import RUN_FILE
from pipelines.sweep import sweep
from pipelines.sweep_axes import parse_axes
from pipelines.sweep_report import describe_sweep, write_combinations
from tests.silent import Silent


def finish(
    folder: Path, shard: str, rows: pa.Table, config: Mapping[str, Any] | None = None
) -> None:
    """Commit one finished shard of a stage, as the engine does."""
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, rows.schema, with_tar=False) as writer:
        writer.write_table(rows)
    identity = Identity(
        stage=folder.name, version=1, seed=0, config=config or {}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"in": rows.num_rows})
    work.rmdir()


def make_run(
    out: Path,
    columns: Mapping[str, Sequence[Any]],
    statuses: Sequence[str] = (),
    *,
    num_shards: int = 1,
    **bounds: Bounds,
) -> Path:
    """Write annotate's shards and the filter run over them, finished."""
    num_rows = len(next(iter(columns.values())))
    table = pa.table(
        {
            "key": [make_key(str(row)) for row in range(num_rows)],
            "status": list(statuses) or [OK] * num_rows,
            **{
                RULES[rule].column: pa.array(values, pa.float32())
                for rule, values in columns.items()
            },
        }
    )
    config = FilterConfig(**bounds)
    stage = FilterStage(config, {"annotate": ShardSet(out / "annotate")}, {}, 0)
    for index in range(num_shards):
        shard = f"{index:05d}"
        size = -(-num_rows // num_shards)
        finish(out / "annotate", shard, table.slice(index * size, size))
        place = out / "verdicts"
        place.mkdir()
        stage.run(Task(shard=shard, inputs={}), Place(out=place, scratch=place))
        verdicts = ShardSet(place).table(shard)
        (place / f"{shard}.parquet").unlink()
        place.rmdir()
        finish(out / "filter", shard, verdicts, plain_config(config))
    (out / "filter" / SUMMARY).write_text("{}")
    (out / RUN_FILE).write_text(json.dumps({"pipeline": "base", "stages": ["annotate", "filter"]}))
    return out


def refusal(arguments: Sequence[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_axes(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_threshold_is_inclusive_at_both_ends(tmp_path: Path) -> None:
    out = make_run(tmp_path, {"similarity": [0.25, 0.5, 0.75]})
    found = sweep(
        LocalStore(out), ["filter.similarity.min=0.25,0.5,0.75", "filter.similarity.max=0.5,0.75"]
    )
    assert found.kept["filter.similarity.min"].tolist() == [3, 2, 1]
    assert found.kept["filter.similarity.max"].tolist() == [2, 3]
    assert found.combinations.tolist() == [[2, 3], [1, 2], [0, 1]]


def test_a_range_includes_its_end_and_has_no_float_error() -> None:
    (axis,) = parse_axes(["filter.similarity.min=0.20:0.34:0.02"])
    assert axis.thresholds == (0.2, 0.22, 0.24, 0.26, 0.28, 0.3, 0.32, 0.34)


def test_a_range_stops_before_an_end_that_no_step_meets() -> None:
    (axis,) = parse_axes(["filter.aesthetic.max=4:5:0.4"])
    assert axis.thresholds == (4.0, 4.4, 4.8)


def test_a_list_is_sorted_and_a_single_value_stands_alone() -> None:
    several, one = parse_axes(["filter.aesthetic.min=5,4,4.5,4", "filter.nsfw.max=0.5"])
    assert several.thresholds == (4.0, 4.5, 5.0)
    assert one.thresholds == (0.5,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filter.similarity.min=", "filter.similarity.min: must be plain numbers, got ''"),
        ("filter.similarity.min", "filter.similarity.min: must be plain numbers"),
        ("filter.similarity.min=0.2:0.3", "must be low:high:step, a comma list or one value"),
        ("filter.similarity.min=0.1,0.2:0.3:0.1", "must be low:high:step"),
        ("filter.similarity.min=0.2:x:0.1", "must be plain numbers, got 'x'"),
        ("filter.similarity.min=nan", "must be plain numbers, got 'nan'"),
        ("filter.similarity.min=0.2:0.3:1e-999999", "must be plain numbers"),
        ("filter.similarity.min=0.2:0.3:0", "needs low <= high and step > 0"),
        ("filter.similarity.min=0.3:0.2:0.1", "needs low <= high and step > 0"),
        ("filter.similarity.min=0.2:0.3:1e-12", "must have at most 1,000,000 steps"),
        ("filter.similarity.min=0.2:1.5:0.1", "must be in [-1, 1], got 1.5"),
        ("filter.nsfw.max=-1", "filter.nsfw.max: must be in [0, 1], got -1"),
        ("filter.similarty.min=0.2", "with RULE among bytes, min_side, aspect"),
        ("filter.similarity.mid=0.2", "filter.similarity.mid: must be filter.RULE.min"),
        ("dedup.phash_radius=2,3", "dedup.phash_radius: must be filter.RULE.min"),
    ],
)
def test_what_cannot_be_swept_is_refused(text: str, message: str) -> None:
    assert message in refusal([text])


def test_a_key_given_twice_is_refused() -> None:
    assert "must be given once" in refusal(["filter.nsfw.max=0.1", "filter.nsfw.max=0.2"])


def test_nothing_to_sweep_is_refused() -> None:
    assert "needs a threshold to sweep" in refusal([])


def test_more_than_a_million_combinations_are_refused() -> None:
    texts = [f"filter.{rule}.min=0:1:0.001" for rule in ("nsfw", "watermark")]
    assert "at most 1,000,000 combinations, got 1,002,001" in refusal(texts)


def test_a_column_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    out = make_run(tmp_path, {"similarity": [0.5]})
    with pytest.raises(ConfigError, match=r"filter\.nsfw: needs column nsfw\.score"):
        sweep(LocalStore(out), ["filter.nsfw.max=0.5"])


def test_a_folder_without_a_finished_filter_is_refused(tmp_path: Path) -> None:
    out = make_run(tmp_path, {"similarity": [0.5]})
    (out / "filter" / SUMMARY).unlink()
    with pytest.raises(DataError, match=r"filter: must be a finished stage"):
        sweep(LocalStore(out), ["filter.similarity.min=0.5"])
    with pytest.raises(ConfigError, match="must be a folder made by"):
        sweep(LocalStore(tmp_path / "nowhere"), ["filter.similarity.min=0.5"])


def test_each_key_is_swept_with_the_other_thresholds_of_the_run(tmp_path: Path) -> None:
    columns = {"similarity": [0.1, 0.3, 0.5], "aesthetic": [6, 4, 5], "nsfw": [0, 0, 1]}
    bounds = {"similarity": Bounds(min=0.2), "aesthetic": Bounds(min=5), "nsfw": Bounds(max=0.5)}
    out = make_run(tmp_path, columns, **bounds)
    found = sweep(LocalStore(out), ["filter.similarity.min=0,0.4", "filter.aesthetic.min=4,5"])
    assert (found.num_samples, found.num_kept) == (3, 0)
    assert found.kept["filter.similarity.min"].tolist() == [1, 0]  # aesthetic stays >= 5
    assert found.kept["filter.aesthetic.min"].tolist() == [1, 0]  # similarity stays >= 0.2
    assert found.combinations.tolist() == [[2, 1], [0, 0]]


def test_the_unmeasured_and_the_failed_never_survive(tmp_path: Path) -> None:
    columns = {"similarity": [None, 0.5, 0.5], "nsfw": [0.0, None, 0.0]}
    out = make_run(tmp_path, columns, [OK, OK, "http_404"])
    found = sweep(LocalStore(out), ["filter.similarity.min=-1", "filter.nsfw.max=1"])
    assert found.kept["filter.similarity.min"].tolist() == [1]
    assert found.combinations.tolist() == [[0]]


def test_counts_equal_those_of_filter_run_at_every_combination(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rules = ("watermark", "nsfw", "similarity", "aesthetic")
    columns: dict[str, list[Any]] = {
        rule: [None if rng.random() < 0.05 else round(rng.random(), 1) for _ in range(300)]
        for rule in rules
    }
    statuses = rng.choice([OK, OK, OK, "http_404"], 300).tolist()
    run = {"nsfw": Bounds(max=0.8), "similarity": Bounds(min=0.2, max=0.9)}
    swept = {
        ("similarity", "min"): (0.1, 0.3, 0.5),
        ("similarity", "max"): (0.4, 0.7),
        ("aesthetic", "min"): (0.2, 0.5, 0.9),
        ("watermark", "max"): (0.0, 0.5, 1.0),
    }
    out = make_run(tmp_path, columns, statuses, num_shards=3, **run)
    texts = [
        f"filter.{rule}.{end}={','.join(map(str, values))}" for (rule, end), values in swept.items()
    ]
    found = sweep(LocalStore(out), texts)

    def survivors(chosen: Mapping[tuple[str, str], float]) -> int:
        ends = {(rule, end): getattr(run.get(rule, Bounds()), end)
                for rule in rules for end in ("min", "max")} | dict(chosen)  # fmt: skip
        return sum(
            statuses[row] == OK
            and all(_fits(columns[rule][row], ends[rule, "min"], ends[rule, "max"])
                    for rule in rules)
            for row in range(300)
        )  # fmt: skip

    assert found.num_kept == survivors({})
    for (rule, end), values in swept.items():
        expected = [survivors({(rule, end): value}) for value in values]
        assert found.kept[f"filter.{rule}.{end}"].tolist() == expected
    for places in itertools.product(*(range(len(values)) for values in swept.values())):
        chosen = {
            key: values[place] for (key, values), place in zip(swept.items(), places, strict=True)
        }
        assert found.combinations[places] == survivors(chosen)


def _fits(value: float | None, low: float | None, high: float | None) -> bool:
    """Judge one value the plain way, with all numbers in single precision, as annotate stores."""
    if low is None and high is None:
        return True
    if value is None:
        return False
    stored = np.float32(value)
    is_low_enough = high is None or stored <= np.float32(high)
    return is_low_enough and (low is None or stored >= np.float32(low))


def test_a_sweep_writes_nothing(tmp_path: Path) -> None:
    out = make_run(tmp_path, {"similarity": [0.5]})
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    sweep(LocalStore(out), ["filter.similarity.min=0:1:0.1"])
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before


def test_one_key_prints_one_table(tmp_path: Path) -> None:
    out = make_run(tmp_path, {"similarity": [0.25, 0.5, 0.75, 1.0]}, similarity=Bounds(min=0.5))
    assert describe_sweep(sweep(LocalStore(out), ["filter.similarity.min=0.5,1"])) == [
        "4 samples; the thresholds of the run keep 3 (75.00 %)",
        "",
        "filter.similarity.min, all other rules as in the run",
        "threshold  kept   kept %",
        "      0.5     3  75.00 %",
        "        1     1  25.00 %",
    ]


def test_many_combinations_are_cut_in_print_and_whole_in_csv(tmp_path: Path) -> None:
    out = make_run(tmp_path, {"similarity": [0.25, 0.5], "nsfw": [0.5, 1.0]})
    found = sweep(LocalStore(out), ["filter.similarity.min=0:0.9:0.1", "filter.nsfw.max=0.1:1:0.1"])
    lines = describe_sweep(found)
    assert lines[-1] == "... the first 50 of 100; csv=PATH writes all"
    assert lines[-52].split() == ["similarity.min", "nsfw.max", "kept", "kept", "%"]
    write_combinations(found, tmp_path / "all.csv")
    rows = (tmp_path / "all.csv").read_text().splitlines()
    assert rows[0] == "filter.similarity.min,filter.nsfw.max,kept,kept_frac"
    assert rows[5] == "0.0,0.5,1,0.5"
    assert len(rows) == 101


def run_filter(out: Path, table: pa.Table, config: FilterConfig) -> None:
    """Run filter over three shards of a table, as the engine does."""
    size = -(-table.num_rows // 3)
    for index in range(3):
        finish(out / "annotate", f"{index:05d}", table.slice(index * size, size))
    run_over(out, ["annotate"], config)


def run_over(out: Path, names: Sequence[str], config: FilterConfig) -> None:
    """Run filter over what some stages have finished."""
    inputs = {name: ShardSet(out / name) for name in names}
    stage = FilterStage(config, inputs, {}, 0, own=ShardSet(out / "filter"))
    run_stage(stage, Output(store=LocalStore(out / "filter")), InlineExecutor(), Silent())
    (out / RUN_FILE).write_text(json.dumps({"pipeline": "base", "stages": [*names, "filter"]}))


def test_a_shard_that_a_stage_lacks_is_left_out_as_filter_leaves_it_out(tmp_path: Path) -> None:
    table = pa.table(
        {
            "key": [make_key("a"), make_key("b")],
            "status": [OK, OK],
            "bytes": [1, 9],
            "nsfw.score": [0.0, 1.0],
        }
    )
    for shard in ("00000", "00001", "00002"):
        finish(tmp_path / "annotate", shard, table)
    for shard in ("00000", "00002", "00003"):
        finish(tmp_path / "ingest", shard, table)
    run_over(tmp_path, ["annotate", "ingest"], FilterConfig(nsfw=Bounds(top_frac=0.5)))
    found = sweep(LocalStore(tmp_path), ["filter.bytes.min=1,5", "filter.nsfw.top_frac=0.5,1"])
    assert ShardSet(tmp_path / "filter").shards() == ["00000", "00002"]
    assert (found.num_samples, found.num_kept) == (4, 2)
    assert found.kept["filter.bytes.min"].tolist() == [2, 0]
    assert found.combinations.tolist() == [[2, 4], [0, 2]]


COLUMNS = {"similarity": "clip.similarity", "nsfw": "nsfw.score"}


def count_survivors(
    rows: Sequence[Mapping[str, Any]], bounds: Mapping[str, Bounds], mode: str
) -> int:
    """Judge row by row, the plain way."""
    kept = [row for row in rows if row["status"] == OK]
    for rule, item in bounds.items():
        cuts = plain_cuts(rows, rule, item, mode)
        kept = [row for row in kept if passes(row, rule, item, cuts)]
    return len(kept)


def plain_cuts(
    rows: Sequence[Mapping[str, Any]], rule: str, bounds: Bounds, mode: str
) -> dict[str, float]:
    """Sort the scores of each language, or of all, and take the last one in the share."""
    groups: dict[str, list[float | None]] = {}
    for row in rows:
        code = row["language.code"] if bounds.within else ""
        if row["status"] == OK and code is not None and bounds.top_frac is not None:
            groups.setdefault(code, []).append(row[COLUMNS[rule]])
    cuts: dict[str, float] = {}
    for code, scores in groups.items():
        best_first = sorted((x for x in scores if x is not None), reverse=rule == "similarity")
        share = bounds.top_frac or 1.0
        exact = math.ceil(round(share * len(best_first), 9)) - 1
        place = exact if mode == "exact" else int(share * len(scores))
        cuts[code] = best_first[min(place, len(best_first) - 1)]
    return cuts


def passes(row: Mapping[str, Any], rule: str, bounds: Bounds, cuts: Mapping[str, float]) -> bool:
    score, code = row[COLUMNS[rule]], row["language.code"]
    if score is None or (code is None and (bounds.by_language or bounds.within)):
        return False
    low, high = bounds.min, bounds.max
    if rule == "similarity":
        low = bounds.by_language.get(code, low)
    else:
        high = bounds.by_language.get(code, high)
    fits = (low is None or score >= low) and (high is None or score <= high)
    cut = cuts.get(code if bounds.within else "", None)
    if cut is None:
        return fits
    return fits and (score >= cut if rule == "similarity" else score <= cut)


def replaced(bounds: Mapping[str, Bounds], key: str, value: float) -> dict[str, Bounds]:
    """Set one key of the config, as the command line would."""
    _, rule, end, *code = key.split(".")
    old = bounds.get(rule, Bounds())
    change = {end: value} if not code else {end: {**old.by_language, code[0]: value}}
    return {**bounds, rule: dataclasses.replace(old, **change)}


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("mode", ["exact", "datacomp"])
@pytest.mark.parametrize(
    ("run", "swept"),
    [
        ({"similarity": Bounds(min=0.3, by_language={"en": 0.5})},
         {"filter.similarity.min": (0.1, 0.4), "filter.similarity.by_language.en": (0.2, 0.8)}),
        ({"similarity": Bounds(min=0.3)},
         {"filter.similarity.by_language.de": (0.2, 0.8), "filter.similarity.min": (0.1, 0.4),
          "filter.similarity.max": (0.6, 0.9)}),
        ({"nsfw": Bounds(max=0.5, by_language={"en": 0.9})},
         {"filter.nsfw.max": (0.2, 0.6), "filter.nsfw.by_language.fr": (0.1, 0.7),
          "filter.nsfw.min": (0.1, 0.3)}),
        ({"similarity": Bounds(top_frac=0.5), "nsfw": Bounds(max=0.9)},
         {"filter.similarity.top_frac": (0.05, 0.3, 1.0), "filter.nsfw.top_frac": (0.1, 0.6)}),
        ({"similarity": Bounds(min=0.2, top_frac=0.5, within="language", by_language={"en": 0.6})},
         {"filter.similarity.top_frac": (0.1, 0.7), "filter.similarity.min": (0.1, 0.5),
          "filter.similarity.by_language.en": (0.3, 0.9)}),
        ({"similarity": Bounds(top_frac=0.5, within="language"), "nsfw": Bounds(max=0.7)},
         {"filter.nsfw.max": (0.3, 0.8), "filter.similarity.max": (0.4, 0.8)}),
    ],
)  # fmt: skip
def test_a_sweep_counts_what_runs_with_these_keys_keep(
    tmp_path: Path,
    run: dict[str, Bounds],
    swept: dict[str, tuple[float, ...]],
    mode: str,
    kind: pa.DataType,
) -> None:
    rng = np.random.default_rng(0)
    scores = {
        name: [None if rng.random() < 0.1 else round(float(rng.random()), 1) for _ in range(150)]
        for name in ("clip.similarity", "nsfw.score")
    }
    table = pa.table(
        {
            "key": [make_key(str(row)) for row in range(150)],
            "status": rng.choice([OK, OK, OK, "http_404"], 150).tolist(),
            **{name: pa.array(values, kind) for name, values in scores.items()},
            "language.code": pa.array(rng.choice(["en", "de", "fr", "it", None], 150).tolist()),
        }
    )
    run_filter(tmp_path, table, FilterConfig(**run, quantile_mode=mode))
    texts = [f"{key}={','.join(map(str, values))}" for key, values in swept.items()]
    found = sweep(LocalStore(tmp_path), texts)
    # One decimal each: the plain way judges what single precision means, not what it holds.
    rows = [{**row, **{name: scores[name][number] for name in scores}}
            for number, row in enumerate(table.to_pylist())]  # fmt: skip
    assert found.num_kept == count_survivors(rows, run, mode)
    for key, values in swept.items():
        expected = [count_survivors(rows, replaced(run, key, value), mode) for value in values]
        assert found.kept[key].tolist() == expected
    for places in itertools.product(*(range(len(values)) for values in swept.values())):
        chosen = run
        for (key, values), place in zip(swept.items(), places, strict=True):
            chosen = replaced(chosen, key, values[place])
        assert found.combinations[places] == count_survivors(rows, chosen, mode)

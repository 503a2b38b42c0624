"""Languages, conditions, lists and best shares judge whole stages, and only what changed reruns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.engine import StageReport, run_stage
from curate.core.errors import ConfigError, DataError, ShardError, StageError
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.schema import OK, make_key, shard_name
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, plain_config
from curate.core.store import LocalStore
from curate.stages.filter import CUTS_SHARD, SCORES, FilterStage
from curate.stages.filtering.config import Bounds, FilterConfig, Languages, read_config
from curate.stages.filtering.uid_lists import UID_TYPE
from curate.stages.filtering.verdicts import finished_rules
from tests.silent import Silent

TYPES = {"language.code": pa.string(), "url": pa.string(), "fields": pa.string(),
         "source_key": pa.string(), "bytes": pa.int64()}  # fmt: skip


def finish(
    folder: Path, shard: str, columns: Mapping[str, Sequence[Any]], statuses: Sequence[str] = ()
) -> None:
    """Commit one finished shard of a stage before filter; keys are named after shard and row."""
    num_rows = len(next(iter(columns.values())))
    table = pa.table(
        {
            "key": pa.array([make_key(shard, str(row)) for row in range(num_rows)], pa.string()),
            "status": pa.array(list(statuses) or [OK] * num_rows, pa.string()),
            **{n: pa.array(v, TYPES.get(n, pa.float64())) for n, v in columns.items()},
        }
    )
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, table.schema, with_tar=False) as writer:
        writer.write_table(table)
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"in": num_rows})
    work.rmdir()


def run(out: Path, config: FilterConfig) -> StageReport:
    names = [name for name in ("annotate", "ingest", "repeats") if (out / name).exists()]
    inputs = {name: ShardSet(out / name) for name in names}
    stage = FilterStage(config, inputs, {}, 0, own=ShardSet(out / "filter"))
    output = Output(store=LocalStore(out / "filter"))
    report = run_stage(stage, output, InlineExecutor(), Silent())
    assert not report.quarantined
    return report


def reasons(out: Path, shard: str = "00000") -> list[str]:
    return ShardSet(out / "filter").table(shard)["reason"].to_pylist()


def thresholds(out: Path, shard: str = "00000") -> dict[str, float]:
    """Give the cuts that a shard's marker holds for `similarity`."""
    return ShardSet(out / "filter").marker(shard).identity.params["cuts"]["similarity"]


def test_a_language_has_its_own_threshold_and_the_others_the_plain_one(tmp_path: Path) -> None:
    columns = {
        "clip.similarity": [0.27, 0.28, 0.27, 0.25, 0.9, None, 0.25],
        "language.code": ["en", "en", "de", "fr", None, "en", "ja"],
    }
    finish(tmp_path / "annotate", "00000", columns)
    bounds = Bounds(min=0.26, by_language={"en": 0.28, "ja": 0.2, "de": None})
    run(tmp_path, FilterConfig(similarity=bounds))
    assert reasons(tmp_path) == [
        "similarity", "", "", "similarity", "unmeasured.similarity", "unmeasured.similarity", "",
    ]  # fmt: skip


def test_where_low_scores_are_wanted_a_languages_threshold_is_the_upper_one(tmp_path: Path) -> None:
    columns = {"nsfw.score": [0.3, 0.3, 0.05], "language.code": ["en", "de", "de"]}
    finish(tmp_path / "annotate", "00000", columns)
    run(tmp_path, FilterConfig(nsfw=Bounds(min=0.1, by_language={"de": 0.2})))
    assert reasons(tmp_path) == ["", "nsfw", "nsfw"]


def test_chosen_languages_are_kept_and_none_is_unmeasured(tmp_path: Path) -> None:
    finish(tmp_path / "annotate", "00000", {"language.code": ["en", "de", None, "fr"]})
    report = run(tmp_path, FilterConfig(language=Languages(keep=["en", "fr"])))
    assert reasons(tmp_path) == ["", "language", "unmeasured.language", ""]
    assert report.counts["dropped.unmeasured.language"] == 1


def test_a_condition_is_a_rule_of_its_own_and_comes_last(tmp_path: Path) -> None:
    columns = {"pixels.min_side_px": [100, 300, 300, None], "aesthetic.score": [9, 1, None, 9]}
    finish(tmp_path / "annotate", "00000", columns)
    config = FilterConfig(min_side=Bounds(min=200), where="pixels.min_side>=200 and aesthetic > 5")
    run(tmp_path, config)
    table = ShardSet(tmp_path / "filter").table("00000")
    assert table["failed_rules"].to_pylist() == [
        ["min_side", "where"],
        ["where"],
        ["unmeasured.where"],
        ["unmeasured.min_side", "unmeasured.where"],
    ]


def test_rules_read_ingest_and_repeats(tmp_path: Path) -> None:
    finish(tmp_path / "annotate", "00000", {"a.b": [1, 1, 1, 1]})
    ingested = {
        "bytes": [5000, 4999, 9000, None],
        "url": [
            "https://u:p@A.example:8080/x",
            "http://b.example/1",
            "http://[::1]:80/",
            "nothing",
        ],
        "fields": ['{"p": 0.1, "q": "0.5"}', '{"p": "x"}', None, "{}"],
    }
    finish(tmp_path / "ingest", "00000", ingested)
    finish(tmp_path / "repeats", "00000", {"repeats.texts": [1, 11, 10, 1]})
    config = FilterConfig(bytes=Bounds(min=5000), caption_repeats=Bounds(max=10))
    run(tmp_path, config)
    assert ShardSet(tmp_path / "filter").table("00000")["failed_rules"].to_pylist() == [
        [], ["bytes", "caption_repeats"], [], ["unmeasured.bytes"],
    ]  # fmt: skip
    run(tmp_path, FilterConfig(where="host in ['a.example', '[::1]']"))
    assert reasons(tmp_path) == ["", "where", "", "unmeasured.where"]
    run(tmp_path, FilterConfig(nsfw=Bounds(max=0.6, column="fields.q")))
    assert reasons(tmp_path) == ["", *["unmeasured.nsfw"] * 3]
    run(tmp_path, FilterConfig(nsfw=Bounds(max=0.6, column="fields.p")))
    assert reasons(tmp_path) == ["", *["unmeasured.nsfw"] * 3]


def test_original_sizes_are_made_from_ingests(tmp_path: Path) -> None:
    finish(tmp_path / "annotate", "00000", {"a.b": [1, 1, 1]})
    sizes = {"original_width": [200, 601, None], "original_height": [600, 200, 300]}
    finish(tmp_path / "ingest", "00000", sizes)
    bounds = Bounds(max=3.0, column="original_aspect")
    small = Bounds(min=200, column="original_min_side_px")
    run(tmp_path, FilterConfig(aspect=bounds, min_side=small))
    assert reasons(tmp_path) == ["", "aspect", "unmeasured.min_side"]


def test_ingests_bytes_decide_only_where_a_rule_reads_them(tmp_path: Path) -> None:
    finish(tmp_path / "annotate", "00000", {"a.b": [1, 2]})
    finish(tmp_path / "ingest", "00000", {"bytes": [1, 2]})
    plain, reading = FilterConfig(where="a.b > 1"), FilterConfig(bytes=Bounds(min=2))
    assert run(tmp_path, plain).num_run == 1
    finish(tmp_path / "ingest", "00000", {"bytes": [2, 2]})
    assert run(tmp_path, plain).num_run == 0
    assert run(tmp_path, reading).num_run == 1
    finish(tmp_path / "ingest", "00000", {"bytes": [2, 1]})
    assert run(tmp_path, reading).num_run == 1
    assert reasons(tmp_path) == ["", "bytes"]


def test_tables_of_other_samples_are_refused(tmp_path: Path) -> None:
    finish(tmp_path / "annotate", "00000", {"a.b": [1, 2]})
    finish(tmp_path / "ingest", "00000", {"bytes": [1, 2, 3]})
    stage = FilterStage(
        FilterConfig(bytes=Bounds(min=2)),
        {name: ShardSet(tmp_path / name) for name in ("annotate", "ingest")}, {}, 0,
    )  # fmt: skip
    [tasks] = stage.waves()
    with pytest.raises(ShardError, match="must have the keys of annotate, got others in shard 0"):
        stage.run(tasks[0], Place(out=tmp_path, scratch=tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            FilterConfig(where="pixels.min_syde_px > 1"),
            "filter.where: needs column pixels.min_syde",
        ),
        (FilterConfig(where="pixels.min_syde_px > 1"), "did you mean pixels.min_side_px?"),
        (
            FilterConfig(caption_repeats=Bounds(max=1)),
            "needs column repeats.texts of stage repeats",
        ),
        (FilterConfig(bytes=Bounds(min=1)), "filter.bytes: needs column bytes of stage ingest"),
        (FilterConfig(similarity=Bounds(by_language={"en": 0.3})), "needs column clip.similarity"),
        (FilterConfig(min_side=Bounds(top_frac=0.1, within="language")), "column language.code"),
        (FilterConfig(nsfw=Bounds(max=0.5, column="text.x")), "must be numbers to be held"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_its_rule(
    tmp_path: Path, config: FilterConfig, message: str
) -> None:
    finish(tmp_path / "annotate", "00000", {"pixels.min_side_px": [1.0], "language.x": [1.0]})
    table = pa.table({"key": [make_key("00000", "0")], "status": [OK], "text.x": ["a"],
                      "pixels.min_side_px": [1.0]})  # fmt: skip
    if "text.x" in str(config):
        folder = tmp_path / "annotate"
        (folder / "00000.parquet").unlink()
        with ShardWriter(folder, "00000", table.schema, with_tar=False) as writer:
            writer.write_table(table)
    with pytest.raises(StageError) as caught:
        run(tmp_path, config)
    assert message in str(caught.value)


def test_the_best_share_is_taken_over_all_shards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=50).round(1).tolist() for _ in range(3)]
    for index, values in enumerate(scores):
        finish(tmp_path / "annotate", shard_name(index), {"clip.similarity": values})
    report = run(tmp_path, FilterConfig(similarity=Bounds(top_frac=0.3)))
    everything = sorted((value for values in scores for value in values), reverse=True)
    limit = everything[44]  # the last of 45 = 30 % of 150
    assert thresholds(tmp_path) == {"": limit}
    assert report.counts["kept"] == sum(value >= limit for value in everything)
    for index, values in enumerate(scores):
        expected = ["" if value >= limit else "similarity" for value in values]
        assert reasons(tmp_path, shard_name(index)) == expected


def test_failed_and_unmeasured_samples_do_not_count(tmp_path: Path) -> None:
    scores = [0.9, 0.8, None, 0.7, 0.6, float("nan")]
    statuses = ["http_404", OK, OK, OK, OK, OK]
    finish(tmp_path / "annotate", "00000", {"clip.similarity": scores}, statuses)
    run(tmp_path, FilterConfig(similarity=Bounds(top_frac=0.5)))
    assert reasons(tmp_path) == [
        "http_404", "", "unmeasured.similarity", "", "similarity", "unmeasured.similarity",
    ]  # fmt: skip


def test_a_share_within_languages_keeps_the_best_of_each(tmp_path: Path) -> None:
    columns = {
        "clip.similarity": [0.1, 0.2, 0.3, 0.4, 0.8, 0.9, 0.5, 0.5],
        "language.code": ["en", "en", "en", "en", "de", "de", None, "fr"],
    }
    finish(tmp_path / "annotate", "00000", columns)
    run(tmp_path, FilterConfig(similarity=Bounds(top_frac=0.5, within="language")))
    assert thresholds(tmp_path) == {"de": 0.9, "en": 0.3, "fr": 0.5}
    assert reasons(tmp_path) == [
        "similarity", "similarity", "", "", "similarity", "", "unmeasured.similarity", "",
    ]  # fmt: skip


def test_a_share_and_bounds_must_both_be_met(tmp_path: Path) -> None:
    columns = {
        "clip.similarity": [0.1, 0.2, 0.3, 0.4],
        "language.code": ["en", "en", "de", "de"],
    }
    finish(tmp_path / "annotate", "00000", columns)
    bounds = Bounds(min=0.1, max=0.35, top_frac=0.75, by_language={"en": 0.25})
    run(tmp_path, FilterConfig(similarity=bounds))
    assert reasons(tmp_path) == ["similarity", "similarity", "", "similarity"]
    texts = finished_rules(ShardSet(tmp_path / "filter"), "00000")[0].thresholds(
        ShardSet(tmp_path / "annotate").table("00000")
    )
    assert texts.to_pylist() == [
        ">= 0.25 and <= 0.35 (en)", ">= 0.25 and <= 0.35 (en)",
        ">= 0.2 and <= 0.35 (best 0.75)", ">= 0.2 and <= 0.35 (best 0.75)",
    ]  # fmt: skip


def test_datacomp_mode_keeps_one_more(tmp_path: Path) -> None:
    finish(tmp_path / "annotate", "00000", {"clip_l14.similarity": [x / 100 for x in range(100)]})
    bounds = Bounds(top_frac=0.3, column="clip_l14.similarity")
    assert run(tmp_path, FilterConfig(similarity=bounds)).counts["kept"] == 30
    config = FilterConfig(similarity=bounds, quantile_mode="datacomp")
    assert run(tmp_path, config).counts["kept"] == 31


def test_a_change_that_moves_no_cut_reruns_no_verdict_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.stages.filter.SHARDS_AT_ONCE", 4)
    config = FilterConfig(similarity=Bounds(top_frac=0.5))
    for index in range(6):
        finish(tmp_path / "annotate", shard_name(index), {"clip.similarity": [0.1, 0.9, 0.9]})
    assert run(tmp_path, config).num_run == 2 + 1 + 6
    assert run(tmp_path, config).num_run == 0
    finish(tmp_path / "annotate", "00003", {"clip.similarity": [0.2, 0.9, 0.9]})
    assert run(tmp_path, config).num_run == 1 + 1 + 1  # its scores, the cuts, its verdicts
    finish(tmp_path / "annotate", "00005", {"clip.similarity": [0.95, 0.95, 0.95]})
    assert run(tmp_path, config).num_run == 1 + 1 + 1
    for index in range(3):
        finish(tmp_path / "annotate", shard_name(index), {"clip.similarity": [0.1, 0.1, 0.8]})
    assert run(tmp_path, config).num_run == 1 + 1 + 6
    assert thresholds(tmp_path) == {"": 0.8}
    assert len(ShardSet(tmp_path / "filter").shards()) == 6
    run(tmp_path, FilterConfig())
    names = {path.name for path in (tmp_path / "filter").iterdir()}
    assert not any(name.startswith((SCORES, CUTS_SHARD)) for name in names)


def test_a_share_of_nothing_measured_drops_all_as_unmeasured(tmp_path: Path) -> None:
    finish(tmp_path / "annotate", "00000", {"clip.similarity": [None, None]})
    finish(tmp_path / "annotate", "00001", {"clip.similarity": []})
    run(tmp_path, FilterConfig(similarity=Bounds(top_frac=0.5)))
    assert reasons(tmp_path) == ["unmeasured.similarity"] * 2
    assert reasons(tmp_path, "00001") == []


def test_only_listed_uids_are_kept_and_a_changed_list_reruns(tmp_path: Path) -> None:
    uids = [f"{number:032x}" for number in range(4)]
    finish(tmp_path / "annotate", "00000", {"a.b": [1] * 6})
    finish(tmp_path / "ingest", "00000", {"source_key": [*uids, None, "no uid"]})
    path = tmp_path / "uids.npy"
    np.save(path, np.array([(0, 1), (0, 3), (7, 7)], UID_TYPE))
    config = FilterConfig(uids=str(path))
    assert run(tmp_path, config).num_run == 1
    unknown = ["unmeasured.uids"] * 2
    assert reasons(tmp_path) == ["uids", "", "uids", "", *unknown]
    assert run(tmp_path, config).num_run == 0
    np.save(path, np.array([(0, 0)], UID_TYPE))
    assert run(tmp_path, config).num_run == 1
    assert reasons(tmp_path) == ["", "uids", "uids", "uids", *unknown]
    np.save(path, np.array([(1, 0), (0, 0)], UID_TYPE))
    with pytest.raises(DataError, match="must be sorted"):
        run(tmp_path, config)


def test_a_marker_gives_the_config_back() -> None:
    config = FilterConfig(
        similarity=Bounds(min=0.2, by_language={"en": 0.3, "de": None}, top_frac=0.3,
                          within="language", column="clip_l14.similarity"),
        language=Languages(keep=["en"]), where="a.b > 1", uids="x.npy", quantile_mode="datacomp",
    )  # fmt: skip
    assert read_config(json.loads(json.dumps(plain_config(config)))) == config
    assert read_config({"nsfw": {"min": None, "max": 0.5}}) == FilterConfig(nsfw=Bounds(max=0.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"similarity": Bounds(top_frac=0.0)}, "filter.similarity.top_frac: must be in (0, 1]"),
        ({"similarity": Bounds(top_frac=1.5)}, "filter.similarity.top_frac: must be in (0, 1]"),
        ({"similarity": Bounds(within="language")}, "needs filter.similarity.top_frac"),
        ({"similarity": Bounds(top_frac=0.5, within="host")}, 'must be "language" or ""'),
        ({"similarity": Bounds(by_language={"en": 2.0})}, "by_language.en: must be in [-1, 1]"),
        ({"similarity": Bounds(by_language={"English": 0.3})}, "must be codes such as en, de"),
        ({"similarity": Bounds(max=0.3, by_language={"en": 0.4})}, "min must be <= max"),
        ({"nsfw": Bounds(min=0.5, by_language={"en": 0.4})}, "min must be <= max"),
        ({"language": Languages(keep=["False"])}, "YAML needs quotes around 'no'"),
        ({"quantile_mode": "numpy"}, "filter.quantile_mode: must be exact or datacomp"),
        ({"where": "a.b >"}, "filter.where: must be a condition"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FilterConfig(**values)
    assert message in str(caught.value)

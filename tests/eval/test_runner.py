from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.errors import ConfigError, DataError, ShardError
from curate.core.shard import ShardSet
from curate.core.stage import Place
from eval.evidence import SceneReader
from eval.metrics import Number
from eval.results import Results, load_results
from eval.runner import EvalConfig, EvaluateStage
from eval.truth import TruthRow

COLORS = ("red", "green", "blue")
COLUMNS = [("variant", pa.string()), ("prompt", pa.string()), ("prompt_key", pa.string())]


class Weights:
    """Stand for the files of the image-text model."""

    digest = "0" * 64


@pytest.fixture
def inputs(make_shards: Any, toy: Any) -> dict[str, ShardSet]:
    """Nine right pictures of variant "ema", six of "untrained" that are all blue, 12 real ones."""
    rows, members = [], {}
    for index in range(15):
        variant = "ema" if index < 9 else "untrained"
        asked = COLORS[index % 3]
        key = toy.key(f"{variant}-{index}")
        rows.append(
            {"key": key, "variant": variant, "prompt": f"a {asked} square, number {index % 9}"}
        )
        members[key] = {"png": toy.picture(asked if variant == "ema" else "blue")}
    rows.append({"key": toy.key("lost"), "variant": "ema", "prompt": "x", "status": "no_memory"})
    real = {toy.key(f"real-{i}"): {"png": toy.picture(COLORS[i % 3], 24)} for i in range(12)}
    return {
        "sample": make_shards("sample", rows, COLUMNS, members=members),
        "bucket": make_shards("bucket", [{"key": key} for key in real], members=real),
    }


def run(
    out: Path, inputs: dict[str, ShardSet], toy: Any, model: Any, config: EvalConfig, **extra: Any
) -> Results:
    readers = {"toy": SceneReader(read=toy.read, parse=toy.parse)}
    stage = EvaluateStage(
        config, inputs, {"image_text": Weights()}, seed=0, readers=readers, **extra
    )  # type: ignore[arg-type]
    stage._model = model  # what setup() would load
    (task,) = next(stage.waves())
    out.mkdir()
    counts = stage.run(task, Place(out=out, scratch=out))
    assert (counts["in"], counts["kept"], counts["failed.no_memory"]) == (16, 15, 1)
    return load_results(ShardSet(out))


def table(results: Results) -> dict[tuple[str, str], Number]:
    return {(number.name, number.variant): number for number in results.numbers}


SMALL = EvalConfig(reader="toy", num_resamples=50, frechet_resamples=10)


def test_right_pictures_score_one_and_controls_score_the_floor(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    numbers = table(run(tmp_path / "out", inputs, toy, color_model, SMALL))
    assert numbers["color.f1", "ema"].value == 1.0
    assert numbers["exact_scene", "ema"].value == 1.0
    assert numbers["color.f1", "untrained"].value == pytest.approx(1 / 3)
    assert numbers["color.f1", "noise"].value == 0.0
    assert numbers["unreadable", "noise"].value == 1.0
    assert numbers["color.f1", "blank"].value == 0.0
    assert numbers["unreadable", "blank"].value == 0.0
    shuffled = numbers["color.f1", "shuffled"].value
    assert shuffled is not None and shuffled < 0.7
    similar = [numbers["clip_similarity[mean-color]", v].value for v in ("ema", "shuffled")]
    assert similar[0] == pytest.approx(1.0, abs=1e-5)
    assert similar[1] is not None and similar[1] < similar[0]


def test_distances_are_named_by_their_extractor_and_sets_are_measured_once(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    numbers = table(run(tmp_path / "out", inputs, toy, color_model, SMALL))
    names = {name for name, _ in numbers}
    assert not any("fid" in name.lower() for name in names)
    assert {"frechet_distance[mean-color]", "kernel_distance[mean-color]"} <= names
    assert ("kernel_distance[mean-color]", "shuffled") not in numbers
    near = numbers["kernel_distance[mean-color]", "ema"]
    far = numbers["kernel_distance[mean-color]", "untrained"]
    assert near.value is not None and far.value is not None and near.value < far.value
    assert near.extractor == Weights.digest


def test_too_few_pictures_leave_a_reason_and_no_value(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    numbers = table(run(tmp_path / "out", inputs, toy, color_model, SMALL))
    held_out = numbers["frechet_distance[mean-color]", "real"]
    assert held_out.value is None
    assert "need at least 6 pictures a side, got 4" in held_out.note


def test_axes_are_cut_and_named(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    config = EvalConfig(
        metrics=["frechet_distance"], controls=[], frechet_dims=2, frechet_resamples=5
    )
    numbers = table(run(tmp_path / "out", inputs, toy, color_model, config))
    assert numbers["frechet_distance[mean-color,pca2]", "ema"].value is not None
    assert numbers["frechet_distance_corrected[mean-color,pca2]", "ema"].low is not None


def test_protocol_says_what_was_compared(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    protocol = run(tmp_path / "out", inputs, toy, color_model, SMALL).protocol
    assert protocol["pictures"]["ema"] == {"ok": 9, "failed": {"no_memory": 1}}
    assert protocol["sizes"] == {"16x16": 15}
    assert protocol["formats"] == {"png": 15}
    assert protocol["reference"]["num"] == 8
    assert protocol["reference"]["held_out"] == 4


def test_every_picture_has_a_row(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    run(tmp_path / "out", inputs, toy, color_model, SMALL)
    rows = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert len(rows) == 15
    wrong = [row for row in rows if not row["exact"]]
    assert {row["variant"] for row in wrong} == {"untrained"}
    assert all(row["color.hits"] == 0 and row["color.misses"] == 1 for row in wrong)
    assert json.loads(wrong[0]["read"])["objects"][0]["color"] == "blue"


def test_without_reader_or_reference_the_rest_is_measured(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    config = EvalConfig(num_resamples=10)
    only = {"sample": inputs["sample"]}
    numbers = table(run(tmp_path / "out", only, toy, color_model, config))
    assert {name for name, _ in numbers} == {"clip_similarity[mean-color]"}


def test_two_runs_give_equal_bytes(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    for name in ("first", "second"):
        run(tmp_path / name, inputs, toy, color_model, SMALL)
    for file in ("results.json", "00000.parquet"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_truth_goes_into_the_results_as_it_is(
    tmp_path: Path, inputs: dict[str, ShardSet], toy: Any, color_model: Any
):
    row = TruthRow(stage="dedup", what="exact", measure="recall", value=0.9, n=10, goal=1.0)
    seen: list[set[str]] = []

    def check(given: Any) -> list[TruthRow]:
        seen.append(set(given))
        return [row]

    results = run(tmp_path / "out", inputs, toy, color_model, SMALL, truth=check)
    assert results.truth == [row]
    assert row.is_met is False
    assert seen == [{"sample", "bucket"}]


def test_a_changed_input_changes_the_task(inputs: dict[str, ShardSet]):
    stage = EvaluateStage(EvalConfig(), inputs, {}, seed=0)
    (both,) = next(stage.waves())
    (one,) = next(EvaluateStage(EvalConfig(), {"sample": inputs["sample"]}, {}, seed=0).waves())
    assert set(one.inputs) < set(both.inputs)


def test_no_pictures_at_all_is_an_error(make_shards: Any, tmp_path: Path, color_model: Any):
    shards = make_shards("sample", [], COLUMNS, members={})
    stage = EvaluateStage(EvalConfig(), {"sample": shards}, {}, seed=0)
    stage._model = color_model
    (task,) = next(stage.waves())
    with pytest.raises(DataError, match="at least one picture"):
        stage.run(task, Place(out=tmp_path, scratch=tmp_path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metrics": ["fid"]}, "evaluate.metrics: must be among .* got 'fid'"),
        ({"controls": ["x"]}, "evaluate.controls"),
        ({"batch_size": 0}, "evaluate.batch_size: must be >= 1, got 0"),
        ({"frechet_dims": -1}, "evaluate.frechet_dims: must be >= 0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(fields: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        EvalConfig(**fields)
    assert "\n" not in str(caught.value)


def test_an_unknown_reader_is_refused(inputs: dict[str, ShardSet]):
    with pytest.raises(ConfigError, match="must be one of none, got 'oracle'"):
        EvaluateStage(EvalConfig(reader="oracle"), inputs, {}, seed=0)


def test_foreign_results_are_refused(tmp_path: Path):
    (tmp_path / "results.json").write_text('{"numbers": 3}')
    with pytest.raises(ShardError, match="results of this version"):
        load_results(ShardSet(tmp_path))

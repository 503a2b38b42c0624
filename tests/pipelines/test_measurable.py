"""A filter that judges what no annotator of the run measures is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.core.errors import ConfigError
from pipelines.measurable import check_measurable
from pipelines.plan import plan_request
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent

STAGES = "stages=[ingest,annotate,filter]"
TRAINED_ON = {"laion400m": "clip_b32", "laion5b": "clip_b32", "datacomp_clip30": "clip_l14"}


@pytest.mark.parametrize("pack", ["toy", "offline"])
@pytest.mark.parametrize(("preset", "name"), TRAINED_ON.items())
def test_a_threshold_of_another_clip_ends_the_run_at_once(
    tmp_path: Path, pack: str, preset: str, name: str
) -> None:
    call = [f"input={tmp_path}", f"out={tmp_path / 'out'}", STAGES, f"models={pack}"]
    with pytest.raises(ConfigError) as caught:
        run_request(parse_request([*call, f"filter_preset={preset}"]), Silent())
    assert str(caught.value) == (
        f"filter.similarity: needs column {name}.similarity, which models={pack} cannot measure; "
        "choose another models= or switch filter.similarity off"
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="cannot measure"):
        plan_request(parse_request([*call, f"filter_preset={preset}"]))


@pytest.mark.parametrize("pack", ["laion", "datacomp"])
@pytest.mark.parametrize("preset", TRAINED_ON)
def test_a_threshold_finds_its_model_in_both_packs(tmp_path: Path, pack: str, preset: str) -> None:
    for name in ("ViT-B-32", "ViT-L-14"):
        (tmp_path / name).mkdir()
    call = [STAGES, f"models={pack}", f"models_folder={tmp_path}", f"filter_preset={preset}"]
    check_measurable(parse_request(call))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("filter.aesthetic.min=5", "filter.aesthetic: needs column aesthetic.score, which annota"),
        ("filter.aesthetic.top_frac=0.5", "annotate.annotators leaves out; add aesthetic or swit"),
        ("filter.where=nsfw.score < 0.5", "filter.where: needs column nsfw.score, which models="),
        ("filter.language.keep=[en]", "filter.language: needs column language.code, which annota"),
    ],
)
def test_what_is_left_out_is_named_with_its_key(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_measurable(parse_request([STAGES, "annotate.annotators=[pixels,clip]", option]))


def test_what_is_measured_or_no_annotators_passes() -> None:
    rules = ["filter.min_side.min=9", "filter.bytes.min=9", "filter.similarity.top_frac=0.5"]
    where = "filter.where=fields.punsafe < 0.5 and pixels.widht > 9 and nonsense.score > 1"
    check_measurable(parse_request([STAGES, "annotate.annotators=[pixels,clip]", *rules, where]))
    repeats = ["stages=[ingest,annotate,repeats,filter]", "filter.placeholder.max=9"]
    check_measurable(parse_request(repeats))


def test_where_annotate_has_run_before_its_tables_are_asked() -> None:
    check_measurable(parse_request([STAGES, "stage=filter", "filter_preset=laion5b"]))

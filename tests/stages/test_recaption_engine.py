"""The engine runs recaption: what it is given decides what runs again, and what is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.captioners.captioner import Sampling
from curate.captioners.vlm_batches import BatchLimits
from curate.core.commit import Output
from curate.core.engine import StageReport, run_stage
from curate.core.engine_config import EngineConfig
from curate.core.errors import ModelError
from curate.core.executor import InlineExecutor
from curate.core.geometry import Geometry
from curate.core.model_ref import ModelRef
from curate.core.schema import INGEST_SCHEMA, VERDICTS
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages.recaption import RecaptionStage
from curate.stages.recaptioning.config import FuseConfig, RecaptionConfig
from tests.silent import Silent
from tests.stages.recaption_run import CLUSTERED, GEOMETRY, CountingCaptioner, finish, make_items

ITEMS = make_items(9)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, ShardSet]:
    from PIL import Image

    rows = [{"key": one.key, "caption": one.alt, "sha256": one.name,
             "image": Image.new("RGB", one.size)} for one in ITEMS]  # fmt: skip
    kept = [{"key": one.key, "keep": True, "reason": "", "alternates": []} for one in ITEMS]
    return {
        VERDICTS: finish(tmp_path / "dedup", CLUSTERED, kept, tar=False),
        "ingest": finish(tmp_path / "ingest", INGEST_SCHEMA, rows, tar=True),
    }


class Engine:
    """Run the stage over the same folder as often as a test wants."""

    def __init__(self, folder: Path, inputs: dict[str, ShardSet]) -> None:
        self._folder, self._inputs = folder / "recaption", inputs

    def run(
        self,
        captioner: Any,
        *,
        geometry: Geometry = GEOMETRY,
        retry_failed: bool = False,
        **settings: Any,
    ) -> StageReport:
        def build(ref: ModelRef, limits: BatchLimits) -> Any:
            return captioner

        stage = RecaptionStage(
            RecaptionConfig(**{"styles": ["short"], **settings}),
            self._inputs, {"captioner": ModelRef(kind="counting", paths=())}, 0,
            ShardSet(self._folder), geometry=geometry, captioners={"counting": build},
        )  # fmt: skip
        executor = InlineExecutor(EngineConfig(name="inline", retry_pause_s=0))
        output = Output(store=LocalStore(self._folder))
        return run_stage(stage, output, executor, Silent(), retry_failed=retry_failed)


@pytest.fixture
def engine(tmp_path: Path, inputs: dict[str, ShardSet]) -> Engine:
    return Engine(tmp_path, inputs)


def test_a_finished_shard_is_skipped_and_windows_do_not_make_it_stale(engine: Engine) -> None:
    first = engine.run(CountingCaptioner())
    assert (first.num_run, first.counts) == (1, {"in": 9, "kept": 9, "attempts": 9})
    again = engine.run(CountingCaptioner(), window=2, threads=1)
    assert (again.num_run, again.num_skipped) == (0, 1)


def test_another_crop_of_bucket_makes_a_shard_stale(engine: Engine) -> None:
    engine.run(CountingCaptioner())
    other = Geometry(resolutions=(16,), step_px=8, max_aspect=2.0, max_crop_frac=0.5)
    captioner = CountingCaptioner()
    assert engine.run(captioner, geometry=other).num_run == 1
    assert captioner.calls == 0  # squares are cut alike by both: nothing is asked again
    assert engine.run(CountingCaptioner(), geometry=GEOMETRY, picture="whole").num_run == 1
    assert engine.run(CountingCaptioner(), geometry=other, picture="whole").num_run == 0


@pytest.mark.parametrize("fuse", [[], [FuseConfig()]])
def test_a_rewriter_counts_where_it_is_asked(
    inputs: dict[str, ShardSet], fuse: list[FuseConfig]
) -> None:
    models = {role: ModelRef(kind="x", paths=()) for role in ("captioner", "rewriter", "verifier")}
    config = RecaptionConfig(fuse=fuse)
    stage = RecaptionStage(config, inputs, models, 0, geometry=GEOMETRY)
    assert ("rewriter" in stage.models) == bool(fuse)
    assert "verifier" in stage.models


def test_failed_attempts_are_made_again_where_that_is_asked_for(engine: Engine) -> None:
    bad = ITEMS[3].key
    failing = CountingCaptioner(fails=lambda request: request.key == bad)
    counts = engine.run(failing).counts
    assert (counts["attempts"], counts["captioner_error"], counts["without_caption"]) == (8, 1, 1)
    assert engine.run(CountingCaptioner()).num_run == 0
    better = CountingCaptioner()
    assert engine.run(better, retry_failed=True).counts == {"in": 9, "kept": 9, "attempts": 9}
    assert [request.key for request in better.asked] == [bad]


def test_a_broken_model_stops_the_run_and_keeps_what_was_answered(engine: Engine) -> None:
    engine.run(CountingCaptioner(), styles=["tags"])
    with pytest.raises(ModelError, match="counting: must answer for some picture"):
        engine.run(CountingCaptioner(fails=lambda _: True), sampling=Sampling(temperature=1.0))
    after = CountingCaptioner()
    engine.run(after, styles=["tags", "short"])
    assert after.styles_asked() == {"short": 9}


def test_a_shard_of_a_few_pictures_that_all_fail_is_put_into_quarantine(
    tmp_path: Path, inputs: dict[str, ShardSet]
) -> None:
    few = finish(
        tmp_path / "few", CLUSTERED,
        [{"key": one.key, "keep": number < 3, "reason": "", "alternates": []}
         for number, one in enumerate(ITEMS)], tar=False,
    )  # fmt: skip
    captioner = CountingCaptioner(fails=lambda _: True)
    report = Engine(tmp_path, {**inputs, VERDICTS: few}).run(captioner)
    assert captioner.calls == 3  # tries
    assert "must answer for some picture, got 3 errors" in report.quarantined["00000"]

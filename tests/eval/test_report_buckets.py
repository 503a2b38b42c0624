"""The report says what placing pictures cost, and how buckets fill batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.core.shard import ShardSet
from eval.report import ReportConfig, ReportContext, ReportStage
from eval.report_buckets import measure_buckets
from tests.stages.bucket_run import make_bucket_run, read_rows


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet(make_bucket_run(tmp_path_factory.mktemp("out")) / "bucket")


def test_each_bucket_has_its_samples_and_their_losses(bucketed: ShardSet) -> None:
    rows = read_rows(bucketed)
    tables = measure_buckets(bucketed, 4)
    assert [table.resolution for table in tables] == [64, 128]
    assert sum(table.fill.num for table in tables) == len(rows)
    for table in tables:
        for line in table.rows:
            own = [row for row in rows if row["resolution"] == table.resolution
                   and row["bucket"] == line.fill.bucket]  # fmt: skip
            losses = [1 - row["height"] * row["width"] / row["scaled_height"] / row["scaled_width"]
                      for row in own]  # fmt: skip
            scales = [row["scaled_height"] / row["original_height"] for row in own]
            assert line.fill.num == len(own)
            assert line.crop_mean == pytest.approx(np.mean(losses))
            exact = np.quantile(losses, 0.95, method="inverted_cdf")
            assert line.crop_p95 == pytest.approx(exact, abs=0.001)
            assert line.scale_max == max(scales)
            assert line.enlarged_frac == np.mean(np.array(scales) > 1)
    assert any(line.scale_max > 1 for table in tables for line in table.rows)


def test_there_is_nothing_to_say_without_buckets() -> None:
    assert measure_buckets(None, 4) == []


def test_the_page_has_a_table_for_each_resolution(bucketed: ShardSet, tmp_path: Path) -> None:
    from curate.core.commit import Output
    from curate.core.engine import run_stage
    from curate.core.executor import InlineExecutor
    from curate.core.store import LocalStore
    from tests.silent import Silent

    inputs = {"bucket": bucketed}
    context = ReportContext(pipeline="base", batch_size=4)
    stage = ReportStage(ReportConfig(), inputs, {}, 0, context=context)
    run_stage(stage, Output(store=LocalStore(tmp_path)), InlineExecutor(), Silent())
    page = (tmp_path / "index.html").read_text()
    assert '<section id="buckets">' in page
    assert "batches of 4" in page
    for table in measure_buckets(inputs["bucket"], 4):
        assert f"Resolution {table.resolution}" in page
        assert all(f"<td>{line.fill.bucket}</td>" in page for line in table.rows)

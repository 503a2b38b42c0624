"""`curate show` and `curate why` tell of buckets, and of pictures that none took."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.core.errors import ConfigError
from curate.core.shard import ShardSet
from eval.report_buckets import measure_buckets
from pipelines.verbs.questions import show, why
from tests.stages.bucket_run import Sample, make_bucket_run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bucket_run(tmp_path_factory.mktemp("out"))


def test_show_prints_how_buckets_fill_batches(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show([f"out={out}", "stage=bucket", "batch=4"]) == 0
    said = capsys.readouterr().out
    tables = measure_buckets(ShardSet(out / "bucket"), 4)
    assert said.count("\n") == 1 + sum(len(table.rows) for table in tables) + len(tables)
    assert "resolution 64: 6 samples, 1.5 batches an epoch; DropLast would lose 100.0%" in said


@pytest.mark.parametrize("option", ["batch=0", "batch=many"])
def test_a_batch_of_nothing_is_refused(out: Path, option: str) -> None:
    with pytest.raises(ConfigError, match="batch: must be a whole number >= 1"):
        show([f"out={out}", option])


def test_show_and_why_tell_of_a_picture_that_no_bucket_took(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = Sample(name="s4", size=(32, 32)).key
    assert show([f"out={out}", "stage=bucket", "reason=upscale"]) == 0
    said = capsys.readouterr().out
    assert key in said
    assert "score: 2" in said
    assert why([key, f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "status = upscale" in said
    assert "threshold = <= 1.4" in said

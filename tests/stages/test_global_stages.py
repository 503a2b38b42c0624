"""Dedup and bucket end in the same verdicts and shards whatever way they were cut, or cut short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.kills import make_folder, snapshot
from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.executor import InlineExecutor
from curate.core.manifest import Task
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages.dedup import DedupConfig, DedupStage
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take a folder with copies of every kind through filter."""
    from PIL import Image

    root = tmp_path_factory.mktemp("filtered")
    make_folder(root / "pictures", 24, seed=3)
    for number in range(0, 24, 3):
        with Image.open(root / "pictures" / f"{number:05d}.png") as image:
            image.save(root / "pictures" / f"{number:05d}_copy.bmp")
            image.save(root / "pictures" / f"{number:05d}_near.jpg", quality=80)
    request = parse_request(
        [
            "stages=[ingest,annotate,filter]", f"input={root / 'pictures'}", f"out={root / 'out'}",
            "models=toy", "engine=inline", "ingest.shard_size=7",
            "annotate.annotators=[pixels,hashes,phash]",
        ]
    )  # fmt: skip
    run_request(request, Silent())
    return root / "out"


def make(filtered: Path, folder: Path, bin_entries: int) -> DedupStage:
    names = ("filter", "annotate", "ingest")
    inputs = {name: ShardSet(filtered / name) for name in names}
    config = DedupConfig(bin_entries=bin_entries)
    return DedupStage(config, inputs, {}, seed=0, own=ShardSet(folder))


def run(stage: Any, folder: Path) -> None:
    run_stage(stage, Output(store=LocalStore(folder)), InlineExecutor(), Silent())


def verdicts(folder: Path) -> dict[str, Any]:
    return {path.name: pq.read_table(path) for path in sorted(folder.glob("0*.parquet"))}


def test_the_number_of_bins_changes_no_verdict(filtered: Path, tmp_path: Path) -> None:
    run(make(filtered, tmp_path / "one", 20_000_000), tmp_path / "one")
    run(make(filtered, tmp_path / "many", 8), tmp_path / "many")
    assert len(list((tmp_path / "one").glob("_near-*.parquet"))) == 1
    assert len(list((tmp_path / "many").glob("_near-*.parquet"))) > 10
    assert verdicts(tmp_path / "one") == verdicts(tmp_path / "many")
    reasons = pa.concat_tables(verdicts(tmp_path / "one").values())["reason"].to_pylist()
    assert {"", "duplicate_pixels", "duplicate_near"} == set(reasons)


class CutShort(Exception):
    """Stand for a kill between two waves."""


class Killed(DedupStage):
    def waves(self) -> Iterator[Sequence[Task]]:
        for number, wave in enumerate(super().waves()):
            if number == 3:
                raise CutShort
            yield wave


def test_what_an_unfinished_run_with_more_bins_left_behind_is_not_read(
    filtered: Path, tmp_path: Path
) -> None:
    clean, broken = tmp_path / "clean" / "dedup", tmp_path / "broken" / "dedup"
    run(make(filtered, clean, 20_000_000), clean)
    killed = make(filtered, broken, 40)
    killed.__class__ = Killed
    with pytest.raises(CutShort):
        run(killed, broken)
    assert len(list(broken.glob("_same-*.parquet"))) > 1
    run(make(filtered, broken, 20_000_000), broken)
    assert snapshot(broken) == snapshot(clean)


def test_a_missing_measurement_is_named_and_quarantines_nothing(
    filtered: Path, tmp_path: Path
) -> None:
    from curate.core.errors import StageError

    stage = make(filtered, tmp_path, 20_000_000)
    plain = ShardSet(filtered / "ingest")  # has no phash
    stage.inputs = {**stage.inputs, "annotate": plain}
    with pytest.raises(StageError, match=r"dedup: needs column hashes\.sha256_pixels"):
        run(stage, tmp_path)
    assert list(tmp_path.glob("*.quarantine.json")) == []


def test_an_unmeasured_size_does_not_stop_the_run(filtered: Path, tmp_path: Path) -> None:
    """The pixels annotator may fail on one picture: its columns are null then."""
    copy = tmp_path / "annotate"
    copy.mkdir()
    for path in (filtered / "annotate").iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    table = pq.read_table(copy / "00000.parquet")
    nulls = pa.nulls(table.num_rows, table.schema.field("pixels.width").type)
    index = table.column_names.index("pixels.width")
    pq.write_table(table.set_column(index, "pixels.width", nulls), copy / "00000.parquet")
    stage = make(filtered, tmp_path / "dedup", 20_000_000)
    stage.inputs = {**stage.inputs, "annotate": ShardSet(copy)}
    run(stage, tmp_path / "dedup")
    run(make(filtered, tmp_path / "straight", 20_000_000), tmp_path / "straight")
    assert verdicts(tmp_path / "dedup") == verdicts(tmp_path / "straight")

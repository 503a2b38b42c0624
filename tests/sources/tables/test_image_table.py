"""Pictures in the cells of parquet pass through byte for byte, by row groups, with unique keys."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.errors import DataError
from curate.sources.config import IngestConfig
from curate.sources.source import RawSample
from curate.sources.table import make_source
from curate.sources.tables import parquet_rows

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pictures(count: int) -> list[bytes]:
    rng = random.Random(0)
    return [rng.randbytes(rng.randrange(1, 3000)) for _ in range(count)]


def table_of(datas: list[bytes | None], **columns: Any) -> pa.Table:
    cells = [None if d is None else {"bytes": d, "path": f"{i}.jpg"} for i, d in enumerate(datas)]
    return pa.table({"image": pa.array(cells, IMAGE), **columns})


def read(place: Path, shard_size: int = 7, **config: Any) -> list[RawSample]:
    source = make_source(IngestConfig(source=str(place), shard_size=shard_size, **config))
    return [sample for task in source.plan() for sample in source.read(task, place)]


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
def test_original_bytes_and_captions_pass_through(tmp_path: Path, kind: str) -> None:
    datas = pictures(50)
    texts = [f"caption {index}" for index in range(50)]
    table = table_of(list(datas), text=texts)
    if kind != "struct":
        column = pa.array(datas, pa.binary() if kind == "binary" else pa.large_binary())
        table = pa.table({"jpg": column, "text": texts})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=9)
    for shard_size in (3, 9, 100):
        samples = read(tmp_path / "t.parquet", shard_size)
        assert [sample.data for sample in samples] == datas
        assert [sample.caption for sample in samples] == texts
        assert [sample.row for sample in samples] == list(range(50))
        assert {sample.status for sample in samples} == {"ok"}
    assert samples[3].source == "t.parquet#3"


def test_keys_do_not_depend_on_the_shard_size_and_differ_for_equal_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("a", "b"):
        pq.write_table(table_of([b"same"] * 10), folder / f"{name}.parquet")
    keys = [[sample.key for sample in read(folder, size)] for size in (3, 20)]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 20


def test_a_folder_of_parts_is_cut_across_them(tmp_path: Path) -> None:
    datas = pictures(20)
    for name, first, last in (("a", 0, 8), ("b", 8, 9), ("c", 9, 20)):
        pq.write_table(table_of(list(datas[first:last])), tmp_path / f"{name}.parquet")
    source = make_source(IngestConfig(source=str(tmp_path), shard_size=7))
    tasks = source.plan()
    assert [task.params["parts"] for task in tasks] == [
        [[0, 0, 7]],
        [[0, 7, 8], [1, 0, 1], [2, 0, 5]],
        [[2, 5, 11]],
    ]
    assert [s.data for task in tasks for s in source.read(task, tmp_path)] == datas
    assert [s.row for s in source.read(tasks[1], tmp_path, {8, 13})] == [8, 13]


def test_a_task_reads_only_its_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table_of(list(pictures(100))), tmp_path / "t.parquet", row_group_size=10)
    source = make_source(IngestConfig(source=str(tmp_path / "t.parquet"), shard_size=10))
    tasks = source.plan()
    asked: list[int] = []
    iter_batches = pq.ParquetFile.iter_batches

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        asked.append(options["row_groups"][0])
        return iter_batches(self, *args, **options)

    monkeypatch.setattr(parquet_rows.pq.ParquetFile, "iter_batches", watched)
    for index in (7, 8, 2):
        assert len(list(source.read(tasks[index], tmp_path))) == 10
    assert asked == [7, 2]  # task 8 goes on where task 7 ended


def test_a_changed_file_changes_the_digests_of_its_tasks_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(table_of(list(pictures(4))), tmp_path / f"{name}.parquet")
    config = IngestConfig(source=str(tmp_path), shard_size=2)
    before = [task.inputs for task in make_source(config).plan()]
    assert before == [task.inputs for task in make_source(config).plan()]
    pq.write_table(table_of([b"x"] * 4), tmp_path / "b.parquet")
    after = [task.inputs for task in make_source(config).plan()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, False]


def test_cells_without_bytes_are_rows_with_a_status(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"not yours")
    cells = [None, {"bytes": None, "path": str(secret)}, {"bytes": b"", "path": None}]
    cells += [{"bytes": b"x", "path": "../../etc/passwd"}]
    pq.write_table(pa.table({"image": pa.array(cells, IMAGE)}), tmp_path / "t.parquet")
    samples = read(tmp_path / "t.parquet")
    assert [s.status for s in samples] == ["no_picture"] * 3 + ["ok"]
    assert [s.data for s in samples] == [None, None, None, b"x"]
    assert len({s.key for s in samples}) == 4


def test_other_columns_survive_as_fields_and_members(tmp_path: Path) -> None:
    table = table_of(
        [b"x", b"y"],
        captions=[["one", "two"], []],
        md=["ABCD", None],
        license=["CC0", None],
        id=pa.array([12, 13]),
        url=["http://a.test/1.jpg", None],
        label=pa.array([3, None]),
        conditioning=pa.array([{"bytes": b"edges", "path": "e.PNG"}, None], IMAGE),
        latent=pa.array([b"raw", None], pa.binary()),
    )
    pq.write_table(table, tmp_path / "t.parquet")
    first, second = read(tmp_path / "t.parquet", sha256_column="md")
    assert (first.expected_sha256, second.expected_sha256) == ("abcd", "")
    assert (first.caption, first.license, first.source_key) == ("one", "CC0", "12")
    assert first.url == "http://a.test/1.jpg"
    assert first.fields == {"captions": ["one", "two"], "label": 3}
    assert first.members == {"conditioning.png": b"edges", "latent.bin": b"raw"}
    assert (second.caption, second.license, second.url) == ("", "", "")
    assert second.members == {}


@pytest.mark.parametrize(
    ("columns", "wanted", "caption"),
    [
        ({"text": ["t"], "caption": ["c"]}, {}, "c"),
        ({"en_caption": ["e"], "label": [1]}, {}, "e"),
        ({"txt": ["t"], "alt": ["a"]}, {"caption_column": "alt"}, "a"),
        ({"label": [1]}, {}, ""),
    ],
)
def test_the_caption_column_is_found(
    tmp_path: Path, columns: dict[str, Any], wanted: dict[str, str], caption: str
) -> None:
    pq.write_table(table_of([b"x"], **columns), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", **wanted)[0].caption == caption


def test_the_image_column_is_found_or_named(tmp_path: Path) -> None:
    cells = pa.array([{"bytes": b"b", "path": None}], IMAGE)
    table = pa.table({"thumb": pa.array([b"t"], pa.binary()), "scan": cells, "text": ["x"]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")[0].data == b"b"
    assert read(tmp_path / "t.parquet", image_column="thumb")[0].data == b"t"
    with pytest.raises(DataError, match="column 'md' must exist, got thumb, scan, text"):
        read(tmp_path / "t.parquet", sha256_column="md")
    with pytest.raises(DataError, match="column 'text' must hold bytes, got thumb, scan, text"):
        read(tmp_path / "t.parquet", image_column="text")


def test_a_part_without_pictures_and_a_table_without_rows_are_named(tmp_path: Path) -> None:
    pq.write_table(table_of([]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: must have rows, got none"):
        read(tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": ["http://a"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: column 'image' must exist, got url"):
        read(tmp_path)

"""URL tables are planned by row ranges; bad tables are one-line errors, bad rows are rows."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from curate.core.errors import DataError
from curate.core.schema import make_key
from curate.sources.config import IngestConfig
from curate.sources.source import RawSample
from curate.sources.table import make_source
from curate.sources.tables.url_table import UrlTableSource

ROWS = [
    {"url": "http://a.test/1.jpg", "caption": "one"},
    {"url": "http://a.test/2.jpg", "caption": "two"},
    {"url": "http://a.test/1.jpg", "caption": "one"},
    {"url": "file:///etc/hostname", "caption": "a local file"},
    {"url": None, "caption": None},
]
# Rows that no fetcher is asked for, with captions that try the formats.
UNFETCHED = [
    {"url": f"ftp://a.test/{index}.jpg", "caption": caption}
    for index, caption in enumerate(
        [
            "plain",
            'with "quotes" and, commas',
            "tab-free; umlaut \u00fc \u4e2d \U0001f600",
            "",
            "\\n",
        ]
    )
]
TEXT_FORMS = [".csv", ".tsv", ".jsonl", ".json"]
FORMS = [".parquet", *TEXT_FORMS, *(f"{form}.gz" for form in TEXT_FORMS), ".csv.bz2", ".jsonl.zst"]


def write_table(path: Path, rows: Sequence[dict[str, Any]] = ROWS) -> Path:
    table = pa.Table.from_pylist(list(rows))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows), indent=1))
    elif path.suffix in (".csv", ".tsv"):
        options = pyarrow.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        pyarrow.csv.write_csv(table, path, options)
    else:
        plain = write_table(path.with_suffix(""), rows).read_bytes()
        path.write_bytes(_compress(plain, path.suffix))
    return path


def _compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":  # two members, as `cat a.gz b.gz` makes them
        return gzip.compress(data[:50], mtime=0) + gzip.compress(data[50:])
    return bz2.compress(data) if suffix == ".bz2" else pa.compress(data, "zstd", asbytes=True)


def read_table(place: Path, scratch: Path, **config: Any) -> list[RawSample]:
    source = make_source(IngestConfig(source=str(place), **config))
    return [sample for task in source.plan() for sample in source.read(task, scratch)]


@pytest.mark.parametrize("suffix", FORMS)
def test_every_format_gives_the_same_plan(tmp_path: Path, suffix: str) -> None:
    config = IngestConfig(shard_size=2)
    plan = UrlTableSource(write_table(tmp_path / f"urls{suffix}"), config).plan()
    reference = UrlTableSource(write_table(tmp_path / "reference.parquet"), config).plan()
    assert plan == reference
    assert [(t.params["start"], t.params["stop"]) for t in plan] == [(0, 2), (2, 4), (4, 5)]
    assert [t.params["repeats"] for t in plan] == [[], [2], []]


@pytest.mark.parametrize("suffix", FORMS)
def test_every_format_gives_the_same_samples(tmp_path: Path, suffix: str) -> None:
    samples = read_table(write_table(tmp_path / f"urls{suffix}", UNFETCHED), tmp_path)
    assert [{"url": s.url, "caption": s.caption} for s in samples] == UNFETCHED
    assert [s.key for s in samples] == [make_key(r["url"], r["caption"]) for r in UNFETCHED]
    assert {s.status for s in samples} == {"bad_url"}


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_a_list_of_urls_has_empty_captions(tmp_path: Path, suffix: str) -> None:
    text = "\n".join(["ftp://a.test/1,2.jpg", "", 'ftp://a.test/"3".jpg\r', "no url"]) + "\n"
    path = tmp_path / f"urls{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    samples = read_table(path, tmp_path)
    assert [(s.url, s.caption) for s in samples] == [
        ("ftp://a.test/1,2.jpg", ""),
        ('ftp://a.test/"3".jpg', ""),
        ("no url", ""),
    ]
    assert samples[0].key == make_key("ftp://a.test/1,2.jpg", "")


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz", ".jsonl"])
def test_a_folder_of_parts_is_one_table_in_order_of_name(tmp_path: Path, suffix: str) -> None:
    rows = [{"url": f"ftp://a.test/{i % 9}", "caption": "x"} for i in range(11)]
    whole = write_table(tmp_path / "whole.parquet", rows)
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, some in (("b", rows[5:6]), ("a", rows[:5]), ("c", rows[6:])):
        write_table(folder / f"{name}{suffix}", some)
    for extra in folder.glob("*.csv"):
        extra.unlink()
    (folder / "_SUCCESS").touch()
    (folder / "README.md").write_text("LAION's parts")
    (folder / "LICENSE.txt").write_text("CC-BY 4.0")
    for size in (2, 5, 100):
        parts, one = (read_table(p, tmp_path, shard_size=size) for p in (folder, whole))
        assert [asdict(sample) for sample in parts] == [asdict(sample) for sample in one]
        assert [sample.row for sample in parts] == list(range(11))


def test_endings_are_known_in_capitals(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv.gz", UNFETCHED).rename(tmp_path / "T.CSV.GZ")
    assert [s.url for s in read_table(tmp_path / "T.CSV.GZ", tmp_path)] == [
        row["url"] for row in UNFETCHED
    ]


def test_a_folder_of_tables_of_two_kinds_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv")
    write_table(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"tables of one kind, got \.csv, \.parquet"):
        make_source(IngestConfig(source=str(tmp_path)))


def test_a_folder_of_pictures_with_a_table_beside_them_is_one_of_pictures(tmp_path: Path) -> None:
    write_table(tmp_path / "metadata.csv")
    (tmp_path / "1.jpg").write_bytes(b"x")
    (tmp_path / "1.txt").write_text("a caption")
    samples = read_table(tmp_path, tmp_path)
    assert [(s.source, s.caption) for s in samples] == [("1.jpg", "a caption")]


def test_a_part_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv")
    write_table(tmp_path / "b.csv", [{"link": "http://a.test/1.jpg", "caption": "x"}])
    with pytest.raises(DataError, match=r"b\.csv: column 'url' must exist, got link, caption"):
        make_source(IngestConfig(source=str(tmp_path))).plan()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl.gz"])
def test_a_changed_cell_of_any_column_changes_one_digest(tmp_path: Path, suffix: str) -> None:
    config = IngestConfig(shard_size=2)
    rows = [dict(row, license="CC0", score=index / 3) for index, row in enumerate(ROWS)]
    before = UrlTableSource(write_table(tmp_path / f"a{suffix}", rows), config).plan()
    for name, value in (("caption", "changed"), ("license", "MIT"), ("score", 0.5)):
        changed = [dict(row) for row in rows]
        changed[3][name] = value
        after = UrlTableSource(write_table(tmp_path / f"b{suffix}", changed), config).plan()
        same = [a.inputs == b.inputs for a, b in zip(before, after, strict=True)]
        assert same == [True, False, True], name


def test_the_digest_does_not_depend_on_how_the_file_is_cut(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(
        [{**row, "tags": [1, None], "name": None if i % 2 else "n"} for i, row in enumerate(ROWS)]
    )
    plans: list[Any] = []
    for index, group in enumerate((1, 2, 5)):
        pq.write_table(table, tmp_path / f"{index}.parquet", row_group_size=group)
        plans.append(UrlTableSource(tmp_path / f"{index}.parquet", IngestConfig()).plan())
    assert plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl.gz"])
def test_tasks_can_be_read_in_any_order(tmp_path: Path, suffix: str) -> None:
    rows = [{"url": f"ftp://a.test/{i}", "caption": "x"} for i in range(50)]
    path = tmp_path / f"t{suffix}"
    write_table(path, rows)
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    source = make_source(IngestConfig(source=str(path), shard_size=4))
    tasks = source.plan()
    for index in (12, 3, 4, 4, 0, 11, 12):
        read = [sample.row for sample in source.read(tasks[index], tmp_path)]
        assert read == list(range(50))[index * 4 : index * 4 + 4]


def test_only_the_rows_asked_for_are_given(tmp_path: Path) -> None:
    source = make_source(IngestConfig(source=str(write_table(tmp_path / "t.csv", UNFETCHED))))
    [task] = source.plan()
    assert [sample.row for sample in source.read(task, tmp_path, {1, 3})] == [1, 3]


@pytest.mark.parametrize("rows", [ROWS[:4], [*ROWS[:4], {"url": "http://b", "caption": "x"}]])
def test_a_table_that_changed_since_the_plan_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    path = write_table(tmp_path / "t.csv")
    tasks = make_source(IngestConfig(source=str(path))).plan()
    write_table(path, rows)
    with pytest.raises(DataError, match=r"t\.csv: must stay while the run reads it"):
        list(make_source(IngestConfig(source=str(path))).read(tasks[0], tmp_path))


def test_rows_that_cannot_be_fetched_keep_a_row_with_the_reason(tmp_path: Path) -> None:
    rows = ROWS[3:]
    source = UrlTableSource(write_table(tmp_path / "urls.parquet", rows), IngestConfig())
    samples = [s for task in source.plan() for s in source.read(task, tmp_path)]
    assert [s.status for s in samples] == ["bad_url", "bad_url"]
    assert "scheme must be http or https, got file" in samples[0].error


def test_every_other_column_survives_as_a_field(tmp_path: Path) -> None:
    row = {
        "url": "ftp://a.test/1",
        "caption": "x",
        "license": "CC0",
        "uid": "00112233445566778899aabbccddeeff",
        "score": 0.1,
        "not_a_number": float("nan"),
        "endless": float("inf"),
        "count": 2**62,
        "flag": True,
        "boxes": [[0.5, 1.0], []],
        "nested": {"a": None, "b": "\u4e2d"},
        "raw": b"\xff\x00",
        "nothing": None,
    }
    [sample] = read_table(write_table(tmp_path / "t.parquet", [row]), tmp_path)
    assert sample.license == "CC0"
    assert sample.source_key == "00112233445566778899aabbccddeeff"
    assert sample.fields == {
        "score": 0.1,
        "endless": "inf",
        "count": 2**62,
        "flag": True,
        "boxes": [[0.5, 1.0], []],
        "nested": {"a": None, "b": "\u4e2d"},
        "raw": "/wA=",
    }
    assert json.loads(json.dumps(sample.fields, allow_nan=False)) == sample.fields


def test_texts_that_are_no_utf8_in_parquet_are_read_with_marks(tmp_path: Path) -> None:
    broken = pa.array([b"a\xff", b"b"], pa.binary()).cast(pa.binary()).view(pa.string())
    table = pa.table({"url": ["ftp://a/1", "ftp://a/2"], "caption": broken})
    pq.write_table(table, tmp_path / "t.parquet")
    samples = read_table(tmp_path / "t.parquet", tmp_path)
    assert [s.caption for s in samples] == ["a\ufffd", "b"]


def test_columns_of_bytes_and_categories_are_read_as_texts(tmp_path: Path) -> None:
    table = pa.table(
        {
            "url": pa.array([b"ftp://a/1", None], pa.binary()),
            "caption": pa.array(["x", "x"]).dictionary_encode(),
            "license": pa.array(["y", None], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    samples = read_table(tmp_path / "t.parquet", tmp_path)
    assert [(s.url, s.caption, s.license) for s in samples] == [
        ("ftp://a/1", "x", "y"),
        ("", "x", ""),
    ]


def test_a_missing_column_is_named_with_what_there_is(tmp_path: Path) -> None:
    path = write_table(tmp_path / "urls.parquet", [{"link": "http://a.test/1.jpg", "caption": "x"}])
    with pytest.raises(DataError, match="column 'url' must exist, got link, caption"):
        UrlTableSource(path, IngestConfig())


@pytest.mark.parametrize("content", [b"", b"PAR1 not parquet", b"PAR1" + bytes(100)])
def test_an_unreadable_parquet_is_a_one_line_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "urls.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        UrlTableSource(path, IngestConfig())
    assert "\n" not in str(caught.value)
    assert "must be a readable parquet table" in str(caught.value)


def test_a_parquet_that_is_damaged_inside_is_a_one_line_error(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.parquet", [{"url": f"x{i}", "caption": "y"} for i in range(999)]
    )
    data = bytearray(path.read_bytes())
    data[20:2000] = bytes(1980)
    path.write_bytes(data)
    with pytest.raises(DataError, match="must be a readable parquet table") as caught:
        UrlTableSource(path, IngestConfig()).plan()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".txt"])
def test_a_compressed_table_that_is_cut_or_is_none_is_a_one_line_error(
    tmp_path: Path, form: str
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["url", "caption"], *([f"http://a/{i}", "x"] for i in range(9999))])
    whole = gzip.compress(text.getvalue().encode())
    for content in (whole[: len(whole) // 2], b"no gzip at all"):
        path = tmp_path / f"t{form}.gz"
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            make_source(IngestConfig(source=str(path))).plan()
        assert "\n" not in str(caught.value)
        assert f"t{form}.gz: must" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"url,caption\n"),
        ("t.csv", b""),
        ("t.tsv.gz", gzip.compress(b"", mtime=0)),
        ("t.jsonl", b"\n\n"),
        ("t.json", b"[]"),
        ("t.txt", b""),
        ("t.txt", b"\n"),
    ],
)
def test_a_table_without_rows_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"must have (rows|a JSON object)"):
        UrlTableSource(path, IngestConfig()).plan()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("url,caption,url\na,b,c\n")
    columns = [pa.array(["a"])] * 2
    pq.write_table(pa.Table.from_arrays(columns, names=["url", "url"]), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(DataError, match="column names must differ"):
            UrlTableSource(tmp_path / name, IngestConfig())


def test_utf16_is_refused_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    text = "url,caption\nftp://a/1,x\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8-sig")
    assert [s.url for s in read_table(tmp_path / "a.csv", tmp_path)] == ["ftp://a/1"]
    (tmp_path / "b.csv").write_text(text, encoding="utf-16")
    with pytest.raises(DataError, match="must be UTF-8, got UTF-16"):
        UrlTableSource(tmp_path / "b.csv", IngestConfig())

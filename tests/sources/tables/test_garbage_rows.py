"""No row of a dirty table is lost, and none costs another: each keeps its place and a status."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.sources.config import IngestConfig
from curate.sources.source import RawSample
from curate.sources.table import make_source

BAD_URLS = [
    None,
    "",
    " ",
    "not a url",
    "/relative.jpg",
    "//a.test/1.jpg",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "file:///etc/passwd",
    "FTP://a.test/1.jpg",
    "http://",
    "http:///1.jpg",
    "http://?",
    "http://a b.test/1.jpg",
    "http://a.test:99999/1.jpg",
    "http://a.test:port/1.jpg",
    "http://[::1/1.jpg",
    "http://\u2603\x01.test/",
    "http://a.test/" + "x" * 10_000,
    "\x00\x01\x02",
    "\ufffd\ufffd",
]
BAD_LINES = {
    ".csv": ["", "one cell", "a,b,c", "a,b,c,d,e,f", '"open,x', 'x,"open', '"a"b,c,d', ",,,,"],
    ".tsv": ["one cell", "a\tb\tc", '"open', 'x\ty\t"open'],
    ".jsonl": [
        "{",
        "[1, 2]",
        "null",
        '"text"',
        "12",
        '{"url": "http://a.test/1.jpg", "caption": "cut',
        '{"url": 1e, "caption": ""}',
        "[" * 100_000,
        "\x00",
        "url,caption",
    ],
}


def read(path: Path, shard_size: int = 7) -> list[RawSample]:
    config = IngestConfig(source=str(path), shard_size=shard_size)
    tasks = make_source(config).plan()
    source = make_source(config)
    source.__dict__["_fetcher"] = _NoFetcher()
    return [sample for task in tasks for sample in source.read(task, path.parent)]


class _NoFetcher:
    """Stand for the network, of which these tests want nothing."""

    def fetch_all(self, urls: Any, scratch: Path) -> Any:
        import contextlib

        from curate.sources.fetching.fetcher import Fetched

        return contextlib.nullcontext(lambda row: Fetched(data=b"x"))


def rows(seed: int) -> list[dict[str, Any]]:
    """Mix good rows with bad ones."""
    rng = random.Random(seed)
    mixed: list[dict[str, Any]] = []
    for index in range(200):
        is_bad = rng.random() < 0.3
        url = rng.choice(BAD_URLS) if is_bad else f"http://a.test/{index}.jpg"
        mixed.append({"url": url, "caption": rng.choice(["x", "", None, "\u00fc", "a, b"])})
    return mixed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_a_table_with_garbage_loses_no_row(tmp_path: Path, suffix: str, seed: int) -> None:
    good_and_bad = rows(seed)
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(good_and_bad), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in good_and_bad))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream, delimiter="," if suffix == ".csv" else "\t")
            writer.writerow(["url", "caption"])
            writer.writerows([row["url"], row["caption"]] for row in good_and_bad)
    samples = read(path)
    assert [sample.row for sample in samples] == list(range(200))
    assert [sample.url for sample in samples] == [row["url"] or "" for row in good_and_bad]
    is_bad = [row["url"] in BAD_URLS for row in good_and_bad]
    assert [s.status for s in samples] == ["bad_url" if bad else "ok" for bad in is_bad]
    assert len({sample.key for sample in samples}) == 200
    assert all(sample.error for sample in samples if sample.status != "ok")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", list(BAD_LINES))
def test_a_broken_line_is_a_row_of_its_own_and_costs_no_other(
    tmp_path: Path, suffix: str, seed: int
) -> None:
    rng = random.Random(seed)
    lines: list[str] = []
    is_bad: list[bool] = []
    for index in range(150):
        is_bad.append(rng.random() < 0.2)
        good = [f"http://a.test/{index}.jpg", "", f"caption {index}"]
        line = json.dumps(dict(zip(("url", "n", "caption"), good, strict=True)))
        line = line if suffix == ".jsonl" else {".csv": ",", ".tsv": "\t"}[suffix].join(good)
        bad_lines = [bad for bad in BAD_LINES[suffix] if bad and bad.count("\t") != 2]
        bad_lines = [bad for bad in bad_lines if suffix != ".csv" or bad.count(",") != 2]
        lines.append(rng.choice(bad_lines) if is_bad[-1] else line)
    header = {".csv": "url,n,caption\n", ".tsv": "url\tn\tcaption\n", ".jsonl": ""}[suffix]
    path = tmp_path / f"t{suffix}"
    path.write_text(header + "\n".join(lines) + "\n")
    samples = read(path)
    assert [sample.row for sample in samples] == list(range(150))
    assert [sample.status == "bad_row" for sample in samples] == is_bad
    assert [s.caption for s in samples if s.status == "ok"] == [
        f"caption {index}" for index in range(150) if not is_bad[index]
    ]
    first = is_bad.index(True)
    number = first + (1 if suffix == ".jsonl" else 2)
    assert samples[first].error.startswith(f"line {number}: ")
    assert len({sample.key for sample in samples}) == 150


def test_wrong_types_are_read_as_texts(tmp_path: Path) -> None:
    values: Sequence[Any] = [1, 2.5, True, ["http://a.test/1"], {"a": None}, "http://a.test/2"]
    (tmp_path / "t.jsonl").write_text(
        "".join(json.dumps({"url": value, "caption": value}) + "\n" for value in values)
    )
    samples = read(tmp_path / "t.jsonl")
    texts = ["1", "2.5", "true", '["http://a.test/1"]', '{"a": null}', "http://a.test/2"]
    assert [s.url for s in samples] == [s.caption for s in samples] == texts
    assert [s.status for s in samples] == ["bad_url"] * 5 + ["ok"]
    pq.write_table(pa.table({"url": [1, 2], "caption": [0.5, None]}), tmp_path / "t.parquet")
    samples = read(tmp_path / "t.parquet")
    assert [(s.url, s.caption, s.status) for s in samples] == [
        ("1", "0.5", "bad_url"),
        ("2", "", "bad_url"),
    ]


def test_bytes_that_are_no_utf8_cost_the_url_or_mark_the_caption(tmp_path: Path) -> None:
    lines = [b"url,caption", b"http://a.test/1.jpg,caf\xe9", b"http://a.test/caf\xe9.jpg,x"]
    (tmp_path / "t.csv").write_bytes(b"\n".join(lines))
    samples = read(tmp_path / "t.csv")
    assert [(s.caption, s.status) for s in samples] == [("caf\ufffd", "ok"), ("x", "bad_url")]


@pytest.mark.parametrize(
    ("suffix", "most"),
    [(".jsonl", 1000), (".json", 800)],  # an array that the parser cannot read is broken as a whole
)
def test_what_is_nested_too_deeply_is_a_broken_row_and_costs_no_other(
    tmp_path: Path, suffix: str, most: int
) -> None:
    """The first depths are around our limit; the last ones around the parser's, of any caller."""
    depths = (98, 99, 100, 500, *range(most - 120, most, 5))
    nested = [f'{"[" * depth}"\\ud800"{"]" * depth}' for depth in depths]
    rows = [
        f'{{"url": "http://a.test/{index}", "caption": "", "x": {value}}}'
        for index, value in enumerate(nested)
    ]
    rows += ["[" * most + "]" * most, '{"url":' * most + "1" + "}" * most]
    path = tmp_path / f"t{suffix}"
    path.write_text("\n".join(rows) if suffix == ".jsonl" else f"[{','.join(rows)}]")
    samples = read(path)
    assert [s.status for s in samples] == ["ok"] * 2 + ["bad_row"] * (len(rows) - 2)
    assert all("nested deeper than 100" in s.error for s in samples[2:])
    assert len({s.key for s in samples}) == len(rows)


def test_halves_of_surrogate_pairs_become_marks(tmp_path: Path) -> None:
    text = r'{"url": "http://a.test/1.jpg", "caption": "\ud83d\ude00 \ud83d", "\udc00": ["\uD800"]}'
    (tmp_path / "t.jsonl").write_text(text)
    [sample] = read(tmp_path / "t.jsonl")
    assert sample.caption == "\U0001f600 \ufffd"
    assert sample.fields == {"\ufffd": ["\ufffd"]}
    json.dumps(sample.fields, ensure_ascii=False).encode()


def test_a_line_without_end_is_one_broken_row_in_bounded_memory(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("wb") as stream:
        stream.write(b"url,caption\nhttp://a.test/1,x\n")
        for _ in range(40):
            stream.write(b"x" * 2**17)
        stream.write(b"\nhttp://a.test/2,y\n")
    samples = read(tmp_path / "t.csv")
    assert [(s.status, s.caption) for s in samples] == [("ok", "x"), ("bad_row", ""), ("ok", "y")]
    assert samples[1].error == "line 3: longer than 1 MiB"


def test_a_quoted_cell_may_run_over_lines_of_csv(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["url", "caption"], ["http://a.test/1", 'two\nlines, "quoted"\n\n']])
        writer.writerow(["http://a.test/2", "x"])
    samples = read(tmp_path / "t.csv")
    assert [s.caption for s in samples] == ['two\nlines, "quoted"\n\n', "x"]


def test_a_stray_quote_costs_at_most_its_own_row(tmp_path: Path) -> None:
    lines = ["url,caption", 'http://a.test/0,"never closed']
    lines += [f"http://a.test/{i},x" for i in range(1, 300)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    samples = read(tmp_path / "t.csv")
    assert [s.row for s in samples] == list(range(300))
    assert samples[0].caption == '"never closed'
    (tmp_path / "t.tsv").write_text('url\tcaption\nhttp://a\t"Foo" bar\nhttp://b\t"Foo, bar"\n')
    assert [s.caption for s in read(tmp_path / "t.tsv")] == ['"Foo" bar', "Foo, bar"]

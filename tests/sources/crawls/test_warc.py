"""A crawl's links become shards; equal links, opt-outs and cuts are told over all files."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.attempt import Patience, run_with_tries
from curate.core.commit import Output
from curate.core.engine import StageReport, run_stage
from curate.core.errors import DataError
from curate.core.remote_store import drop_copies
from curate.core.shard import ShardSet
from curate.core.store import LocalStore, open_store
from curate.core.tombstones import add_tombstones
from curate.sources.config import IngestConfig
from curate.sources.table import make_source
from curate.stages.ingest import IngestStage
from tests.core.s3_server import copy_tree, serve_s3, use_s3
from tests.silent import Silent
from tests.sources.crawls.crawl_files import (
    html,
    links_of,
    make_warc,
    other,
    wat,
)
from tests.sources.file_server import serve


class Inline:
    def run(self, stage: Any, jobs: Any, output: Any) -> Iterator[Any]:
        stage.setup()
        for job in jobs:
            yield run_with_tries(stage, job, output, Patience(tries=1))


def test_many_links_are_sorted_in_pieces_and_cut_into_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "".join(f"<img src={index % 70}.jpg alt=x>" for index in range(200))
    data = make_warc([html("http://a.test/", body)])
    whole, counts = links_of(data, tmp_path / "a", IngestConfig(shard_size=16))
    monkeypatch.setattr("curate.sources.crawls.web_links._PIECE_ROWS", 23)
    pieces, again = links_of(data, tmp_path / "b", IngestConfig(shard_size=16))
    assert whole == pieces and counts == again
    assert [row["position"] for row in whole] == list(range(70))
    assert counts["in"] == counts["dropped.repeated_link"] == 130
    files = [(tmp_path / name / "links.parquet").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    with pq.ParquetFile(tmp_path / "a/links.parquet") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        digests = json.loads(file.metadata.metadata[b"groups"])
    assert sizes == [16, 16, 16, 16, 6] and len(set(digests)) == 5


PICTURES: dict[str, bytes] = {}
for _index in range(6):
    _stream = io.BytesIO()
    Image.new("RGB", (40, 30 + _index), (40 * _index, 0, 0)).save(_stream, "PNG")
    PICTURES[f"/{_index}.png"] = _stream.getvalue()


def run_ingest(source: Path | str, out: Path | str, **config: Any) -> StageReport:
    """Run the stage as the command line does, in this process."""
    config = {"shard_size": 2, "allow_private": True, **config}
    store = open_store(out)
    stage = IngestStage(IngestConfig(source=str(source), **config), {}, {}, 0, own=ShardSet(store))
    return run_stage(stage, Output(store=store), Inline(), Silent())


def rows_of(out: Path | str) -> list[dict[str, Any]]:
    shards = ShardSet(open_store(out))
    return [row for _, table in shards.tables() for row in table.to_pylist()]


def crawl(folder: Path, site: str) -> None:
    """Write a WARC and a WAT file that share links; the second one is cut."""
    folder.mkdir()
    images = [f'<img src="{site}/{index}.png" alt="picture {index}">' for index in range(4)]
    page = html("http://page.test/", "".join(images))
    noai = html("http://noai.test/", f'<img src="{site}/5.png" alt="mine">',
                [("X-Robots-Tag", "noai")])  # fmt: skip
    (folder / "CC-MAIN-1.warc.gz").write_bytes(make_warc([other("warcinfo"), page, noai]))
    links = [
        {"path": "IMG@/src", "url": f"{site}/{index}.png", "alt": f"picture {index}"}
        for index in (2, 3, 4, 9)
    ]
    links.append({"path": "IMG@/src", "url": f"{site}/1.png", "alt": "another text"})
    wats = [wat("http://w.test/", links), wat("http://lost.test/", links)]
    (folder / "CC-MAIN-2.warc.wat.gz").write_bytes(make_warc(wats)[:-40])
    (folder / "notes.txt").write_text("x")


def test_a_folder_of_crawl_files_becomes_shards(tmp_path: Path) -> None:
    with serve(PICTURES) as (site, asked):
        crawl(tmp_path / "crawl", site)
        report = run_ingest(tmp_path / "crawl", tmp_path / "out")
        once = list(asked)
        assert run_ingest(tmp_path / "crawl", tmp_path / "out").num_run == 0
    assert sorted(once) == ["/0.png", "/1.png", "/1.png", "/2.png", "/3.png", "/4.png"]
    assert asked == once
    assert report.counts["in"] == 11 and report.counts["kept"] == 6
    assert {name: n for name, n in report.counts.items() if name.startswith("failed.")} == {
        "failed.opted_out": 1, "failed.repeated_row": 2, "failed.cut_file": 1, "failed.http_404": 1,
    }  # fmt: skip
    rows = {(row["status"], row["caption"]): row for row in rows_of(tmp_path / "out")}
    good = rows["ok", "picture 0"]
    assert good["sha256"] == hashlib.sha256(PICTURES["/0.png"]).hexdigest()
    assert good["url"] == f"{site}/0.png"
    assert json.loads(good["fields"]) == {
        "page_url": "http://page.test/", "crawl_file": "CC-MAIN-1.warc.gz",
    }  # fmt: skip
    assert rows["opted_out", "mine"]["error"] == "the page says noai"
    assert rows["cut_file", ""]["error"].startswith("CC-MAIN-2.warc.wat.gz, byte ")
    assert ("repeated_row", "picture 3") in rows and ("ok", "another text") in rows


def test_a_link_taken_down_leaves_the_links_too_and_nothing_is_fetched_again(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    tombstones = LocalStore(tmp_path / "takedown")
    with serve(PICTURES) as (site, asked):
        crawl(tmp_path / "crawl", site)
        run_ingest(tmp_path / "crawl", out)
        asked.clear()
        row = next(row for row in rows_of(out) if row["caption"] == "picture 0")
        key = row["key"]
        helpers = [p.stem for p in out.glob("_links-*.parquet")]
        places = [(key, name) for name in helpers if key in links_in(out, name)]
        shard = next(s for s, table in ShardSet(out).tables() if key in table["key"].to_pylist())
        add_tombstones(tombstones, [*places, (key, shard)], "keys")
        report = run_ingest(tmp_path / "crawl", out, takedowns=str(tombstones.folder))
    assert not asked
    assert report.num_run == 2  # the file's links and the shard
    assert "picture 0" not in {row["caption"] for row in rows_of(out)}
    for name in helpers:
        assert f"{site}/0.png" not in ShardSet(out).table(name)["url"].to_pylist()
    assert {row["key"] for row in rows_of(out) if row["status"] == "taken_down"} == {key}


def test_a_link_of_two_files_keeps_its_rows_when_it_is_taken_down(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tombstones = LocalStore(tmp_path / "takedown")
    with serve(PICTURES) as (site, _):
        crawl(tmp_path / "crawl", site)
        run_ingest(tmp_path / "crawl", out)
        before = {row["key"]: row for row in rows_of(out)}
        key = next(k for k, row in before.items()
                   if (row["status"], row["caption"]) == ("ok", "picture 2"))  # fmt: skip
        helpers = [p.stem for p in out.glob("_links-*.parquet")]
        assert all(key in links_in(out, name) for name in helpers)
        add_tombstones(tombstones, [(key, name) for name in helpers], "keys")
        for marker in out.glob("0*.done.json"):  # all shards are read again
            marker.unlink()
        run_ingest(tmp_path / "crawl", out, takedowns=str(tombstones.folder))
    after = {row["key"]: row for row in rows_of(out)}
    assert after.keys() == before.keys()
    gone = {k for k, row in before.items() if row["caption"] == "picture 2"}
    assert len(gone) == 2 and gone == {k for k, r in after.items() if r["status"] == "taken_down"}
    assert {after[k]["url"] or "" for k in gone} == {""}


def test_an_opt_out_taken_down_stays_before_its_repeats(tmp_path: Path) -> None:
    folder, out = tmp_path / "crawl", tmp_path / "out"
    folder.mkdir()
    image = '<img src="http://127.0.0.1:9/0.png" alt="x">'
    noai = [("X-Robots-Tag", "noai")]
    (folder / "1.warc.gz").write_bytes(make_warc([html("http://a.test/", image)]))
    (folder / "2.warc.gz").write_bytes(make_warc([html("http://b.test/", image, noai)]))
    config = IngestConfig(source=str(folder))
    run_ingest(folder, out)
    planned = make_source(config, ShardSet(out)).plan()
    (key,) = {key for name in out.glob("_links-*.parquet") for key in links_in(out, name.stem)}
    tombstones = LocalStore(tmp_path / "takedown")
    add_tombstones(tombstones, [(key, "_links-00000"), (key, "_links-00001")], "keys")
    run_ingest(folder, out, takedowns=str(tombstones.folder))
    assert make_source(config, ShardSet(out)).plan() == planned


def links_in(out: Path, name: str) -> list[str]:
    return ShardSet(out).table(name)["key"].to_pylist()


def test_a_crawl_behind_a_url_gives_the_shards_of_a_local_one(tmp_path: Path) -> None:
    with serve(PICTURES) as (site, _), serve_s3() as proxy, use_s3(proxy) as bucket:
        crawl(tmp_path / "crawl", site)
        copy_tree(tmp_path / "crawl", f"{bucket}/crawl")
        for place, out in ((tmp_path, tmp_path), (bucket, bucket), (bucket, tmp_path / "b")):
            run_ingest(f"{place}/crawl", f"{out}/out")
        tables = [rows_of(f"{out}/out") for out in (tmp_path, bucket, tmp_path / "b")]
        drop_copies()
    assert len(tables[0]) == 11
    assert tables[0] == tables[1] == tables[2]


def test_a_further_file_changes_no_shard_before(tmp_path: Path) -> None:
    with serve(PICTURES) as (site, _):
        crawl(tmp_path / "crawl", site)
        run_ingest(tmp_path / "crawl", tmp_path / "out")
        before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("0*.tar")}
        page = html("http://late.test/", f'<img src="{site}/0.png" alt="late">')
        (tmp_path / "crawl/CC-MAIN-3.warc").write_bytes(make_warc([page], is_gzip=False))
        report = run_ingest(tmp_path / "crawl", tmp_path / "out")
    assert report.num_run == 2  # its links and its shard
    after = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("0*.tar")}
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 1


def test_an_opt_out_in_a_later_file_reaches_the_link_of_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "crawl"
    folder.mkdir()
    with serve(PICTURES) as (site, asked):
        image = f'<img src="{site}/0.png" alt="x">'
        first, second = html("http://a.test/", image), html("http://b.test/", image, [
            ("X-Robots-Tag", "noai")])  # fmt: skip
        (folder / "1.warc.gz").write_bytes(make_warc([first]))
        (folder / "2.warc.gz").write_bytes(make_warc([second]))
        run_ingest(folder, tmp_path / "out")
        assert asked == []
    assert sorted(row["status"] for row in rows_of(tmp_path / "out")) == [
        "opted_out", "repeated_row",
    ]  # fmt: skip


def test_chosen_rows_alone_are_fetched_again(tmp_path: Path) -> None:
    with serve(PICTURES) as (site, asked):
        crawl(tmp_path / "crawl", site)
        config = IngestConfig(
            source=str(tmp_path / "crawl"), allow_private=True, disallowed_directives=[]
        )
        run_ingest(tmp_path / "crawl", tmp_path / "out", shard_size=1000)
        failed = [row for row in rows_of(tmp_path / "out") if row["status"] == "http_404"]
        asked.clear()
        source = make_source(config, ShardSet(tmp_path / "out"))
        task = source.plan()[1]
        assert [row["row"] for row in failed] == [3]
        (sample,) = source.read(task, tmp_path, {3})
    assert (sample.key, sample.status) == (failed[0]["key"], "http_404")
    assert asked == []


def test_one_file_by_name_gives_the_same_as_its_folder(tmp_path: Path) -> None:
    (tmp_path / "crawl").mkdir()
    path = tmp_path / "crawl/a.warc.gz"
    with serve(PICTURES) as (site, _):
        path.write_bytes(make_warc([html("http://a.test/", f"<img src={site}/0.png alt=x>")]))
        for number, source in enumerate((path, path.parent)):
            run_ingest(source, tmp_path / f"out{number}")
    tables = [rows_of(tmp_path / f"out{number}") for number in range(2)]
    assert tables[0] == tables[1] and len(tables[0]) == 1


def test_files_without_links_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(make_warc([html("http://a.test/", "<p>text")]))
    with pytest.raises(DataError, match="must hold <img> links with alt text, got none in 1 file"):
        run_ingest(tmp_path, tmp_path / "out")


def test_a_compressed_tar_of_crawls_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wet.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"input: must be a folder, .*\.warc\.gz"):
        make_source(IngestConfig(source=str(tmp_path / "a.wet.gz")))

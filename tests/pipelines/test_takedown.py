"""What is taken down is gone from every stage's files, and no later run brings it back."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.core.errors import ConfigError, DataError, StoreError
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.core.tombstones import add_tombstones, read_tombstones
from pipelines.request import parse_request
from pipelines.run import run_request
from pipelines.takedown import Takedown, plan_takedown
from tests.silent import Silent
from tests.sources.crawls.crawl_files import html, make_warc

CURATION = ("ingest", "annotate", "filter", "dedup", "recaption", "judge", "bucket", "encode")


def arguments(folder: Path) -> list[str]:
    return [
        f"stages=[{','.join(CURATION)}]", f"input={folder / 'pictures'}", f"out={folder / 'out'}",
        "engine=inline", "ingest.shard_size=4", "bucket.resolutions=[64]", "bucket.shard_size=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curate ten different pictures."""
    folder = tmp_path_factory.mktemp("curated")
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.Generator(np.random.Philox(key=1))
    for number in range(10):
        pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number:02d}.png")
        (pictures / f"{number:02d}.txt").write_text(f"secret words {number}")
    run_request(parse_request(arguments(folder)), Silent())
    return folder


@pytest.fixture
def folder(curated: Path, tmp_path: Path) -> Path:
    """Copy the run and its pictures."""
    shutil.copytree(curated, tmp_path / "run")
    return tmp_path / "run"


def rows(folder: Path, stage: str) -> dict[str, dict[str, Any]]:
    tables = ShardSet(folder / "out" / stage).tables()
    return {row["key"]: row for _, table in tables for row in table.to_pylist()}


def take_down(folder: Path, by: Any, *values: str) -> Takedown:
    path = folder / "list.txt"
    path.write_text("# on request\n" + "\n".join(values) + "\n")
    found = plan_takedown(LocalStore(folder / "out"), by, path)

    def prepare() -> None:
        found.bury()

    run_request(found.request, Silent(), prepare)
    return found


def test_a_picture_taken_down_by_its_hash_is_in_no_file(folder: Path) -> None:
    data = (folder / "pictures" / "03.png").read_bytes()
    before = rows(folder, "ingest")
    key = next(key for key, row in before.items() if row["caption"] == "secret words 3")
    take_down(folder, "hashes", hashlib.sha256(data).hexdigest().upper())
    ingested = rows(folder, "ingest")
    assert {k for k, row in ingested.items() if row["status"] == "taken_down"} == {key}
    assert [name for name, value in ingested[key].items() if value not in (None, [])] == [
        "key", "status", "error", "row",
    ]  # fmt: skip
    for stage in ("filter", "dedup"):
        assert rows(folder, stage)[key]["reason"] == "taken_down"
    for stage in ("recaption", "judge", "bucket", "encode"):
        assert key not in rows(folder, stage)
        assert len(rows(folder, stage)) == 9
    for file in (folder / "out").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert data not in content, file
            assert b"secret words 3" not in content, file


def test_other_shards_and_rows_stay_as_they_were(folder: Path) -> None:
    before = rows(folder, "ingest")
    out = folder / "out" / "ingest"
    bytes_before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    key = next(iter(before))
    take_down(folder, "keys", key)
    changed = {
        path.name
        for path in out.iterdir()
        if path.is_file() and bytes_before.get(path.name) != path.read_bytes()
    }
    assert changed == {"00000.done.json", "00000.parquet", "00000.tar", "stage.json"}
    after = rows(folder, "ingest")
    positions = ("offset", "members")
    for other in before.keys() - {key}:
        assert {k: v for k, v in after[other].items() if k not in positions} == {
            k: v for k, v in before[other].items() if k not in positions
        }


def test_no_later_run_brings_it_back(folder: Path) -> None:
    key = sorted(rows(folder, "ingest"))[0]
    take_down(folder, "keys", key)
    reports = run_request(parse_request(arguments(folder)), Silent())
    assert all(report.num_run == 0 for report in reports)
    again = [text.replace("shard_size=4", "shard_size=3") for text in arguments(folder)]
    run_request(parse_request(again), Silent())
    assert rows(folder, "ingest")[key]["status"] == "taken_down"
    assert key not in rows(folder, "bucket")


def test_a_stage_that_was_interrupted_keeps_nothing_of_it(folder: Path) -> None:
    key, secret = next((k, row["caption"]) for k, row in rows(folder, "ingest").items())
    others = set(rows(folder, "ingest")) - {key}
    (folder / "out" / "annotate" / "stage.json").unlink()
    (folder / "out" / "bucket" / "00009.tar").write_text(secret)  # a commit that was cut off
    found = take_down(folder, "keys", key)
    assert found.request.chosen == ("ingest",)
    assert found.unfinished == CURATION[1:]
    assert {k for stage in CURATION[1:] for k in rows(folder, stage)} < others
    assert len(rows(folder, "annotate")) == 6  # of the shards that never held it
    for file in (folder / "out").rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    run_request(parse_request(arguments(folder)), Silent())
    assert rows(folder, "annotate")[key]["status"] == "taken_down"
    assert set(rows(folder, "bucket")) == others


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_its_captions_leave_the_journal_and_others_are_not_written_again(
    folder: Path, is_interrupted: bool
) -> None:
    def journal() -> list[str]:
        files = sorted((folder / "out" / "recaption" / "journal").iterdir())
        return [line for file in files for line in file.read_text().splitlines()]

    key, before = next(iter(rows(folder, "recaption"))), journal()
    if is_interrupted:
        (folder / "out" / "recaption" / "stage.json").unlink()
    take_down(folder, "keys", key)
    assert journal() == [line for line in before if key not in line]
    assert len(before) - len(journal()) == 2  # short and detailed
    run_request(parse_request(arguments(folder)), Silent())
    assert key not in rows(folder, "recaption")
    assert journal() == [line for line in before if key not in line]


def test_a_shard_of_an_earlier_cut_goes_too(folder: Path) -> None:
    key = next(k for k, row in rows(folder, "ingest").items() if row["row"] == 3)
    again = [text.replace("shard_size=4", "shard_size=3") for text in arguments(folder)]
    run_request(parse_request([*again, "stage=ingest"]), Silent())
    assert key in ShardSet(folder / "out" / "annotate").table("00000")["key"].to_pylist()
    assert key in ShardSet(folder / "out" / "ingest").table("00001")["key"].to_pylist()
    (folder / "out" / "annotate" / "stage.json").unlink()
    take_down(folder, "keys", key)
    assert key not in rows(folder, "annotate")


def ingest_only(folder: Path, name: str) -> None:
    arguments = [f"input={folder / name}", f"out={folder / 'out'}", "ingest.shard_size=2"]
    run_request(parse_request(["stages=[ingest]", "engine=inline", *arguments]), Silent())


def test_rows_that_repeat_a_url_and_caption_go_with_it(tmp_path: Path) -> None:
    lines = ["url,caption", "ftp://a.test/1.png,mine"]
    lines += ["ftp://a.test/2.png,mine", "ftp://a.test/1.png,other", "ftp://a.test/1.png,mine"]
    (tmp_path / "urls.csv").write_text("\n".join([*lines, ",mine", ",mine"]) + "\n")
    ingest_only(tmp_path, "urls.csv")
    before = sorted(rows(tmp_path, "ingest").values(), key=lambda row: row["row"])
    take_down(tmp_path, "keys", before[3]["key"])
    take_down(tmp_path, "keys", before[4]["key"])  # a row without a URL repeats none
    after = sorted(rows(tmp_path, "ingest").values(), key=lambda row: row["row"])
    assert [row["row"] for row in after if row["status"] == "taken_down"] == [0, 3, 4]
    assert [row["url"] for row in after[1:3]] == ["ftp://a.test/2.png", "ftp://a.test/1.png"]


@pytest.mark.parametrize("status", ["repeated_row", "private_address"])
def test_a_link_goes_from_every_file_of_a_crawl(tmp_path: Path, status: str) -> None:
    image = "<img src=http://127.0.0.1/0.png alt=secret><img src=http://127.0.0.1/1.png alt=other>"
    (tmp_path / "crawl").mkdir()
    for name in "abc":
        page = make_warc([html(f"http://{name}.test/", image)])
        (tmp_path / "crawl" / f"{name}.warc.gz").write_bytes(page)
    ingest_only(tmp_path, "crawl")
    before = rows(tmp_path, "ingest")
    meant = {key: row for key, row in before.items() if row["caption"] == "secret"}
    take_down(tmp_path, "keys", next(k for k, row in meant.items() if row["status"] == status))
    after = rows(tmp_path, "ingest")
    assert {k for k, row in after.items() if row["status"] == "taken_down"} == meant.keys()
    assert len(meant) == 3 and {k for k in after if after[k]["caption"]} == before.keys() - meant
    for number in range(3):
        links = ShardSet(tmp_path / "out" / "ingest").table(f"_links-{number:05d}")
        assert set(links["caption"].to_pylist()) == {None, "other"}


def test_takedowns_add_up_in_one_shard_and_in_several(folder: Path) -> None:
    tables = [table["key"].to_pylist() for _, table in ShardSet(folder / "out/ingest").tables()]
    for key in (tables[0][0], tables[0][1], tables[1][0]):
        take_down(folder, "keys", key)
    statuses = [row["status"] for row in rows(folder, "ingest").values()]
    assert (statuses.count("taken_down"), statuses.count("ok")) == (3, 7)


@pytest.mark.parametrize(
    ("by", "line", "message"),
    [
        ("keys", "not-a-key", r"line 2 must be a key of 20 hex characters, got 'not-a-key'"),
        ("hashes", "abc", r"line 2 must be a sha256 of 64 hex characters, got 'abc'"),
        ("urls", "pictures", r"line 2 must be a URL, got 'pictures'"),
    ],
)
def test_a_line_of_another_kind_is_refused(folder: Path, by: Any, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        take_down(folder, by, line)


def test_a_file_that_names_no_sample_is_said(folder: Path) -> None:
    with pytest.raises(DataError, match=r"must name samples of .*, got none of 1 keys there"):
        take_down(folder, "keys", "0" * 20)


def test_damaged_tombstones_stop_the_run(folder: Path) -> None:
    take_down(folder, "keys", sorted(rows(folder, "ingest"))[0])
    (folder / "out" / "takedown" / "00000.parquet").write_bytes(b"PAR1 but not whole")
    with pytest.raises(StoreError, match="must be a readable list of tombstones"):
        run_request(parse_request(arguments(folder)), Silent())


def test_tombstones_hold_keys_only(folder: Path) -> None:
    key = sorted(rows(folder, "ingest"))[0]
    take_down(folder, "keys", key)
    found = read_tombstones(LocalStore(folder / "out" / "takedown"))
    assert found.keys == {key}
    assert found.digest("99999") == ""


def test_a_takedown_overwrites_no_earlier_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for number in range(3):
        assert add_tombstones(store, [(f"{number:020d}", "")], "keys") == f"{number:05d}.parquet"
    store.delete("00000.parquet")
    assert add_tombstones(store, [("a" * 20, "")], "keys") == "00003.parquet"
    assert read_tombstones(store).keys == {f"{1:020d}", f"{2:020d}", "a" * 20}

"""WebDataset tars keep keys, fields, bytes and further members; odd samples become rows."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from webdataset.compat import WebDataset

from curate.core.shard import ShardSet
from curate.sources.config import IngestConfig
from curate.sources.table import make_source
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent
from tests.sources.tar_files import Entry, pack, read_all, read_entries, write_tar

# webdataset leaves closing the file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_original_bytes_and_captions_pass_through(tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar")
    samples = read_all(tmp_path)
    assert [(s.source, s.data, s.caption) for s in samples] == [
        ("00000.tar/a/1", b"one", "a red circle"),
        ("00000.tar/a/2", b"two", "blue"),
        ("00000.tar/a/3", None, "no picture"),
        ("00000.tar/a/4", b"four", ""),
    ]
    assert [s.status for s in samples] == ["ok", "ok", "no_picture", "ok"]
    assert [s.source_key for s in samples] == ["a/1", "a/2", "a/3", "a/4"]
    assert samples[1].url == "u" and samples[1].fields == {"caption": "blue", "url": "u"}
    assert samples[3].members == {"source.json": b"[broken"}
    assert len({s.key for s in samples}) == 4


def test_one_tar_becomes_one_task(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name)
    tasks = make_source(IngestConfig(source=str(tmp_path))).plan()
    assert [(task.shard, task.params["tar"]) for task in tasks] == [
        ("00000", "a.tar"),
        ("00001", "b.tar"),
    ]


def test_chosen_rows_alone_are_read(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    source = make_source(IngestConfig(source=str(tmp_path)))
    (task,) = source.plan()
    assert [s.source_key for s in source.read(task, tmp_path, {1, 3})] == ["a/2", "a/4"]


WELL_FORMED: list[Entry] = [
    ("d/0.jpg", b"p0"), ("d/0.txt", b"zero"), ("d/0.json", b'{"a": [1, null]}'),
    ("d/1.PNG", b"p1"), ("d/1.TXT", b"one"), ("d/1.seg.png", b"mask"), ("d/1.cls", b"7"),
    ("./2.webp", b"p2"), ("./2.pyd", b"\x80\x04."), ("./2.emb.npy", b"\x93NUMPY"),
    ("x" * 120 + "/3.jpg", b"p3"), ("x" * 120 + "/3.txt", b"long name"),
    ("v1.0/4.jpg", b"p4"), ("v1.0/4.txt", b"dots in the folder"),
    ("\u65e5/5.jpg", b""), ("\u65e5/5.txt", b""),
    ("__meta__/6.jpg", b"skipped"), ("noext", b"skipped"), ("__x__", b"skipped"),
]  # fmt: skip


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_well_formed_tars_give_what_webdataset_gives(tmp_path: Path, format_: int) -> None:
    path = pack(tmp_path / "a.tar", WELL_FORMED, format_)
    expected = list(WebDataset(str(path), shardshuffle=False, empty_check=False))
    samples = read_all(path)
    assert [s.source_key for s in samples] == [s["__key__"] for s in expected]
    for ours, theirs in zip(samples, expected, strict=True):
        members = {k: v for k, v in theirs.items() if not k.startswith("__")}
        picture = next(ext for ext in ("jpg", "png", "webp") if ext in members)
        assert ours.data == members.pop(picture)
        assert ours.caption == members.pop("txt", b"").decode()
        assert ours.fields == json.loads(members.pop("json", b"{}"))
        assert ours.members == members


def test_scattered_members_are_one_sample(tmp_path: Path) -> None:
    entries = [(f"{i}.jpg", b"p%d" % i) for i in range(50)]
    entries += [(f"{i}.txt", b"t%d" % i) for i in reversed(range(50))]
    samples = read_entries(tmp_path, entries)
    assert [(s.source_key, s.data, s.caption) for s in samples] == [
        (str(i), b"p%d" % i, f"t{i}") for i in range(50)
    ]
    assert {s.status for s in samples} == {"ok"}


def test_repeated_members_are_rows_and_the_first_ones_are_kept(tmp_path: Path) -> None:
    samples = read_entries(
        tmp_path,
        [
            ("a.jpg", b"1"), ("a.txt", b"first"), ("b.jpg", b"b"),
            ("a.jpg", b"2"), ("a.txt", b"second"), ("a.JPG", b"3"), ("a.cls", b"0"),
        ],
    )  # fmt: skip
    assert [(s.source_key, s.status, s.data, s.caption) for s in samples] == [
        ("a", "ok", b"1", "first"),
        ("b", "ok", b"b", ""),
        ("a", "repeated_member", None, "second"),
        ("a", "repeated_member", None, ""),
    ]
    assert samples[0].members == {"cls": b"0"}
    assert samples[2].error == "a has jpg, txt again; the first ones are kept"
    assert len({s.key for s in samples}) == 4


@pytest.mark.parametrize(
    ("members", "picture"),
    [
        ({"png": b"p", "jpg": b"j", "webp": b"w"}, b"j"),
        ({"left.png": b"l", "png": b"p", "txt": b"t"}, b"p"),
        ({"json": b"{}", "right.png": b"r", "left.jpg": b"l"}, b"r"),
        ({"jpeg": b"", "png": b"p"}, b"p"),
    ],
)
def test_one_of_several_pictures_is_chosen_by_rule(
    tmp_path: Path, members: Mapping[str, bytes], picture: bytes
) -> None:
    (sample,) = read_entries(tmp_path, [(f"a.{ext}", data) for ext, data in members.items()])
    if "jpeg" in members:
        assert sample.data == b""  # the first by rule, though it is empty
    else:
        assert sample.data == picture
    others = [v for k, v in members.items() if k not in ("txt", "json") and v != sample.data]
    assert list(sample.members.values()) == others


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_pass_as_bytes(tmp_path: Path) -> None:
    data = pickle.dumps(Trap())
    exts = ("pyd", "pkl", "pickle", "pth", "pt", "npy", "cbor")
    (sample,) = read_entries(tmp_path, [("a.jpg", b"x"), *((f"a.{ext}", data) for ext in exts)])
    assert sample.members == dict.fromkeys(exts, data)


@pytest.mark.parametrize(
    "text",
    [
        b"[1, 2]", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff\xfe", b"7", b"null",
        b'{"a":' * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b'{"a":' * 101 + b"1" + b"}" * 101,
    ],
)  # fmt: skip
def test_json_that_is_no_plain_object_stays_as_it_is(tmp_path: Path, text: bytes) -> None:
    (sample,) = read_entries(tmp_path, [("a.jpg", b"x"), ("a.json", text)])
    assert (sample.status, sample.fields) == ("ok", {})
    assert sample.members == {"source.json": text}


def test_text_that_is_no_utf8_stays_as_it_is(tmp_path: Path) -> None:
    (sample,) = read_entries(tmp_path, [("a.jpg", b"x"), ("a.txt", "caf\u00e9".encode("latin-1"))])
    assert sample.caption == "caf\ufffd"
    assert sample.members == {"source.txt": b"caf\xe9"}


def test_extensions_that_no_header_holds_get_names_that_it_does(tmp_path: Path) -> None:
    names = ["a.t\u00efff", "a.with space", "a." + "x" * 90, "a.x" + "y" * 89]
    (sample,) = read_entries(tmp_path, [("a.jpg", b"x"), *((name, b"m") for name in names)])
    assert len(sample.members) == 4
    assert all(len(ext) <= 60 and ext.isascii() and " " not in ext for ext in sample.members)


def picture(color: tuple[int, int, int], format_: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (48, 40), color).save(stream, format_)
    return stream.getvalue()


@pytest.fixture
def ingested(tmp_path: Path) -> Iterator[tuple[list[Entry], Path]]:
    """Run the command line over a folder of two tars."""
    png, jpeg, other = (
        picture((9, 0, 0), "PNG"),
        picture((0, 99, 0), "JPEG"),
        picture((1, 2, 3), "PNG"),
    )
    folder = tmp_path / "tars"
    folder.mkdir()
    first: list[Entry] = [
        ("d/1.JPG", jpeg), ("d/1.txt", b"a green card"), ("d/1.json", b'{"uid": "u1", "n": [1]}'),
        ("d/1.cls", b"3"), ("d/1.seg.png", other), ("d/1.pyd", pickle.dumps(Trap())),
        ("d/2.jpg", png), ("d/2.png", other), ("d/2.json", b"[broken"),
        ("d/3.txt", b"no picture"), ("d/4.jpg", b"no image"), ("d/1.txt", b"again"),
    ]  # fmt: skip
    pack(folder / "a.tar", first)
    pack(folder / "b.tar", [("d/1.png", png)])
    line = ["stage=ingest", f"input={folder}", f"out={tmp_path / 'out'}", "engine=inline"]
    (report,) = run_request(parse_request(line), Silent())
    assert (report.quarantined, report.counts["in"], report.counts["kept"]) == ({}, 6, 3)
    yield first, tmp_path / "out/ingest"


def test_a_folder_of_tars_is_ingested_whole(ingested: tuple[list[Entry], Path]) -> None:
    entries, out = ingested
    given = {str(entry[0]): entry[1] for entry in reversed(entries) if isinstance(entry, tuple)}
    shards = ShardSet(out)
    rows = {r["source"]: r for _, t in shards.tables() for r in t.to_pylist()}
    assert {source: row["status"] for source, row in rows.items() if source != "a.tar/d/1"} == {
        "a.tar/d/2": "ok", "a.tar/d/3": "no_picture", "a.tar/d/4": "not_image", "b.tar/d/1": "ok",
    }  # fmt: skip
    assert sorted(r["status"] for r in shards.table("00000").to_pylist()) == [
        "no_picture", "not_image", "ok", "ok", "repeated_member",
    ]  # fmt: skip
    again = list(WebDataset(str(out / "00000.tar"), shardshuffle=False, empty_check=False))
    one, two = again
    meta = json.loads(one.pop("json"))
    assert (meta["uid"], meta["n"], meta["source_key"]) == ("u1", [1], "d/1")
    assert {k: v for k, v in one.items() if not k.startswith("__")} == {
        "jpg": given["d/1.JPG"], "txt": b"a green card", "cls": b"3",
        "seg.png": given["d/1.seg.png"], "pyd": given["d/1.pyd"],
    }  # fmt: skip
    # The second sample's jpg is a PNG; the other PNG that it came with keeps its bytes, too.
    assert two["png"] == given["d/2.jpg"] and two["source.png"] == given["d/2.png"]
    assert two["source.json"] == b"[broken"


def test_our_own_tars_can_be_read_again(ingested: tuple[list[Entry], Path], tmp_path: Path) -> None:
    samples = [s for s in read_all(tmp_path / "out/ingest") if s.data]
    keys = [r["key"] for _, t in ShardSet(tmp_path / "out/ingest").tables() for r in t.to_pylist()]
    assert [s.source_key for s in samples] == [
        key for key in keys if key in {s.source_key for s in samples}
    ]
    assert samples[0].members.keys() == {"cls", "seg.png", "pyd"}
    assert samples[0].fields["uid"] == "u1" and samples[0].caption == "a green card"

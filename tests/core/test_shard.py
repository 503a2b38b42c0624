"""Shards round-trip, refuse what breaks their rules, and are byte-deterministic."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.errors import ShardError
from curate.core.manifest import Identity
from curate.core.schema import make_key
from curate.core.shard import ShardSet, ShardWriter, read_members
from curate.core.store import open_store

SCHEMA = pa.schema([("key", pa.string()), ("status", pa.string()), ("size", pa.int64())])


def write_shard(folder: Path, names: list[str]) -> dict[str, tuple[int, int]]:
    folder.mkdir(exist_ok=True)
    positions: dict[str, tuple[int, int]] = {}
    with ShardWriter(folder, "00000", SCHEMA, with_tar=True) as writer:
        for name in names:
            key = make_key(name)
            row = {"key": key, "status": "ok", "size": len(name)}
            positions |= {key: writer.write(row, {"txt": name.encode()})["txt"]}
        writer.write({"key": make_key("lost"), "status": "http_404"})
    return positions


def test_members_and_rows_come_back_in_order(tmp_path: Path) -> None:
    write_shard(tmp_path, ["b", "a", "c"])
    assert [members["txt"] for _, members in read_members(tmp_path / "00000.tar")] == [
        b"b",
        b"a",
        b"c",
    ]
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "00000.parquet")
    assert table["status"].to_pylist() == ["ok", "ok", "ok", "http_404"]
    assert table["size"].to_pylist() == [1, 1, 1, None]


def test_offsets_point_at_the_payload(tmp_path: Path) -> None:
    positions = write_shard(tmp_path, ["some text"])
    offset, size = positions[make_key("some text")]
    assert (tmp_path / "00000.tar").read_bytes()[offset : offset + size] == b"some text"
    assert offset % tarfile.BLOCKSIZE == 0


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    digests: list[tuple[str, str]] = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_shard(folder, ["x", "y"])
        digests.append(
            tuple(  # type: ignore[arg-type]
                hashlib.sha256((folder / f"00000.{ext}").read_bytes()).hexdigest()
                for ext in ("tar", "parquet")
            )
        )
    assert digests[0] == digests[1]


# webdataset leaves closing the file to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stock_tar_and_webdataset_readers_open_our_tars(tmp_path: Path) -> None:
    write_shard(tmp_path, ["hello", "world"])
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert [member.mtime for member in tar] == [0, 0]
    from webdataset.compat import WebDataset

    stream = WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False)
    assert [sample["txt"] for sample in stream] == [b"hello", b"world"]


def test_a_cut_tar_is_a_shard_error(tmp_path: Path) -> None:
    write_shard(tmp_path, ["hello" * 500, "world"])
    path = tmp_path / "00000.tar"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ShardError, match="whole tar"):
        list(read_members(path))


@pytest.mark.parametrize(
    "row",
    [
        {"key": "a.b", "status": "ok"},
        {"key": "0" * 19, "status": "ok"},
        {"key": make_key("x"), "status": ""},
        {"status": "ok"},
    ],
)
def test_rows_without_proper_key_or_status_are_refused(tmp_path: Path, row: dict[str, str]) -> None:
    writer = ShardWriter(tmp_path, "00000", SCHEMA, with_tar=False)
    with pytest.raises(ShardError, match="20 hex"):
        writer.write(row)


def test_a_key_may_come_once(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "00000", SCHEMA, with_tar=False)
    writer.write({"key": make_key("x"), "status": "ok"})
    with pytest.raises(ShardError, match="twice"):
        writer.write({"key": make_key("x"), "status": "ok"})


@pytest.mark.parametrize("ext", ["JPG", "a/b"])
def test_member_names_are_lower_case_and_flat(tmp_path: Path, ext: str) -> None:
    with (
        ShardWriter(tmp_path, "00000", SCHEMA, with_tar=True) as writer,
        pytest.raises(ShardError, match="lower-case"),
    ):
        writer.write({"key": make_key("x"), "status": "ok"}, {ext: b""})


def test_a_table_of_many_rows_is_written_as_row_by_row(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows = [{"key": make_key(str(n)), "status": "ok", "size": n} for n in range(5)]
    for name in ("rows", "table"):
        (tmp_path / name).mkdir()
        with ShardWriter(tmp_path / name, "00000", SCHEMA, with_tar=False) as writer:
            if name == "rows":
                for row in rows:
                    writer.write(row)
            else:
                writer.write_table(pa.Table.from_pylist(rows[:2], SCHEMA))
                writer.write_table(pa.Table.from_pylist(rows[2:], SCHEMA))
    one, other = (pq.read_table(tmp_path / name / "00000.parquet") for name in ("rows", "table"))
    assert one.equals(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"key": "a.b"}, "20 hex"), ({"status": ""}, "20 hex"), ({"key": make_key("0")}, "twice")],
)
def test_a_table_with_a_bad_row_is_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    rows = [{"key": make_key(str(n)), "status": "ok", "size": n} for n in range(3)]
    writer = ShardWriter(tmp_path, "00000", SCHEMA, with_tar=False)
    with pytest.raises(ShardError, match=message):
        writer.write_table(pa.Table.from_pylist([*rows[:2], rows[2] | change], SCHEMA))


def test_the_table_of_a_tar_tells_where_each_member_lies_and_its_digest(tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    import xxhash

    with ShardWriter(tmp_path, "00000", SCHEMA, with_tar=True) as writer:
        row = {"key": make_key("a"), "status": "ok"}
        writer.write(row, {"txt": b"some text", "alt.npy": b"x" * 600})
        writer.write({"key": make_key("b"), "status": "http_404"})
    first, second = pq.read_table(tmp_path / "00000.parquet")["members"].to_pylist()
    data = (tmp_path / "00000.tar").read_bytes()
    assert [member["ext"] for member in first] == ["txt", "alt.npy"]
    for member, payload in zip(first, (b"some text", b"x" * 600), strict=True):
        assert data[member["offset"] : member["offset"] + member["bytes"]] == payload
        assert member["xxh3"] == xxhash.xxh3_64_intdigest(payload)
    assert second == []


@pytest.mark.parametrize("remote", [False, True])
def test_all_files_of_a_shard_lie_in_one_local_folder(tmp_path: Path, remote: bool) -> None:
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "train.json").write_text("card")
    (out / "model" / "weights").write_text("weights")
    place = f"memory://test_shard/{tmp_path.name}" if remote else str(tmp_path / "train")
    store = open_store(place)
    identity = Identity(
        stage="train", version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(out, Output(store=store), "00000", identity, {})
    folder = ShardSet(store).local_folder("00000")
    assert (folder / "train.json").read_text() == "card"
    assert (folder / "model" / "weights").read_text() == "weights"

"""A tar's headers give its samples; odd names and entries are refused, damage is one line."""

from __future__ import annotations

import contextlib
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext as hf_base_plus_ext
from webdataset.compat import WebDataset
from webdataset.tariterators import base_plus_ext

from curate.core.errors import ConfigError, DataError
from curate.core.tar_index import index_tar, split_name
from curate.sources.config import IngestConfig
from curate.sources.table import make_source
from tests.sources.tar_files import entry_of, pack, read_all, read_entries, write_tar

# webdataset leaves closing the file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "d/a.seg.png",
        "v1.0/a.jpg",
        "v1.0/b.c/a.x.y",
        "./a.JPG",
        "a b.c d",
        "noext",
        "d.e/f",
    ],
)
def test_names_are_cut_as_webdataset_and_hugging_face_do(name: str) -> None:
    key, ext = base_plus_ext(name)
    assert hf_base_plus_ext(name) == (key, ext)
    assert split_name(name) == ((key, ext.lower()) if key else None)


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ("auto", ["img_1.5x", "img_1.6x", "shot.2024.01", "a", "b", "c"]),
        ("first_dot", ["img_1", "shot", "a", "b", "c"]),
        ("last_dot", ["img_1.5x", "img_1.6x", "shot.2024.01", "a", "a.seg", "b", "b.rgb", "c"]),
    ],
)
def test_stems_with_dots_are_cut_by_a_rule(tmp_path: Path, rule: str, keys: list[str]) -> None:
    samples = read_entries(
        tmp_path,
        [
            ("img_1.5x.JPG", b"5"), ("img_1.5x.txt", b"five"),
            ("img_1.6x.jpg", b"6"), ("img_1.6x.txt", b"six"),
            ("shot.2024.01.png", b"s"),
            ("a.jpg", b"a"), ("a.seg.png", b"mask"),
            ("b.json", b'{"caption": "b"}'), ("b.rgb.jpg", b"b"),
            ("c.jpg", b"c"),
        ],
        tar_keys=rule,
    )  # fmt: skip
    assert [s.source_key for s in samples] == keys
    assert all(s.status == "ok" for s in samples if s.source_key not in ("b", "a.seg"))
    if rule == "auto":
        assert [(s.data, s.caption) for s in samples] == [
            (b"5", "five"), (b"6", "six"), (b"s", ""), (b"a", ""), (b"b", "b"), (b"c", ""),
        ]  # fmt: skip
        assert samples[3].members == {"seg.png": b"mask"}
    if rule == "first_dot":  # webdataset's sample: four members of one key
        assert samples[0].data == b"5"
        assert samples[0].members == {"5x.txt": b"five", "6x.jpg": b"6", "6x.txt": b"six"}


def test_an_unknown_rule_for_keys_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"ingest\.tar_keys: must be auto, first_dot or last_dot"):
        IngestConfig(tar_keys="second_dot")


def test_hidden_files_and_those_of_macos_are_no_members(tmp_path: Path) -> None:
    samples = read_entries(
        tmp_path,
        [
            ("._a.jpg", b"fork"), ("d/._a.jpg", b"fork"), ("__MACOSX/d/._a.jpg", b"fork"),
            ("__MACOSX/d/a.jpg", b"fork"), (".git/a.jpg", b"x"), ("d/.DS_Store", b"x"),
            ("d/a.jpg", b"picture"), ("d/end.", b"x"), entry_of("d/sub", tarfile.DIRTYPE),
        ],
    )  # fmt: skip
    assert [(s.source_key, s.data) for s in samples] == [("d/a", b"picture")]


def test_names_that_lead_outside_are_refused(tmp_path: Path) -> None:
    samples = read_entries(
        tmp_path, [("/etc/a.jpg", b"x"), ("../b.jpg", b"x"), ("d/../../c.jpg", b"x")]
    )
    assert [(s.status, s.data) for s in samples] == [("unsafe_name", None)] * 3


def test_links_and_devices_are_named_and_never_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    sparse = tarfile.TarInfo("e.jpg")
    sparse.type = tarfile.GNUTYPE_SPARSE
    samples = read_entries(
        tmp_path,
        [
            entry_of("a.jpg", tarfile.SYMTYPE, str(secret)),
            ("b.jpg", b"b"),
            entry_of("b.txt", tarfile.LNKTYPE, "b.jpg"),
            entry_of("c.jpg", tarfile.FIFOTYPE),
            entry_of("d.jpg", tarfile.CHRTYPE),
            sparse,
        ],
    )
    assert [(s.source_key, s.status, s.data) for s in samples] == [
        ("a", "no_picture", None), ("b", "ok", b"b"), ("c", "no_picture", None),
        ("d", "no_picture", None), ("e", "no_picture", None),
    ]  # fmt: skip
    assert samples[0].error == f"members: jpg (a link to {secret}, not read)"
    assert samples[1].error == "members: jpg, txt (a link to b.jpg, not read)"
    assert "a sparse file" in samples[4].error


def test_names_that_are_no_utf8_stay_apart(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("a@.jpg", b"1"), ("a%.jpg", b"2")], tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    for old, new in ((b"a@.jpg", b"a\xff.jpg"), (b"a%.jpg", b"a\xfe.jpg")):
        start = data.index(old)
        data[start : start + len(old)] = new
        block = bytearray(data[start : start + 512])
        block[148:156] = b" " * 8  # the checksum counts as spaces
        block[148:156] = b"%06o\0 " % sum(block)
        data[start : start + 512] = block
    path.write_bytes(bytes(data))
    assert [s.source_key for s in read_all(path)] == ["a\\xff", "a\\xfe"]


def test_a_cut_tar_is_a_data_error(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    whole = (tmp_path / "a.tar").read_bytes()
    for stop in (0, 100, 511, 512, 2200, 3072, len(whole) - 9000):
        (tmp_path / "a.tar").write_bytes(whole[:stop])
        with pytest.raises(DataError, match="whole WebDataset tar") as caught:
            read_all(tmp_path / "a.tar")
        assert "\n" not in str(caught.value)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("a.jpg", b"1"), ("b.jpg", b"2"), ("c.jpg", b"3")])
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 1
    path.write_bytes(bytes(data))
    with contextlib.suppress(tarfile.TarError):  # what is tested: others stop silently
        assert len(list(WebDataset(str(path), shardshuffle=False, empty_check=False))) == 1
    with pytest.raises(DataError, match="more data behind its end at byte 1024"):
        read_all(path)


def test_tars_joined_by_cat_are_not_read_as_the_first_alone(tmp_path: Path) -> None:
    one, two = (pack(tmp_path / f"{n}.tar", [(f"{n}.jpg", b"x")]).read_bytes() for n in "ab")
    (tmp_path / "b.tar").unlink()
    (tmp_path / "a.tar").write_bytes(one + two)
    with pytest.raises(DataError, match=r"more data behind its end.*tar -A"):
        read_all(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_a_compressed_tar_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / name, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(DataError, match=r"gunzip|must be a folder, a \.tar or one of"):
        read_all(tmp_path / name)


def test_a_file_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"not a tar " * 1000 + bytes(1024))
    with pytest.raises(DataError, match="whole WebDataset tar"):
        read_all(tmp_path / "a.tar")


def test_members_are_read_one_sample_at_a_time(tmp_path: Path) -> None:
    entries = [(f"{i}.{ext}", bytes([i]) * 1_000_000) for i in range(20) for ext in ("jpg", "bin")]
    path = pack(tmp_path / "a.tar", entries)
    tracemalloc.start()
    source = make_source(IngestConfig(source=str(path)))
    (task,) = source.plan()
    num_bytes = sum(len(sample.data or b"") for sample in source.read(task, tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_bytes == 20_000_000 and peak < 8_000_000


def test_the_index_is_small(tmp_path: Path) -> None:
    path = pack(
        tmp_path / "a.tar", [(f"{i:06d}.{ext}", b"") for i in range(1000) for ext in ("jpg", "txt")]
    )
    tracemalloc.start()
    samples = index_tar(path, "a.tar")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(samples) == 1000 and size < 2000 * 700

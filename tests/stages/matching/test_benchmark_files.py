"""Pictures of an evaluation set come from folders, lists, tars and tables; nothing is fetched."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.errors import DataError
from curate.stages.matching.benchmark_files import open_pictures


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), shade).save(stream, "PNG")
    return stream.getvalue()


def read(path: Path, size: int = 2) -> dict[str, bytes | None]:
    files = open_pictures("mine", str(path), size)
    return {item.name: item.data for part in files.plan() for item in files.read(part.params, path)}


def test_a_folder_gives_its_pictures_below_it_by_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.JPG", "deep/c.webp", ".hidden.png", "notes.txt", "a.txt"):
        (tmp_path / name).write_bytes(name.encode())
    found = read(tmp_path)
    assert found == {name: name.encode() for name in ("a.JPG", "b.png", "deep/c.webp")}
    parts = open_pictures("mine", str(tmp_path), 2).plan()
    assert [len(part.params["files"]) for part in parts] == [2, 1]


def test_a_list_gives_what_it_names_and_a_line_that_names_nothing_is_told(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(name.encode())
    path = tmp_path / "chosen.txt"
    path.write_text(f"# two of three\nb.png\n\n{tmp_path / 'a.png'}\n")
    assert read(path) == {"b.png": b"b.png", str(tmp_path / "a.png"): b"a.png"}
    path.write_text("b.png\nd.png\n")
    with pytest.raises(DataError, match=r"mine\.pictures: line 2 of .* got 'd\.png'"):
        read(path)
    (tmp_path / "notes.md").write_text("there, and no picture")
    path.write_text("\ufeffb.png\r\nnotes.md\r\n")
    with pytest.raises(DataError, match=r"mine\.pictures: line 2 of .* got 'notes\.md'"):
        read(path)
    path.write_bytes(b"b.png\n\xff.png\n")
    with pytest.raises(DataError, match=r"line 2 of .* must be UTF-8 text, got byte 0xff"):
        read(path)
    path.write_text("# none\n")
    with pytest.raises(DataError, match="must list pictures, got none"):
        read(path)


def test_tars_are_read_and_a_sample_without_picture_says_so(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in (("x.png", png(1)), ("x.txt", b"caption"), ("y.json", b"{}")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    files = open_pictures("mine", str(tmp_path), 10)
    items = [item for part in files.plan() for item in files.read(part.params, tmp_path)]
    assert [(item.name, item.data) for item in items] == [("0.tar/x", png(1)), ("0.tar/y", None)]
    assert items[1].error.startswith("no_picture")
    assert read(tmp_path / "0.tar") == {"0.tar/x": png(1), "0.tar/y": None}


def test_a_table_gives_the_pictures_in_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table({"image": [png(n) for n in range(3)], "caption": list("abc")}), path)
    assert read(path) == {f"set.parquet#{n}": png(n) for n in range(3)}


def test_a_table_of_urls_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table({"url": ["http://a.test/x.jpg"], "caption": ["x"]}), path)
    with pytest.raises(DataError, match=r"mine\.pictures: must hold pictures.*nothing is fetched"):
        open_pictures("mine", str(path), 10)


def test_a_file_of_another_kind_is_refused_under_the_name_of_the_field(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"^decontaminate\.benchmarks\.mine\.pictures: must be a"):
        open_pictures("mine", str(tmp_path / "set.zip"), 10)


def test_a_part_has_another_digest_when_one_of_its_files_changes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"1")
    before = [part.digest for part in open_pictures("mine", str(tmp_path), 2).plan()]
    (tmp_path / "c.png").write_bytes(b"22")
    after = [part.digest for part in open_pictures("mine", str(tmp_path), 2).plan()]
    assert before[0] == after[0] and before[1] != after[1]


def test_a_file_that_goes_between_plan_and_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    files = open_pictures("mine", str(tmp_path), 2)
    (part,) = files.plan()
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: must stay while the run reads it"):
        list(files.read(part.params, tmp_path))

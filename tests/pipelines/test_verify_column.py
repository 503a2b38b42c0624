"""A damaged column tar names the records that are no longer as they were written."""

from __future__ import annotations

from pathlib import Path

from curate.core.record_index import open_index
from curate.core.store import LocalStore
from pipelines.verify_column import damaged_records, describe_damage
from tests.core.latent_columns import keys, write_arrays, write_captions


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_whole_tars_have_no_damaged_record(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    write_captions(tmp_path / "text-main")
    for name in ("00000.tar", "text-main/00000.tar"):
        assert damaged_records(LocalStore(tmp_path), "00000", name) == []


def test_flipped_byte_names_the_sample(tmp_path: Path) -> None:
    tar = write_arrays(tmp_path)
    offsets = open_index(tmp_path / "00000.idx").arrays["moments.offset"]
    flip(tar, int(offsets[3]) + 7)
    assert damaged_records(LocalStore(tmp_path), "00000", "00000.tar") == [keys(5)[3]]
    said = describe_damage(LocalStore(tmp_path), "00000", "00000.tar")
    assert said == f"damaged records: {keys(5)[3]}"


def test_flipped_byte_of_a_caption_names_its_sample(tmp_path: Path) -> None:
    write_arrays(tmp_path, 9)
    tar = write_captions(tmp_path / "text-main", 9)
    index = open_index(tar.with_suffix(".idx"))
    row = 6
    at = int(index.arrays["base"][row]) + int(
        index.arrays["captions"]["pooled_at"][index.arrays["first"][row]]
    )
    flip(tar, at)
    found = damaged_records(LocalStore(tmp_path), "00000", "text-main/00000.tar")
    assert found == [keys(9)[6]]


def test_damage_outside_of_the_numbers_is_told_apart(tmp_path: Path) -> None:
    tar = write_arrays(tmp_path)
    flip(tar, 512 + 100)  # in the spaces that fill up the first .npy header
    said = describe_damage(LocalStore(tmp_path), "00000", "00000.tar")
    assert said.startswith(("no record is damaged", "its records cannot be told apart"))


def test_cut_tar_says_so(tmp_path: Path) -> None:
    tar = write_arrays(tmp_path)
    tar.write_bytes(tar.read_bytes()[:3000])
    said = describe_damage(LocalStore(tmp_path), "00000", "00000.tar")
    assert "must be a whole WebDataset tar" in said

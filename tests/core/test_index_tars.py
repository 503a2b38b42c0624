"""A lost index is made again byte for byte, and tars of other writers are indexed too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from webdataset.writer import TarWriter

from curate.core.errors import DataError, ShardError
from curate.core.index_tars import index_arrays, index_captions
from curate.core.record_index import open_index
from curate.core.schema import make_key
from tests.core.latent_columns import (
    captions_of,
    keys,
    moments,
    write_arrays,
    write_captions,
)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_lost_index_of_arrays_comes_back_byte_for_byte(tmp_path: Path) -> None:
    tar = write_arrays(tmp_path)
    path = tmp_path / "00000.idx"
    before = path.read_bytes()
    path.unlink()
    assert index_arrays(tar, {"bucket": "32x48"}, ["moments"]) == path
    assert path.read_bytes() == before


def test_lost_index_of_captions_comes_back_byte_for_byte(tmp_path: Path) -> None:
    tar = write_captions(tmp_path, 9)
    path = tmp_path / "00000.idx"
    before = path.read_bytes()
    path.unlink()
    index_captions(tar, {"encoder": "main"})
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if "partial" in one.name] == []


def test_tar_of_webdatasets_own_writer_is_indexed(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with TarWriter(str(path)) as writer:  # a float mtime, so PAX headers
        for name in ("cat", "dog"):
            writer.write({"__key__": name, "moments.npy": moments(name), "json": {"x": 1}})
    assert b"mtime" in path.read_bytes()
    index = open_index(index_arrays(path, {}, ["moments"]))
    data = path.read_bytes()
    for row, name in enumerate(("cat", "dog")):
        assert bytes(index.arrays["key"][row]).hex() == make_key("sample", name)
        at = int(index.arrays["moments.offset"][row])
        assert data[at : at + moments(name).nbytes] == moments(name).tobytes()


def test_captions_without_json_are_the_arrays_of_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    key = keys(1)[0]
    alt, detailed = captions_of(key, 0)
    with TarWriter(str(path), mtime=0) as writer:
        writer.write({"__key__": key, "alt.npy": npy(alt.tokens), "clip.npy": npy(detailed.tokens)})
    index = open_index(index_captions(path, {}))
    assert index.facts["sources"] == ["alt", "clip"]
    assert index.arrays["captions"]["num_tokens"].tolist() == [1, 7]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"latents.npy": npy(moments("a"))}, "must have the member moments.npy, got latents.npy"),
        ({"moments.npy": b"no array"}, "must be a plain .npy array"),
        ({"moments.npy": npy(np.asfortranarray(moments("a")))}, "must be in C order"),
        ({"moments.npy": npy(np.array([{}, {}], object))}, "must be a plain .npy array"),
    ],
)
def test_sample_without_a_plain_array_is_named(
    tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    path = tmp_path / "0.tar"
    with TarWriter(str(path), mtime=0) as writer:
        writer.write({"__key__": "a", **members})
    with pytest.raises(ShardError, match=message):
        index_arrays(path, {}, ["moments"])
    assert not (tmp_path / "0.idx").exists()


def test_mixed_shapes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with TarWriter(str(path), mtime=0) as writer:
        writer.write({"__key__": "a", "moments.npy": moments("a")})
        writer.write({"__key__": "b", "moments.npy": moments("b", (8, 6, 4))})
    with pytest.raises(ShardError, match="keep one bucket per shard"):
        index_arrays(path, {}, ["moments"])


def test_cut_tar_is_refused(tmp_path: Path) -> None:
    tar = write_arrays(tmp_path)
    tar.write_bytes(tar.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"00000\.tar: must be a whole WebDataset tar"):
        index_arrays(tar, {}, ["moments"])

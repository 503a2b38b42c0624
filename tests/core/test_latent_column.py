"""Columns are tars that webdataset reads, and their indexes point at the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from webdataset.compat import WebDataset

from curate.core.errors import ShardError
from curate.core.latent_column import (
    CAPTION,
    ArrayColumn,
    CaptionColumn,
    CaptionRecord,
)
from curate.core.record_index import RecordIndex, open_index
from tests.core.latent_columns import (
    DIM,
    SHAPE,
    caption,
    captions_of,
    keys,
    moments,
    write_arrays,
    write_captions,
)

# webdataset leaves closing the file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def read_tokens(tar: Path, index: RecordIndex, row: int) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Read a record's captions by the index alone, digest compared."""
    data = tar.read_bytes()
    first, last = index.arrays["first"][row : row + 2].tolist()
    base = int(index.arrays["base"][row])
    found: list[tuple[str, np.ndarray[Any, Any]]] = []
    for entry in index.arrays["captions"][first:last]:
        at, num_bytes = base + int(entry["tokens_at"]), int(entry["num_tokens"]) * DIM * 2
        tokens = data[at : at + num_bytes]
        pooled = data[base + int(entry["pooled_at"]) :][: 2 * 5]
        assert xxhash.xxh3_64_intdigest(tokens + pooled) == entry["xxh3"]
        source = index.facts["sources"][int(entry["source"])]
        found.append((source, np.frombuffer(tokens, "<f2").reshape(-1, DIM)))
    return found


def test_offsets_and_digests_are_of_the_numbers(tmp_path: Path) -> None:
    tar = write_arrays(tmp_path)
    index = open_index(tmp_path / "00000.idx")
    data = tar.read_bytes()
    assert [bytes(row).hex() for row in index.arrays["key"]] == keys(5)
    assert index.facts["members"]["moments"] == {"dtype": "<f2", "shape": list(SHAPE)}
    for key, at, digest in zip(
        keys(5), index.arrays["moments.offset"], index.arrays["moments.xxh3"], strict=True
    ):
        assert at % 64 == 0
        numbers = data[at : at + moments(key).nbytes]
        assert numbers == moments(key).tobytes()
        assert xxhash.xxh3_64_intdigest(numbers) == digest


def test_index_takes_26_bytes_a_record(tmp_path: Path) -> None:
    sizes: list[int] = []
    for count in (64, 128):
        write_arrays(tmp_path / str(count), count)
        sizes.append((tmp_path / str(count) / "00000.idx").stat().st_size)
    assert sizes[1] - sizes[0] == 64 * 26


def test_captions_are_found_by_the_index(tmp_path: Path) -> None:
    tar = write_captions(tmp_path)
    index = open_index(tmp_path / "00000.idx")
    for row, key in enumerate(keys(5)):
        stored = captions_of(key, row)
        found = read_tokens(tar, index, row)
        assert [source for source, _ in found] == [one.source for one in stored]
        for (_, tokens), one in zip(found, stored, strict=True):
            assert np.array_equal(tokens, one.tokens)


def test_caption_takes_20_bytes_of_index(tmp_path: Path) -> None:
    assert CAPTION.itemsize == 20


def test_webdataset_reads_a_text_column(tmp_path: Path) -> None:
    tar = write_captions(tmp_path)
    samples = list(WebDataset(str(tar), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == keys(5)
    for row, sample in enumerate(samples):
        stored = captions_of(sample["__key__"], row)
        said = sample["json"]["captions"]
        assert [one["source"] for one in said] == [one.source for one in stored]
        assert [one["tokens"] for one in said] == [len(one.tokens) for one in stored]
        for number, one in enumerate(stored):
            assert np.array_equal(sample[f"{one.source}.npy"], one.tokens)
            assert np.array_equal(sample["pooled.npy"][number], one.pooled)


def test_equal_captions_are_stored_once_if_shared(tmp_path: Path) -> None:
    def write(name: str, *, is_shared: bool) -> Path:
        column = CaptionColumn(tmp_path, name, {}, is_shared=is_shared)
        for key in keys(3):
            one = caption("any", "alt", 40, text="the same")
            column.add(key, [one])
        column.close()
        return tmp_path / f"{name}.tar"

    alone, shared = write("00000", is_shared=False), write("00001", is_shared=True)
    assert shared.stat().st_size < alone.stat().st_size
    index = open_index(tmp_path / "00001.idx")
    expected = caption("any", "alt", 40).tokens
    for row in range(3):
        ((_, tokens),) = read_tokens(shared, index, row)
        assert np.array_equal(tokens, expected)
    said = [
        s["json"]["captions"][0]["member"]
        for s in WebDataset(str(shared), shardshuffle=False).decode()
    ]
    assert said == [f"{keys(3)[0]}.alt.npy"] * 3


def test_captions_of_any_script_and_length_are_in_the_json(tmp_path: Path) -> None:
    texts = ["\u7d05\u3044\u5186", "\u05d0\u05d1", "", "x" * 100_000, 'quote " and \n line']
    column = CaptionColumn(tmp_path, "00000", {})
    for key, text in zip(keys(5), texts, strict=True):
        record = caption(key, "alt", 3)
        column.add(
            key,
            [
                CaptionRecord(
                    source="alt",
                    text=text,
                    tokens=record.tokens,
                    pooled=record.pooled,
                    num_truncated=1,
                )
            ],
        )
    column.close()
    read = WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False)
    assert [json.loads(s["json"])["captions"][0]["text"] for s in read] == texts


def test_encoder_without_pooled_vectors(tmp_path: Path) -> None:
    column = CaptionColumn(tmp_path, "00000", {})
    column.add(keys(1)[0], [caption("any", "alt", 4, pooled_dim=0)])
    column.close()
    (sample,) = WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False).decode()
    assert "pooled.npy" not in sample
    index = open_index(tmp_path / "00000.idx")
    assert index.arrays["captions"]["xxh3"][0] == xxhash.xxh3_64_intdigest(
        caption("any", "alt", 4).tokens.tobytes()
    )


def test_another_shape_in_a_shard_is_refused(tmp_path: Path) -> None:
    column = ArrayColumn(tmp_path, "00000", {})
    column.add(keys(2)[0], {"moments": moments("a")})
    with pytest.raises(ShardError, match="one bucket per shard"):
        column.add(keys(2)[1], {"moments": moments("b", (8, 6, 4))})


def test_caption_longer_than_the_index_can_say_is_refused(tmp_path: Path) -> None:
    column = CaptionColumn(tmp_path, "00000", {})
    long = caption("any", "alt", 65_535)
    column.add(keys(2)[0], [long])
    longer = caption("any", "alt", 65_536)
    with pytest.raises(ShardError, match="at most 65535 tokens, got 65536 in alt"):
        column.add(keys(2)[1], [longer])

"""Forms give one edge of two samples, and a sample without a miniature moves no other's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.core.shard import ShardSet
from curate.stages.duplicates.edges import Kind
from curate.stages.duplicates.forms import edges_of_forms, pack_forms, split_forms
from curate.stages.duplicates.miniatures import read_miniatures, write_miniatures
from curate.stages.duplicates.shuffle import fixed_bytes
from curate.stages.duplicates.windows import hash_windows


def test_of_several_forms_the_nearest_is_the_edge() -> None:
    forms = pack_forms(np.array([3, 8]), 16).reshape(2, 16)
    places = np.array([[forms[0, 0], forms[1, 5]], [forms[1, 0], forms[0, 2]], forms[:, 0]])
    pairs = split_forms(places, np.array([7, 2, 4], np.float32))
    assert pairs.plain.tolist() == [3, 8, 3]
    assert pairs.formed.tolist() == [8, 3, 8]
    assert pairs.form.tolist() == [5, 2, 0]
    edges = edges_of_forms(pairs, Kind.CROPPED).select(["left", "right", "kind", "distance"])
    assert edges.to_pylist() == [{"left": 3, "right": 8, "kind": Kind.CROPPED, "distance": 2.0}]


def test_a_sample_without_a_miniature_keeps_its_place(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    values = [drawn[0].tobytes(), None, drawn[2].tobytes(), drawn[3].tobytes()]
    column = pa.array(values, pa.binary(3072))
    with (tmp_path / "_group-000-00000.miniatures").open("wb") as stream:
        first = write_miniatures(column.slice(0, 1), 10, stream)
        last = write_miniatures(column.slice(1), 11, stream)
    entries = pa.concat_batches([first, last])
    assert entries["row"].to_pylist() == [10, 12, 13]
    hashes = fixed_bytes(entries["forms"]).view("<u8")
    assert (hashes == hash_windows(drawn[[0, 2, 3]])).all()
    groups = [("_group-000-00000", 10)]
    found = read_miniatures(ShardSet(tmp_path), groups, np.array([10, 12, 13]))
    assert (found == drawn[[0, 2, 3]]).all()

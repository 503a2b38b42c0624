"""Embeddings of at least the cosine join, whatever the cells and whenever shards come."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from benchmarks.dedup_inputs import Samples, cut_shards, draw_samples, open_inputs, write_inputs
from curate.core.attempt import Outcome
from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.engine_config import EngineConfig
from curate.core.errors import DataError, StageError
from curate.core.executor import InlineExecutor
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages.dedup import DedupConfig, DedupStage
from curate.stages.duplicates.chain_rules import nemo_removed, semdedup_removed

RULES = {"semdedup": semdedup_removed, "nemo": nemo_removed}
Found = dict[str, tuple[bool, str | None, str | None]]


class Listener:
    def __init__(self) -> None:
        self.ran: list[str] = []

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None:
        self.ran.append(outcome.shard)

    def finish(self) -> None: ...


def dedup(folder: Path, **config: Any) -> tuple[Found, list[str]]:
    """Run dedup over what is written: key -> keep, keeper, edge; and the tasks that ran."""
    folder.joinpath("dedup").mkdir(exist_ok=True)
    stage = DedupStage(
        DedupConfig(**{"semantic_min_cosine": 0.9, **config}),
        open_inputs(folder),
        {},
        seed=0,
        own=ShardSet(folder / "dedup"),
    )
    listener = Listener()
    executor = InlineExecutor(EngineConfig(name="inline", retry_pause_s=0))
    output = Output(store=LocalStore(folder / "dedup"))
    assert run_stage(stage, output, executor, listener).quarantined == {}
    rows = [
        row
        for path in sorted((folder / "dedup").glob("[0-9]*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    return {row["key"]: (row["keep"], row["keeper"], row["edge"]) for row in rows}, listener.ran


def crowd(num: int) -> tuple[Samples, NDArray[np.float16]]:
    """Draw samples whose embeddings come in pairs of all cosines from 0.7 on."""
    rng = make_rng(3, "semantic")
    samples = draw_samples(num, "semantic")
    samples.widths[:] = np.arange(num) + 100
    vectors = rng.standard_normal((num, 32))
    vectors[1::2] = vectors[::2] + vectors[1::2] * np.linspace(0, 1, num // 2)[:, None]
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return samples, set_embeddings(samples, vectors)


def set_embeddings(samples: Samples, vectors: NDArray[Any]) -> NDArray[np.float16]:
    embeddings = vectors.astype(np.float16)
    flat = pa.array(embeddings.reshape(-1), pa.float16())
    column = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    samples.more = {"clip.image_embedding": column}
    samples.facts = {"annotate.clip.digest": "abc"}
    return embeddings


def brute_force(samples: Samples, embeddings: NDArray[np.float16], least: float) -> Found:
    names = samples.names()
    found: Found = dict.fromkeys(names, (True, None, None))
    wide = embeddings.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1)[:, None]
    for a, b in combinations(range(len(names)), 2):
        if wide[a] @ wide[b] >= least:  # pairs only, and the later sample is the larger one
            found[names[a]] = (False, names[b], "semantic")
            found[names[b]] = (True, names[b], None)
    return found


@pytest.mark.parametrize(
    "config", [{}, {"semantic_cells": 8, "bin_entries": 200}, {"semantic_cells": 1}]
)
def test_pairs_are_those_of_comparing_all_with_all(tmp_path: Path, config: Any) -> None:
    samples, embeddings = crowd(200)
    write_inputs(tmp_path, samples, cut_shards(200, 4))
    expected = brute_force(samples, embeddings, 0.9)
    assert dedup(tmp_path, **config)[0] == expected
    assert 20 < sum(not keep for keep, _, _ in expected.values()) < 90


def test_added_shards_are_compared_by_tasks_of_their_own(tmp_path: Path) -> None:
    samples, embeddings = crowd(160)
    rows = make_rng(5, "semantic").permutation(160)
    shards = {f"{n:05d}": part for n, part in enumerate(np.array_split(rows, 4))}
    config = {"semantic_cells": 6, "bin_entries": 300}
    for number, name in enumerate(("00001", "00003", "00000", "00002")):
        write_inputs(tmp_path, samples, {name: shards[name]})
        found, ran = dedup(tmp_path, **config)
        compared = {task for task in ran if task.startswith(("_spread", "_semantic"))}
        assert {task.split("-")[1] for task in compared} == {f"{number:03d}"}
        assert ("_cells" in ran) == (number == 0)
    assert found == brute_force(samples, embeddings, 0.9)


def test_a_sample_without_an_embedding_joins_nothing(tmp_path: Path) -> None:
    samples, _ = crowd(6)
    column = samples.more["clip.image_embedding"]
    known = column.to_pylist()
    samples.more = {"clip.image_embedding": pa.array([None, *known[1:]], column.type)}
    write_inputs(tmp_path, samples, cut_shards(6, 1))
    assert dedup(tmp_path)[0][samples.names()[0]] == (True, None, None)


def test_no_embedding_at_all_makes_no_pairs(tmp_path: Path) -> None:
    samples, _ = crowd(6)
    kind = samples.more["clip.image_embedding"].type
    samples.more = {"clip.image_embedding": pa.nulls(6, kind)}
    write_inputs(tmp_path, samples, cut_shards(6, 2))
    assert {keep for keep, _, _ in dedup(tmp_path)[0].values()} == {True}


def test_embeddings_that_are_not_normalised_are_refused_with_their_shard(tmp_path: Path) -> None:
    samples, embeddings = crowd(8)
    embeddings[5] *= 2
    set_embeddings(samples, embeddings)
    write_inputs(tmp_path, samples, cut_shards(8, 2))
    with pytest.raises(DataError, match=r"clip\.image_embedding of shard 00001: .*norm of 1"):
        dedup(tmp_path)


def test_embeddings_of_another_model_are_refused(tmp_path: Path) -> None:
    samples, _ = crowd(8)
    shards = cut_shards(8, 2)
    write_inputs(tmp_path, samples, {"00000": shards["00000"]})
    dedup(tmp_path)
    samples.facts = {"annotate.clip.digest": "xyz"}
    write_inputs(tmp_path, samples, {"00001": shards["00001"]})
    with pytest.raises(StageError, match=r"alike, got annotate\.clip\.digest xyz in 00001"):
        dedup(tmp_path)


def test_embeddings_that_were_not_measured_are_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, draw_samples(4), cut_shards(4, 1))
    with pytest.raises(StageError, match=r"needs column clip\.image_embedding"):
        dedup(tmp_path)


@pytest.mark.parametrize("rule", ["semdedup", "nemo"])
def test_a_chain_rule_drops_what_it_drops_over_one_cell(tmp_path: Path, rule: str) -> None:
    samples, embeddings = crowd(60)
    samples.files[7] = samples.files[6]  # 7 is larger, so 6 is no part of the cell
    names = samples.names()
    write_inputs(tmp_path, samples, cut_shards(60, 3))
    found, _ = dedup(tmp_path, semantic_rule=rule, semantic_cells=1)
    order = [row for row in np.argsort(names).tolist() if row != 6]
    centroid = np.load(tmp_path / "dedup" / "_cells.npy")[0]
    removed = RULES[rule](embeddings[order], centroid, 0.9)
    goes = {names[row] for row, is_removed in zip(order, removed, strict=True) if is_removed}
    assert {key for key, (_, _, edge) in found.items() if edge == "semantic"} == goes
    assert found[names[6]] == (False, names[7], "exact")
    assert len(goes) > 5

"""Tasks on embeddings read what they must, start at their generation, and hold what they may."""

from __future__ import annotations

from typing import Any

import pytest

from curate.core.manifest import Task
from curate.stages.duplicates.cells import count_cells
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.generations import Generation
from curate.stages.duplicates.layout import Layout
from curate.stages.duplicates.semantic_layout import SemanticLayout

KEPT = {"a": 10_000, "b": 6_000, "c": 0, "d": 40_000}
INPUTS = {name: {"annotate": f"digest {name}"} for name in KEPT}
GENERATIONS = [
    Generation(number=0, shards=("a", "b")),
    Generation(number=1, shards=("c",)),
    Generation(number=2, shards=("d",)),
]


def plan(num: int = 3, **config: Any) -> SemanticLayout:
    given = DedupConfig(semantic_min_cosine=0.9, **config)
    return SemanticLayout(Layout(GENERATIONS[:num], KEPT, given), given, num_bytes=1536)


def compared(semantic: SemanticLayout) -> tuple[list[list[Task]], list[list[Task]]]:
    """Plan what spreads embeddings, and what compares them."""
    spread = semantic.spread_tasks(INPUTS, {"_cells": "c"})
    digests = {task.shard: f"digest {task.shard}" for tasks in spread for task in tasks}
    return spread, semantic.semantic_tasks(spread, digests)


def test_cells_are_those_of_the_first_generation() -> None:
    for num in (1, 2, 3):
        task = plan(num).cells_task(INPUTS)
        assert task.params == {"shards": ["a", "b"], "num_cells": count_cells(16_000)}
        assert task == plan(1).cells_task(INPUTS)
    assert plan(semantic_cells=17).cells_task(INPUTS).params["num_cells"] == 17
    assert plan(0).cells_task(INPUTS).params["shards"] == []


@pytest.mark.parametrize(
    ("sizes", "shards", "num_samples"),
    [
        ([1000, 15_000, 0], "a", 1000),  # 16 times as many are not yet too many
        ([1000, 15_001, 0], "ab", 16_001),
        ([1000, 15_001, 230_000], "ab", 16_001),
        ([1000, 15_001, 250_000], "abc", 266_001),
        ([0, 0, 5], "abc", 5),
        ([0, 7, 5], "ab", 7),
        ([0, 0, 0], "a", 0),
    ],
)
def test_cells_are_chosen_anew_when_the_set_has_grown_sixteenfold(
    sizes: list[int], shards: str, num_samples: int
) -> None:
    kept = dict(zip("abc", sizes, strict=True))
    given = DedupConfig(semantic_min_cosine=0.9)
    generations = [Generation(number=n, shards=(name,)) for n, name in enumerate(kept)]
    semantic = SemanticLayout(Layout(generations, kept, given), given, num_bytes=1536)
    params = semantic.cells_task(INPUTS).params
    assert params == {"shards": [*shards], "num_cells": count_cells(num_samples)}


def test_a_generation_is_compared_with_earlier_ones_from_its_first_row_on() -> None:
    spread, tasks = compared(plan())
    assert [task.params["first_row"] for some in spread for task in some] == [0, 16_000, 16_000]
    assert [some[0].params["fresh_from"] for some in tasks] == [0, 16_000, 16_000]
    names = [[task.shard for task in some] for some in spread]
    for number, some in enumerate(tasks):
        assert {task.params["bin"] for task in some} == set(range(some[0].params["bins"]))
        for task in some:
            assert task.params["names"] == [name for part in names[: number + 1] for name in part]


@pytest.mark.parametrize("num", [1, 2])
def test_what_is_planned_does_not_change_when_shards_come(num: int) -> None:
    for bin_entries in (20_000_000, 500_000):
        before, after = (compared(plan(n, bin_entries=bin_entries)) for n in (num, 3))
        for old, new in zip(before, after, strict=True):
            assert new[:num] == old


def test_a_bin_holds_as_many_bytes_as_it_may_and_a_cell_at_least() -> None:
    _, tasks = compared(plan(bin_entries=500_000))  # 37.5 MB, or 12,207 entries sorted
    assert [len(some) for some in tasks] == [4, 4, 16]  # of 48,000 and of 168,000 entries
    _, tasks = compared(plan(bin_entries=500_000, semantic_cells=5))
    assert [len(some) for some in tasks] == [4, 4, 4]
    _, tasks = compared(plan(bin_entries=500_000, semantic_nearest=1))
    assert [len(some) for some in tasks] == [2, 2, 8]


def test_shards_are_spread_together_as_long_as_their_embeddings_fit() -> None:
    for bin_entries, num_tasks in ((20_000_000, 1), (2_000_000, 1), (1_000_000, 2)):
        spread, _ = compared(plan(bin_entries=bin_entries))  # an embedding has 3 entries
        assert [len(some) for some in spread] == [num_tasks, 1, 1]


def test_a_chain_rule_reads_all_generations_in_bins_of_the_last() -> None:
    semantic = plan(semantic_rule="nemo", bin_entries=500_000)
    spread = semantic.spread_tasks(INPUTS, {"_cells": "c"})
    names = [task.shard for tasks in spread for task in tasks]
    tasks = semantic.chain_tasks(spread, {name: "x" for name in [*names, "_clusters"]})
    assert len(tasks) == 8
    assert [task.params for task in tasks] == [
        {"names": names, "bin": number, "bins": 8} for number in range(8)
    ]

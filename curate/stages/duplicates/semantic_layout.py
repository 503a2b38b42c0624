"""Cut the comparison of embeddings into tasks that hold no more bytes than `bin_entries` values.

first generations -> `_cells`; all shards -> `_spread-GGG-NNNNN` -> `_semantic-GGG-NNNNN`

Cells that were chosen for few samples do not fit many: one cell for 4,000 makes one task of all,
however many come. So when the set is 16 times as large as that which the cells are of, they are
chosen anew by all that is there, and all embeddings are compared once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.core.manifest import Task
from curate.stages.duplicates.cells import count_cells
from curate.stages.duplicates.chains import CHAIN
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.layout import Layout, cut_groups, sum_digests
from curate.stages.duplicates.semantic import CELLS, SEMANTIC, SPREAD
from curate.stages.duplicates.shuffle import count_bins

_VALUE_BYTES = 75  # of one of `bin_entries`, see DedupConfig
_MOST_GROWTH = 16
"""Derived by us from the cost in `count_cells`: with a quarter of the best number of cells it is
(4 + 1/4) / 2 = 2.1 times the least, and starting anew at every 16-fold costs 1/15 more in all."""


class SemanticLayout:
    """Lay out the tasks that compare embeddings.

    Args:
        layout: of all generations.
        config: dedup's.
        num_bytes: of an embedding.
    """

    def __init__(self, layout: Layout, config: DedupConfig, num_bytes: int) -> None:
        self._layout = layout
        self._nearest = config.num_nearest
        # Entries are held twice while they are sorted.
        self._most = max(1, config.bin_entries * _VALUE_BYTES // (2 * num_bytes))
        self._num_first = _count_first(layout.first_rows)
        num_samples = layout.first_rows[self._num_first]
        self.num_cells = config.semantic_cells or count_cells(num_samples, self._nearest)

    def cells_task(self, inputs: Mapping[str, Mapping[str, str]]) -> Task:
        """Plan the task that cuts the space of embeddings, by the first generations' samples."""
        first = self._layout.generations[: self._num_first]
        shards = [shard for generation in first for shard in generation.shards]
        return Task(
            shard=CELLS,
            inputs=sum_digests(inputs, shards),
            params={"shards": shards, "num_cells": self.num_cells},
        )

    def spread_tasks(
        self, inputs: Mapping[str, Mapping[str, str]], cells: Mapping[str, str]
    ) -> list[list[Task]]:
        """Plan for each generation the tasks that write embeddings to their cells.

        Args:
            inputs: digests of the shards.
            cells: digest of what the cells' task wrote.
        """
        layout, most = self._layout, max(1, self._most // self._nearest)
        return [
            [
                Task(
                    shard=group.name,
                    inputs={**sum_digests(inputs, group.shards), **cells},
                    params={
                        "shards": list(group.shards),
                        "first_row": group.first_row,
                        "bins": self._num_bins(generation.number),
                    },
                )
                for group in cut_groups(generation, first_row, layout.num_kept, most, SPREAD)
            ]
            for generation, first_row in zip(layout.generations, layout.first_rows, strict=False)
        ]

    def semantic_tasks(
        self, spread: Sequence[Sequence[Task]], digests: Mapping[str, str]
    ) -> list[list[Task]]:
        """Plan for each generation the tasks that compare embeddings, by bins of cells.

        Args:
            spread: tasks of the wave before, of each generation.
            digests: of what each of them wrote.
        """
        planned: list[list[Task]] = []
        for number in range(len(spread)):
            names = [task.shard for tasks in spread[: number + 1] for task in tasks]
            num_bins = self._num_bins(number)
            planned.append(
                [
                    Task(
                        shard=f"{SEMANTIC}{number:03d}-{part:05d}",
                        inputs=sum_digests(digests, names),
                        params={
                            "names": names,
                            "bin": part,
                            "bins": num_bins,
                            "fresh_from": self._layout.first_rows[number],
                        },
                    )
                    for part in range(num_bins)
                ]
            )
        return planned

    def chain_tasks(
        self, spread: Sequence[Sequence[Task]], digests: Mapping[str, str]
    ) -> list[Task]:
        """Plan the tasks that apply a chain rule, by bins of cells.

        Args:
            spread: tasks of that wave, of each generation.
            digests: of what each of them wrote, and of the clusters.
        """
        names = [task.shard for tasks in spread for task in tasks]
        num_bins = self._num_bins(len(spread) - 1)
        return [
            Task(
                shard=f"{CHAIN}{part:05d}",
                inputs=sum_digests(digests, list(digests)),
                params={"names": names, "bin": part, "bins": num_bins},
            )
            for part in range(num_bins)
        ]

    def _num_bins(self, number: int) -> int:
        """Give the number of bins that cells are put into: a power of two, a cell each at most."""
        entries = self._layout.first_rows[number + 1] * self._nearest
        most = 1 << (self.num_cells.bit_length() - 1)
        return min(count_bins(entries, self._most), most)


def _count_first(first_rows: Sequence[int]) -> int:
    """Give how many generations the cells are of: all, each time the set had grown 16-fold.

    Args:
        first_rows: of each generation, and the number of all samples.
    """
    first = min(1, len(first_rows) - 1)
    for number, total in enumerate(first_rows):
        if total > _MOST_GROWTH * first_rows[first]:
            first = number
    return first

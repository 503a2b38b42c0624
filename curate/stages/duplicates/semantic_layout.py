"""Cut the comparison of embeddings into tasks that hold no more bytes than `bin_entries` values.

first generation -> `_cells`; all shards -> `_spread-GGG-NNNNN` -> `_semantic-GGG-NNNNN`
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
        wanted = config.semantic_cells or count_cells(layout.num_hashes, self._nearest)
        self.num_cells = wanted

    def cells_task(self, inputs: Mapping[str, Mapping[str, str]]) -> Task:
        """Plan the task that cuts the space of embeddings, by the first generation's samples."""
        generations = self._layout.generations
        shards = generations[0].shards if generations else ()
        return Task(
            shard=CELLS,
            inputs=sum_digests(inputs, shards),
            params={"shards": list(shards), "num_cells": self.num_cells},
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

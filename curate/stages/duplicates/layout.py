"""Cut dedup's work into tasks that hold no more than `bin_entries` values each.

    generations, kept samples of each shard -> groups of consecutive shards     `_group-GGG-NNNNN`
                                            -> bins of equal values             `_same-GGG-NNNNN`
                                            -> bands and bins of near hashes    `_near-GGG-NNNNN`

What is planned for a generation depends on it and earlier ones alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.core.manifest import Task
from curate.stages.duplicates.dedup_config import OFF, DedupConfig
from curate.stages.duplicates.generations import Generation, digest_of
from curate.stages.duplicates.shuffle import count_bins
from curate.stages.duplicates.signals import (
    FORMED_SIGNALS,
    SIGNAL_BITS,
    count_forms,
    find_signal,
    radius_of,
)

GROUP, SAME, NEAR = "_group-", "_same-", "_near-"

# Memory of one sample in values of 75 bytes. Measured (benchmarks/dedup.py): up to 1.3 KB while a
# group is read, less in a bin of equal values; a PDQ hash has 40 bytes, held twice as the others.
_SAME_ENTRIES = 18
_HASH_ENTRIES = {"phash": 1, "pdq": 2, "window": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Name consecutive shards whose samples are numbered through.

    Args:
        name: of the helper shard.
        generation: it belongs to.
        shards: of the inputs.
        first_row: number of the first sample.
    """

    name: str
    generation: int
    shards: tuple[str, ...]
    first_row: int


class Layout:
    """Lay out the tasks of all generations.

    Args:
        generations: in order.
        num_kept: shard -> samples that filter kept.
        config: dedup's.
    """

    def __init__(
        self, generations: Sequence[Generation], num_kept: Mapping[str, int], config: DedupConfig
    ) -> None:
        self._config = config
        self.generations = generations
        self.num_kept = num_kept
        self.first_rows = [0]
        for generation in generations:
            total = sum(num_kept[shard] for shard in generation.shards)
            self.first_rows.append(self.first_rows[-1] + total)
        most = max(1, config.bin_entries // self._same_entries())
        self.groups = [
            group
            for generation, first_row in zip(generations, self.first_rows, strict=False)
            for group in cut_groups(generation, first_row, num_kept, most)
        ]

    def group_tasks(self, inputs: Mapping[str, Mapping[str, str]]) -> list[Task]:
        """Plan the tasks that collect facts and entries."""
        return [
            Task(
                shard=group.name,
                inputs={
                    f"{len(group.shards)} shards": digest_of([inputs[s] for s in group.shards])
                },
                params={
                    "shards": list(group.shards),
                    "first_row": group.first_row,
                    "bins": self._num_bins(group.generation),
                },
            )
            for group in self.groups
        ]

    def same_tasks(self, digests: Mapping[str, str]) -> list[list[Task]]:
        """Plan for each generation the tasks that find equal values.

        Args:
            digests: group -> digest of what it wrote.
        """
        return [
            [
                Task(
                    shard=f"{SAME}{number:03d}-{part:05d}",
                    inputs=sum_digests(digests, groups),
                    params={
                        "groups": groups,
                        "bin": part,
                        "bins": self._num_bins(number),
                        "fresh_from": self.first_rows[number],
                        "near_bins": {name: self._near_bins(name, number) for name in SIGNAL_BITS},
                        "num_hashes": self.num_hashes,
                    },
                )
                for part in range(self._num_bins(number))
            ]
            for number, groups in self._up_to([group.name for group in self.groups])
        ]

    def near_tasks(
        self, same: Sequence[Sequence[Task]], digests: Mapping[str, str]
    ) -> list[list[Task]]:
        """Plan for each generation the tasks that find near hashes.

        Args:
            same: tasks of the wave before, of each generation.
            digests: of what each of them and each group wrote.
        """
        planned: list[list[Task]] = []
        for number in range(len(self.generations)):
            old = [task.shard for tasks in same[:number] for task in tasks]
            names = old + [task.shard for task in same[number]]
            groups = [group for group in self.groups if group.generation <= number]
            read = [*names, *(group.name for group in groups if self._config.needs_miniatures)]
            inputs = sum_digests(digests, read)
            parts = [part for name in SIGNAL_BITS for part in self._near_parts(name, number)]
            planned.append(
                [
                    Task(
                        shard=f"{NEAR}{number:03d}-{place:05d}",
                        inputs=inputs,
                        params={
                            **part,
                            "names": names,
                            "num_old": len(old),
                            "groups": [(group.name, group.first_row) for group in groups],
                        },
                    )
                    for place, part in enumerate(parts)
                ]
            )
        return planned

    @property
    def num_hashes(self) -> int:
        """Give the number that bands are chosen for: the same in every generation."""
        return max(1, self.first_rows[1]) if self.generations else 1

    def _up_to(self, names: Sequence[str]) -> list[tuple[int, list[str]]]:
        """Give for each generation its groups and those of the earlier ones."""
        return [
            (
                generation.number,
                [
                    name
                    for name, group in zip(names, self.groups, strict=True)
                    if group.generation <= generation.number
                ],
            )
            for generation in self.generations
        ]

    def _near_parts(self, name: str, number: int) -> list[dict[str, Any]]:
        """Cut a signal's bands and bins: as many bands a task as it may hold entries."""
        num_bins = self._near_bins(name, number)
        num_bands = len(find_signal(self._config, name, num_bins, self.num_hashes).bands)
        held = max(1, self._near_entries(name, number) // num_bins)
        at_once = max(1, self._config.bin_entries // held)
        return [
            {
                "signal": name,
                "bands": [low, min(low + at_once, num_bands)],
                "bin": part,
                "bins": num_bins,
                "num_hashes": self.num_hashes,
            }
            for part in range(num_bins)
            for low in range(0, num_bands, at_once)
        ]

    def _num_bins(self, number: int) -> int:
        total = self.first_rows[number + 1] * self._same_entries()
        return count_bins(total, self._config.bin_entries)

    def _near_bins(self, name: str, number: int) -> int:
        return count_bins(self._near_entries(name, number), self._config.bin_entries)

    def _near_entries(self, name: str, number: int) -> int:
        return self.first_rows[number + 1] * _HASH_ENTRIES[name] * count_forms(self._config, name)

    def _same_entries(self) -> int:
        return _SAME_ENTRIES + sum(
            _HASH_ENTRIES[name] * (1 + count_forms(self._config, name))
            for name in FORMED_SIGNALS
            if radius_of(self._config, name) != OFF
        )


def cut_groups(
    generation: Generation,
    first_row: int,
    num_kept: Mapping[str, int],
    most: int,
    prefix: str = GROUP,
) -> list[Group]:
    """Cut a generation's shards into groups of at most `most` samples, or of one shard."""
    cuts: list[list[str]] = []
    held = 0
    for shard in generation.shards:
        if not cuts or held + num_kept[shard] > most:
            cuts.append([])
            held = 0
        cuts[-1].append(shard)
        held += num_kept[shard]
    groups: list[Group] = []
    for place, shards in enumerate(cuts):
        name = f"{prefix}{generation.number:03d}-{place:05d}"
        groups.append(
            Group(
                name=name,
                generation=generation.number,
                shards=tuple(shards),
                first_row=first_row,
            )
        )
        first_row += sum(num_kept[shard] for shard in shards)
    return groups


def sum_digests(digests: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Give one digest for many shards, named after the first."""
    first = names[0] if names else "none"
    return {f"{first} and {len(names) - 1} more": digest_of([digests[name] for name in names])}

"""Compare new shards with old ones without comparing the old ones again.

A generation is a list of shards that came together. Its tasks compare its samples with each other
and with those of earlier generations, never earlier ones among themselves, and read nothing that a
later generation writes; so they stay done when shards are added. The lists are helper shards:
`_generation-0000` names the shards of the first run and the digest of each.

    shards of the inputs -> generations whose shards are all as they were, in order
                         -> everything else is the next generation

A shard that changed or vanished makes its own generation and all later ones anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.core.manifest import Task, find_marker
from curate.core.stage import Stage, identify

GENERATION = "_generation-"
MOST_GENERATIONS = 64
"""Then all start anew as one: every task opens the files of all. Chosen by us: two months of
additions, one a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Name the shards that came together.

    Args:
        number: 0 is the first.
        shards: sorted.
    """

    number: int
    shards: tuple[str, ...]

    @property
    def name(self) -> str:
        """Give the name of its helper shard."""
        return f"{GENERATION}{self.number:04d}"


def plan_generations(
    stage: Stage[Any], inputs: Mapping[str, Mapping[str, str]]
) -> list[tuple[Generation, Task]]:
    """Give the generations and the tasks that write them down.

    Args:
        stage: whose own shard set holds the earlier ones; they count only if made with its config.
        inputs: shard -> file -> sha256, of all shards.
    """
    known = _find_known(stage, inputs)
    old = {shard for generation, _ in known for shard in generation.shards}
    new = sorted(inputs.keys() - old)
    if not new:
        return known
    if len(known) >= MOST_GENERATIONS:
        known, new = [], sorted(inputs)
    generation = Generation(number=len(known), shards=tuple(new))
    return [*known, (generation, _task(generation, inputs))]


def _find_known(
    stage: Stage[Any], inputs: Mapping[str, Mapping[str, str]]
) -> list[tuple[Generation, Task]]:
    """Find the generations from 0 on whose shards are as they were.

    One that was made anew took up the shards of all later ones. These are removed when the stage
    ends, so after a run that was cut short they are still there and name shards a second time.
    """
    found: list[tuple[Generation, Task]] = []
    left = set(inputs)
    while True:
        generation = Generation(number=len(found), shards=())
        marker = find_marker(stage.own.store, generation.name)
        shards = marker.identity.params.get("shards", []) if marker else []
        if marker is None or not left.issuperset(shards):
            return found
        generation = Generation(number=len(found), shards=tuple(shards))
        task = _task(generation, inputs)
        if next(identify(stage, [task])).fingerprint != marker.fingerprint:
            return found
        found.append((generation, task))
        left.difference_update(shards)


def _task(generation: Generation, inputs: Mapping[str, Mapping[str, str]]) -> Task:
    shards = generation.shards
    digest = digest_of([inputs[shard] for shard in shards])
    return Task(
        shard=generation.name,
        inputs={f"{len(shards)} shards": digest},
        params={"shards": list(shards)},
    )


def digest_of(parts: Sequence[Any]) -> str:
    """Give one sha256 for many plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

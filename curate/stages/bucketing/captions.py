"""Collect the captions of a shard's samples that may be trained on: alt text, judged, alternates.

judge: accepted attempts; without it the alternates that dedup kept  -> key -> captions
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.core.schema import KEY, OK, STATUS, VERDICTS
from curate.core.shard import ShardSet
from curate.stages.matching.hits import ALTERNATES
from curate.stages.recaptioning.rows import ALT, ALTERNATE

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

JUDGE = "judge"


@dataclass(slots=True, kw_only=True)
class Captions:
    """Hold the captions of one sample; every source stands once.

    A second caption of one source (several were asked for) is called SOURCE_2, and so on: members
    and columns of later stages are named by it.
    """

    entries: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def add(self, source: str, text: str, attempt: str) -> None:
        """Append a caption under its source's name, or the next free one."""
        taken = {entry["source"] for entry in self.entries}
        names = (source if n == 1 else f"{source}_{n}" for n in range(1, len(taken) + 2))
        name = next(name for name in names if name not in taken)
        self.entries.append({"source": name, "text": text, "attempt": attempt})


def read_captions(
    inputs: Mapping[str, ShardSet], shard: str, alts: Mapping[str, str]
) -> dict[str, Captions]:
    """Collect the captions of some samples.

    Args:
        inputs: may have `judge`; has the verdicts, and their alternates where dedup kept them.
        shard: of ingest.
        alts: key -> the caption it came with, "" for none; of the samples that are wanted.

    Returns:
        Captions by key; the first is always that of `alts`, the others in the order of the table.
    """
    found = {key: Captions() for key in alts}
    for key, text in alts.items():
        found[key].add(ALT, text, "")
    for key, source, text, attempt in _others(inputs, shard):
        if key in found:
            found[key].add(source, text, attempt)
    return found


def _others(inputs: Mapping[str, ShardSet], shard: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield (key, source, text, attempt) of all captions but the alt texts."""
    if JUDGE in inputs:
        table = inputs[JUDGE].table(shard, [KEY, STATUS, "source", "text", "attempt"])
        yield from _rows(table.filter(pc.equal(table[STATUS], OK)).drop_columns([STATUS]))
    elif ALTERNATES in inputs[VERDICTS].schema(shard).names:
        table = inputs[VERDICTS].table(shard, [KEY, ALTERNATES])
        for key, texts in _rows(table):
            for number, text in enumerate(texts or (), start=1):
                yield key, f"{ALTERNATE}{number}", text, ""


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)

"""Sum up which items of an evaluation set the samples meet, so that they can be left out of it.

all verdicts -> hits on one benchmark -> a row for each of its items, and a summary by kind
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curate.core.schema import OK, make_key
from curate.stages.matching.benchmark_config import DROP, Actions
from curate.stages.matching.hits import KINDS, PROMPT_KINDS

ITEM_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # "unreadable", "no_words"
        ("item", pa.string()),
        ("is_prompt", pa.bool_()),
        ("is_met", pa.bool_()),
        ("samples", pa.int64()),  # that meet it
        ("dropped", pa.int64()),  # of these, by a kind whose action is drop
        ("kind", pa.string()),  # of the strongest evidence
        ("distance", pa.float32()),
        ("sample", pa.string()),  # key of the sample that gave it
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkItem:
    """Name an item of an evaluation set, whether it was met or not."""

    name: str
    is_prompt: bool
    status: str = OK


@dataclass(slots=True, kw_only=True)
class KindCounts:
    """Count what one kind of evidence found: items, samples, and samples dropped by it."""

    items: int = 0
    samples: int = 0
    dropped: int = 0


@dataclass(slots=True, kw_only=True)
class Summary:
    """Sum up one benchmark.

    Args:
        pictures: of it; likewise unreadable ones, prompts and those without a word.
        pictures_met: at least one sample meets them; likewise prompts_met.
        samples: that meet any item; likewise dropped.
        kinds: by kind of the evidence.
    """

    benchmark: str
    pictures: int = 0
    unreadable: int = 0
    prompts: int = 0
    wordless: int = 0
    pictures_met: int = 0
    prompts_met: int = 0
    samples: int = 0
    dropped: int = 0
    kinds: dict[str, KindCounts] = field(default_factory=dict[str, KindCounts])


@dataclass(slots=True)
class _Met:
    """Collect what meets one item."""

    samples: int = 0
    dropped: int = 0
    best: tuple[int, float, str] | None = None  # kind, distance, sample
    kinds: set[str] = field(default_factory=set[str])

    def add(self, key: str, hit: Mapping[str, Any], *, is_dropped: bool) -> None:
        self.samples += 1
        self.dropped += is_dropped
        self.kinds.add(hit["kind"])
        found = KINDS.index(hit["kind"]), float(hit["distance"]), key
        self.best = found if self.best is None else min(self.best, found)


def sum_up(
    benchmark: str,
    items: Sequence[BenchmarkItem],
    samples: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
    actions: Actions,
) -> tuple[list[dict[str, Any]], Summary]:
    """Sum up what meets one benchmark.

    Args:
        benchmark: its name.
        items: all of it.
        samples: key and hits of each sample that has any, of other benchmarks too.
        actions: what followed from each kind.

    Returns:
        A row of ITEM_SCHEMA for each item, in order, and the summary.
    """
    met: dict[tuple[str, bool], _Met] = {}
    summary = Summary(benchmark=benchmark)
    counts, dropped = Counter[str](), Counter[str]()
    for key, hits in samples:
        own = [hit for hit in hits if hit["benchmark"] == benchmark]
        for hit in own:
            is_dropped = actions.of(hit["kind"]) == DROP
            place = hit["item"], hit["kind"] in PROMPT_KINDS
            met.setdefault(place, _Met()).add(key, hit, is_dropped=is_dropped)
        kinds = {hit["kind"] for hit in own}
        counts.update(kinds)
        dropping = {kind for kind in kinds if actions.of(kind) == DROP}
        dropped.update(dropping)
        summary.samples += bool(own)
        summary.dropped += bool(dropping)
    _count_items(summary, items, met)
    for kind in KINDS:
        if counts[kind]:
            num = sum(kind in found.kinds for found in met.values())
            summary.kinds[kind] = KindCounts(items=num, samples=counts[kind], dropped=dropped[kind])
    return list(_rows(benchmark, items, met)), summary


def _count_items(
    summary: Summary, items: Sequence[BenchmarkItem], met: Mapping[tuple[str, bool], _Met]
) -> None:
    for item in items:
        is_met = (item.name, item.is_prompt) in met
        summary.prompts += item.is_prompt
        summary.pictures += not item.is_prompt
        summary.unreadable += not item.is_prompt and item.status != OK
        summary.wordless += item.is_prompt and item.status != OK
        summary.prompts_met += item.is_prompt and is_met
        summary.pictures_met += not item.is_prompt and is_met


def _rows(
    benchmark: str, items: Sequence[BenchmarkItem], met: Mapping[tuple[str, bool], _Met]
) -> Iterator[dict[str, Any]]:
    for number, item in enumerate(items):
        found = met.get((item.name, item.is_prompt), _Met())
        row = {
            "key": make_key(benchmark, item.name, str(number)),
            "status": item.status,
            "item": item.name,
            "is_prompt": item.is_prompt,
            "is_met": found.samples > 0,
            "samples": found.samples,
            "dropped": found.dropped,
        }
        if found.best:
            kind, distance, sample = found.best
            row |= {"kind": KINDS[kind], "distance": distance, "sample": sample}
        yield row

"""Say how captions were judged: for every source what was accepted, and why the rest was not.

    judge's side tables, shard by shard -> counts by source and reason, histograms of words
    -> a row for each source, rejected captions beside accepted ones of the same picture

Captions of dropped duplicates are left out: no captioner wrote them, and nobody judges them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from eval.intervals import wilson_interval
from eval.row_stream import read_parts

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_ALTERNATE = "alternate_"  # starts the sources of duplicates' captions
_COLUMNS = (KEY, STATUS, "source", "text", "words", "boilerplate", "hedges")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSource:
    """Hold what became of one source's captions; shares in [0, 1].

    Args:
        source: its name.
        num: captions, the rejected ones too.
        accepted: share of them that is accepted.
        low: end of its 95 % interval (Wilson).
        high: the other end.
        words: of an accepted caption, median; 0 without any.
        many_words: 95 % of accepted captions have so many or fewer.
        stripped: share of all captions that had a stock opening.
        hedged: share of accepted captions with a hedging phrase.
        reasons: first reason -> captions rejected for it.
    """

    source: str
    num: int
    accepted: float
    low: float
    high: float
    words: int
    many_words: int
    stripped: float
    hedged: float
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedCaption:
    """Show a rejected caption, and one of the same picture that is accepted; "" without any."""

    reason: str
    source: str
    text: str
    accepted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCaptions:
    """Hold the sources by name, all reasons, the most common first, and examples by reason."""

    sources: Sequence[CaptionSource]
    reasons: Sequence[str]
    examples: Sequence[RejectedCaption]


@dataclass(slots=True)
class _Tally:
    """Add up one source, shard by shard."""

    statuses: Counter[str] = field(default_factory=Counter[str])
    words: Counter[int] = field(default_factory=Counter[int])
    num_stripped: int = 0
    num_hedged: int = 0

    def add(self, rows: pa.Table) -> None:
        self.statuses.update(rows[STATUS].to_pylist())
        self.num_stripped += pc.sum(rows["boilerplate"]).as_py() or 0
        accepted = rows.filter(pc.equal(rows[STATUS], OK))
        self.words.update(accepted["words"].to_pylist())
        self.num_hedged += pc.sum(pc.greater(accepted["hedges"], 0)).as_py() or 0

    def finish(self, source: str) -> CaptionSource:
        num, num_accepted = self.statuses.total(), self.statuses[OK]
        interval = wilson_interval(num_accepted / num, num)
        reasons = {name: n for name, n in self.statuses.most_common() if name != OK}
        return CaptionSource(
            source=source,
            num=num,
            accepted=num_accepted / num,
            low=interval.low,
            high=interval.high,
            words=_quantile(self.words, 0.5),
            many_words=_quantile(self.words, 0.95),
            stripped=self.num_stripped / num,
            hedged=self.num_hedged / max(num_accepted, 1),
            reasons=reasons,
        )


def measure_judged(judge: ShardSet | None, num_examples: int) -> JudgedCaptions | None:
    """Sum up all verdicts on captions; None where there are none.

    Args:
        judge: the stage's shards.
        num_examples: of rejected captions for each reason, chosen by key.
    """
    tallies: dict[str, _Tally] = {}
    examples: dict[str, list[tuple[str, RejectedCaption]]] = {}
    for part in read_parts(judge, _COLUMNS):
        if not set(_COLUMNS) <= set(part.column_names):
            continue
        written = part.filter(pc.invert(pc.starts_with(part["source"], _ALTERNATE)))
        for source in written["source"].unique().to_pylist():
            rows = written.filter(pc.equal(written["source"], source))
            tallies.setdefault(source, _Tally()).add(rows)
        _add_examples(examples, written, num_examples)
    if not tallies:
        return None
    reasons: Counter[str] = Counter()
    for tally in tallies.values():
        reasons.update({name: n for name, n in tally.statuses.items() if name != OK})
    ordered = [name for name, _ in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))]
    return JudgedCaptions(
        sources=[tally.finish(source) for source, tally in sorted(tallies.items())],
        reasons=ordered,
        examples=[shown for name in ordered for _, shown in examples.get(name, ())],
    )


def _add_examples(
    found: dict[str, list[tuple[str, RejectedCaption]]], table: pa.Table, limit: int
) -> None:
    """Keep the rejected captions of the smallest keys for each reason."""
    good = table.filter(pc.equal(table[STATUS], OK))
    accepted = dict(zip(good[KEY].to_pylist(), good["text"].to_pylist(), strict=True))
    bad = table.filter(pc.not_equal(table[STATUS], OK))
    for reason in bad[STATUS].unique().to_pylist():
        rows = bad.filter(pc.equal(bad[STATUS], reason)).sort_by([(KEY, "ascending")])
        for row in rows.slice(0, limit).to_pylist():
            shown = RejectedCaption(
                reason=reason,
                source=row["source"],
                text=row["text"] or "",
                accepted=accepted.get(row[KEY]) or "",
            )
            found.setdefault(reason, []).append((row[KEY], shown))
        found[reason] = sorted(found[reason], key=lambda item: (item[0], item[1].source))[:limit]


def _quantile(counts: Counter[int], share: float) -> int:
    """Give the smallest value that a share of all does not exceed; 0 without any."""
    seen = 0
    for value, count in sorted(counts.items()):
        seen += count
        if seen >= share * counts.total():
            return value
    return 0

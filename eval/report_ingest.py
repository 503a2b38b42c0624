"""Tell what came in: failures with their meaning and hosts, formats, animations, resized pictures.

    ingest's side tables + what each status means -> IngestFacts

Of a URL that gave no picture only the host is told, since some of these rows are refused or
reserved by their owners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.core.schema import KEY, OK, STATUS, URL_HOST
from curate.core.shard import ShardSet
from curate.core.top_counter import TopCounter

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_MAX_HOSTS = 5  # chosen by us: enough to see whether one host is to blame
_COLUMNS = (
    STATUS, "url", "format", "frames", "width", "height", "original_width", "original_height",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Say what a status means, and whether `retry_failed=true` fetches such rows again."""

    sentence: str
    is_fetched_again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRow:
    """Tell one failure: its share of all rows, in [0, 1], and its most common hosts with counts."""

    status: str
    sentence: str
    num: int
    share: float
    is_fetched_again: bool
    hosts: Sequence[tuple[str, int]]
    has_more_hosts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestFacts:
    """Tell what came in.

    Args:
        failures: most rows first.
        formats: of the good pictures, most common first.
        num_animated: good pictures with more than one frame.
        num_resized: good pictures that ingest made smaller.
    """

    num_rows: int
    failures: Sequence[FailureRow]
    formats: Sequence[tuple[str, int]]
    num_animated: int
    num_resized: int

    @property
    def num_failed(self) -> int:
        """Count the rows that gave no picture."""
        return sum(row.num for row in self.failures)


def measure_ingest(
    ingest: ShardSet, meanings: Mapping[str, Meaning], annotate: ShardSet | None = None
) -> IngestFacts:
    """Count ingest's rows, shard by shard.

    Args:
        ingest: its shards.
        annotate: its shards, whose statuses tell the pictures that did not decode, too.
        meanings: status -> what it means; others are shown without a sentence.
    """
    statuses, formats = TopCounter(), TopCounter()
    hosts: dict[str, TopCounter] = {}
    noted: Counter[str] = Counter()
    for part in _read_parts(ingest, annotate):
        statuses.add(part[STATUS])
        good = part.filter(pc.equal(part[STATUS], OK))
        if "format" in good.column_names:
            formats.add(good["format"])
        noted["animated"] += _count(_is_animated(good))
        noted["resized"] += _count(_is_resized(good))
        _count_hosts(part, hosts)
    counts = dict(statuses.most_common())
    num_rows = sum(counts.values())
    return IngestFacts(
        num_rows=num_rows,
        failures=[
            _tell(status, num, num_rows, meanings, hosts.get(status, TopCounter()))
            for status, num in counts.items()
            if status != OK
        ],
        formats=formats.most_common(),
        num_animated=noted["animated"],
        num_resized=noted["resized"],
    )


def _read_parts(ingest: ShardSet, annotate: ShardSet | None) -> Iterator[pa.Table]:
    """Yield ingest's columns with the statuses that annotate gave, where it has measured."""
    measured = set(annotate.shards()) if annotate else set[str]()
    for shard in ingest.shards():
        there = set(ingest.schema(shard).names)
        part = ingest.table(shard, [KEY, *(name for name in _COLUMNS if name in there)])
        if annotate and shard in measured:
            later = annotate.table(shard, [KEY, STATUS])
            if later[KEY].equals(part[KEY]):
                part = part.set_column(part.column_names.index(STATUS), STATUS, later[STATUS])
        yield part


def _tell(
    status: str, num: int, num_rows: int, meanings: Mapping[str, Meaning], hosts: TopCounter
) -> FailureRow:
    meaning = meanings.get(status, Meaning(sentence="", is_fetched_again=False))
    found = hosts.most_common()
    return FailureRow(
        status=status,
        sentence=meaning.sentence,
        num=num,
        share=num / num_rows,
        is_fetched_again=meaning.is_fetched_again,
        hosts=found[:_MAX_HOSTS],
        has_more_hosts=len(found) > _MAX_HOSTS,
    )


def _count_hosts(part: pa.Table, hosts: dict[str, TopCounter]) -> None:
    """Add the hosts of a part's failed rows to those of their statuses."""
    if "url" not in part.column_names:
        return
    failed = part.filter(pc.not_equal(part[STATUS], OK))
    names = pc.utf8_lower(pc.struct_field(pc.extract_regex(failed["url"], URL_HOST), "host"))
    for status in failed[STATUS].unique().to_pylist():
        here = pc.equal(failed[STATUS], status)
        hosts.setdefault(status, TopCounter()).add(names.filter(here))


def _is_animated(good: pa.Table) -> Any:
    return pc.greater(good["frames"], 1) if "frames" in good.column_names else None


def _is_resized(good: pa.Table) -> Any:
    if not {"width", "height", "original_width", "original_height"} <= set(good.column_names):
        return None
    return pc.or_(
        pc.not_equal(good["width"], good["original_width"]),
        pc.not_equal(good["height"], good["original_height"]),
    )


def _count(mask: Any) -> int:
    return 0 if mask is None else pc.sum(mask).as_py() or 0

"""Write `ledger.parquet`: which stage kept, dropped or failed which sample, by rule and score.

    tables of the finished stages, shard by shard -> rows of LEDGER_SCHEMA -> one parquet file

Rows come in the order of stage, shard and row, so equal runs give equal bytes.

    stage      rows                                     rule               score
    ingest     every sample                             status if failed
    annotate   samples with a status that is not ok     status
    filter     every sample (all_rules: and every       first failing      as annotate measured
               active rule, for samples that are ok)    rule (that rule)   it for that rule
    blocklist  dropped samples                          reason             distance
    dedup      samples that filter kept                 reason if dropped  distance
    decontaminate  samples that dedup kept              reason if dropped  distance
    recaption  attempts that the captioner failed on    status
    judge      captions that it rejects                 source.reason
    bucket     dropped samples of its plan              status             share cut off,
                                                                           or enlargement

A sample's own shard names the row, not the shard of bucket that it would have gone to.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.compute import SetLookupOptions, call_function

from curate.core.commit import Output
from curate.core.errors import DataError, ShardError
from curate.core.manifest import finished_shards
from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from curate.core.store import Store
from curate.core.withheld import BLOCKLIST, HITS, REASONS
from curate.stages.bucketing.sizes import SIZES
from curate.stages.filtering.columns import find_ok, read_columns
from curate.stages.filtering.rules_in_force import RuleInForce, columns_of
from curate.stages.filtering.score_rule import PASSED, UNMEASURED
from curate.stages.filtering.verdicts import UNMEASURED_PREFIX, finished_rules, read_outcomes
from curate.stages.recaptioning.rows import CAPTIONER_ERROR
from pipelines.inspect import open_inputs, read_run

LEDGER = "ledger.parquet"
KEPT, DROPPED, FAILED = "kept", "dropped", "failed"

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),  # "" when nothing spoke against it
        pa.field("score", pa.float64()),
        pa.field("threshold", pa.string(), nullable=False),  # ">= 0.3", "" where there is none
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
    ]
)

_WITHHELD = SetLookupOptions(value_set=pa.array(REASONS))

# Rows of a row group, at least, and rows of a plan read at once; chosen by us: some 10 MB.
_GROUP_ROWS = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSummary:
    """Sum up a ledger: its path or URL, its rows, and their counts by stage and verdict."""

    path: str
    num_rows: int
    counts: Mapping[str, Mapping[str, int]]


def write_ledger(out: Store, *, all_rules: bool = False) -> LedgerSummary:
    """Write the ledger of a run's finished shards; a stage that is absent is left out.

    Args:
        out: folder of the run.
        all_rules: give a row for every active rule of filter instead of the first failing one.

    Raises:
        DataError: no stage has finished shards.
        ShardError: the tables of two stages do not belong together.
    """
    stages = [name for name in read_run(out)["stages"] if name in _ROWS]
    counts: dict[str, Counter[str]] = {}
    temporary = Output(store=out).work / f"{LEDGER}.{os.getpid()}.partial"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        with pq.ParquetWriter(temporary, LEDGER_SCHEMA, compression="zstd") as writer:
            for table in _grouped(rows for name in stages for rows in _ROWS[name](out, all_rules)):
                writer.write_table(table)
                _add_counts(counts, table)
        if not counts:
            raise DataError(f"{out.url}: must hold finished shards, got none; run `curate run`")
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        out.put(temporary, LEDGER)
        out.sync()
    finally:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process works there
            temporary.parent.rmdir()
    num_rows = sum(count.total() for count in counts.values())
    return LedgerSummary(path=f"{out.url}/{LEDGER}", num_rows=num_rows, counts=counts)


def describe_ledger(summary: LedgerSummary) -> list[str]:
    """Give the lines to print: a row for each stage, a column for each verdict."""
    rows = [["stage", KEPT, DROPPED, FAILED]]
    rows += [
        [stage, *(f"{count.get(verdict, 0):,}" for verdict in (KEPT, DROPPED, FAILED))]
        for stage, count in summary.counts.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return [*lines, f"{summary.num_rows:,} rows in {summary.path}"]


def _ingest_rows(out: Store, all_rules: bool) -> Iterator[pa.Table]:
    for shard, table in ShardSet(out.child("ingest")).tables([KEY, STATUS]):
        is_ok = find_ok(table)
        yield _rows(
            "ingest",
            shard,
            table[KEY],
            rule=_choose(is_ok, "", table[STATUS]),
            verdict=_choose(is_ok, KEPT, FAILED),
        )


def _failed_rows(stage: str, out: Store, all_rules: bool) -> Iterator[pa.Table]:
    for shard, table in ShardSet(out.child(stage)).tables([KEY, STATUS]):
        failed = table.filter(pa.array(~find_ok(table)))
        yield _rows(stage, shard, failed[KEY], rule=failed[STATUS], verdict=FAILED)


def _blocklist_rows(out: Store, all_rules: bool) -> Iterator[pa.Table]:
    """Give what blocklist dropped, with list, kind of hash and distance of the first hit."""
    for shard, table in ShardSet(out.child(BLOCKLIST)).tables([KEY, STATUS, HITS]):
        dropped = table.filter(call_function("is_in", [table[STATUS]], _WITHHELD))
        hits: list[Any] = [next(iter(own), None) for own in dropped[HITS].to_pylist()]
        yield _rows(
            BLOCKLIST,
            shard,
            dropped[KEY],
            rule=dropped[STATUS],
            verdict=DROPPED,
            score=pa.array([hit and hit["distance"] for hit in hits], pa.float64()),
            threshold=pa.array([f"{hit['list']} {hit['kind']}" if hit else "" for hit in hits]),
        )


def _filter_rows(out: Store, all_rules: bool) -> Iterator[pa.Table]:
    inputs, verdicts = open_inputs(out), ShardSet(out.child("filter"))
    columns = [KEY, STATUS, "keep", "reason", *(["failed_rules"] if all_rules else [])]
    for shard, table in verdicts.tables(columns):
        rules = finished_rules(verdicts, shard)
        measured = read_columns(inputs, shard, columns_of(rules))
        if not measured[KEY].equals(table[KEY]):
            raise ShardError(
                f"{verdicts.url}: must have the keys of annotate, got others in shard {shard}; "
                "run `curate run stage=filter`"
            )
        if all_rules and rules:
            yield _rows_by_rule(shard, table, measured, rules)
        else:
            yield _rows_by_reason(shard, table, measured, rules)


def _rows_by_reason(
    shard: str, table: pa.Table, measured: pa.Table, rules: Sequence[RuleInForce]
) -> pa.Table:
    """Give one row a sample, with score and threshold of its first failing rule."""
    encoded = table["reason"].combine_chunks().dictionary_encode()
    order = [rule.name for rule in rules]
    places = [
        order.index(name) if name in order else -1
        for name in (
            reason.removeprefix(UNMEASURED_PREFIX) for reason in encoded.dictionary.to_pylist()
        )
    ]
    rule_index = np.array(places, int)[encoded.indices.to_numpy()]  # [N], -1: none
    is_ok = find_ok(table)
    rule_index[~is_ok] = -1
    score, threshold = _pick(rules, measured, rule_index, np.arange(table.num_rows))
    return _rows(
        "filter",
        shard,
        table[KEY],
        rule=table["reason"],
        verdict=_choose(is_ok, _choose(table["keep"], KEPT, DROPPED), FAILED),
        score=score,
        threshold=threshold,
    )


def _rows_by_rule(
    shard: str, table: pa.Table, measured: pa.Table, rules: Sequence[RuleInForce]
) -> pa.Table:
    """Give a row for each sample and rule, and one for each sample that failed before."""
    is_ok = find_ok(table)
    repeats = np.where(is_ok, len(rules), 1)
    row = np.repeat(np.arange(table.num_rows), repeats)  # [M], row of the sample
    nth = np.arange(len(row)) - np.repeat(repeats.cumsum() - repeats, repeats)
    rule_index = np.where(is_ok[row], nth, -1)  # [M], -1: none
    order = [rule.name for rule in rules]
    outcome = read_outcomes(table, order)[rule_index, row]  # [M]
    names = pa.array([*order, *(UNMEASURED_PREFIX + name for name in order)])
    named = names.take(pa.array(nth + len(rules) * (outcome == UNMEASURED)))
    score, threshold = _pick(rules, measured, rule_index, row)
    return _rows(
        "filter",
        shard,
        table[KEY].take(pa.array(row)),
        rule=_choose(is_ok[row], named, table[STATUS].take(pa.array(row))),
        verdict=_choose(is_ok[row], _choose(outcome == PASSED, KEPT, DROPPED), FAILED),
        score=score,
        threshold=threshold,
    )


def _judge_rows(stage: str, before: str, out: Store, all_rules: bool) -> Iterator[pa.Table]:
    """Give what a stage said of the samples that the one before it kept."""
    judged = ShardSet(out.child(before))
    for shard, table in ShardSet(out.child(stage)).tables([KEY, "keep", "reason", "distance"]):
        passed = judged.table(shard, [KEY, "keep"])
        kept = SetLookupOptions(value_set=passed.filter(passed["keep"])[KEY].combine_chunks())
        reached = table.filter(call_function("is_in", [table[KEY]], kept))
        yield _rows(
            stage,
            shard,
            reached[KEY],
            rule=reached["reason"],
            verdict=_choose(reached["keep"], KEPT, DROPPED),
            score=reached["distance"].cast(pa.float64()),
        )


def _caption_rows(out: Store, all_rules: bool) -> Iterator[pa.Table]:
    """Give the captions that judge rejects; a sample may have several, and others that are good."""
    for shard, table in ShardSet(out.child("judge")).tables([KEY, STATUS, "source"]):
        told = SetLookupOptions(value_set=pa.array([OK, CAPTIONER_ERROR]))  # or by recaption
        rejected = table.filter(
            call_function("invert", [call_function("is_in", [table[STATUS]], told)])
        )
        rule = call_function(
            "binary_join_element_wise", [rejected["source"], rejected[STATUS], "."]
        )
        yield _rows("judge", shard, rejected[KEY], rule=rule, verdict=DROPPED)


def _bucket_rows(out: Store, all_rules: bool) -> Iterator[pa.Table]:
    """Read the sizes of every shard: they name the samples that no bucket takes, and why."""
    planned = ShardSet(out.child("bucket"))
    for name in finished_shards(planned.store):
        if name.startswith(SIZES):
            table = planned.table(name, [KEY, STATUS, "score", "threshold"])
            dropped = table.filter(pa.array(~find_ok(table)))
            yield _rows(
                "bucket",
                name.removeprefix(SIZES),
                dropped[KEY],
                rule=dropped[STATUS],
                verdict=DROPPED,
                score=dropped["score"],
                threshold=dropped["threshold"],
            )


_ROWS: Mapping[str, Callable[[Store, bool], Iterator[pa.Table]]] = {
    "ingest": _ingest_rows,
    "annotate": partial(_failed_rows, "annotate"),
    BLOCKLIST: _blocklist_rows,
    "filter": _filter_rows,
    "dedup": partial(_judge_rows, "dedup", "filter"),
    "decontaminate": partial(_judge_rows, "decontaminate", "dedup"),
    "recaption": partial(_failed_rows, "recaption"),
    "judge": _caption_rows,
    "bucket": _bucket_rows,
}


def _rows(
    stage: str,
    shard: str | pa.ChunkedArray,
    keys: pa.ChunkedArray,
    *,
    rule: Any,
    verdict: Any,
    score: Any = None,
    threshold: Any = "",
) -> pa.Table:
    """Make rows of the ledger; a text stands for a column of it."""
    values = [keys, stage, rule, score, threshold, verdict, shard]
    columns = [
        pa.repeat(pa.scalar(value, item.type), len(keys))
        if value is None or isinstance(value, str)
        else value
        for item, value in zip(LEDGER_SCHEMA, values, strict=True)
    ]
    return pa.table(columns, schema=LEDGER_SCHEMA)


def _choose(where: Any, yes: Any, no: Any) -> Any:
    mask = pa.array(where) if isinstance(where, np.ndarray) else where
    return call_function("if_else", [mask, yes, no])


def _pick(
    rules: Sequence[RuleInForce],
    measured: pa.Table,
    rule_index: NDArray[np.int64],
    row: NDArray[np.int64],
) -> tuple[pa.Array, pa.Array]:
    """Give scores and thresholds at some rules and rows [M]; null and "" at rule -1."""
    num_rows = measured.num_rows
    asked = np.unique(rule_index[rule_index >= 0])  # of the others nothing is computed
    place = np.where(rule_index < 0, len(asked), np.searchsorted(asked, rule_index))
    at = place * num_rows + row
    scores = np.concatenate(
        [*(rules[index].scores(measured) for index in asked), np.full(num_rows, np.nan)]
    )
    texts = pa.concat_arrays(
        [*(rules[index].thresholds(measured) for index in asked), pa.repeat("", num_rows)]
    )
    return pa.array(scores[at], from_pandas=True), texts.take(pa.array(at))


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables into row groups worth reading."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _add_counts(counts: dict[str, Counter[str]], table: pa.Table) -> None:
    for entry in table.group_by(["stage", "verdict"]).aggregate([([], "count_all")]).to_pylist():
        counts.setdefault(entry["stage"], Counter())[entry["verdict"]] += entry["count_all"]

"""Judge every sample by measured columns; no picture is opened.

    columns of earlier stages -> rules in order -> keep, reason (the first rule that fails),
                                                        failed_rules (all)

That is one wave, one task per shard. Where a rule keeps the best share of all scores (`top_frac`),
two waves go before it:

    wave 1: the scores of up to 64 shards, by rule and language: `_scores-NNNNN`
    wave 2: all scores -> the last score that each share keeps: `_cuts`
    wave 3: one task per shard; the cuts are its parameters, so it reruns only when one has moved
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.core.batches import batched
from curate.core.manifest import Task
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage
from curate.core.withheld import BLOCKLIST
from curate.stages.filtering.columns import read_columns, shards_of_all, stage_of
from curate.stages.filtering.config import FilterConfig
from curate.stages.filtering.cuts import (
    Cuts,
    columns_of_tops,
    concat_scores,
    find_cuts,
    split_scores,
)
from curate.stages.filtering.quantiles import Group
from curate.stages.filtering.rules_in_force import UIDS, columns_of, put_in_force
from curate.stages.filtering.uid_lists import check_sorted, open_uid_list
from curate.stages.filtering.verdicts import (
    CUTS,
    VERDICT_SCHEMA,
    count_verdicts,
    judge,
    make_verdicts,
)

SCORES, CUTS_SHARD = "_scores-", "_cuts"
SHARDS_AT_ONCE = 64  # of one task of wave 1; chosen by us: 10,000 rows each are 5 MB a rule

SCORES_SCHEMA = pa.schema(
    [("rule", pa.string()), ("language", pa.string()), ("score", pa.float64())]
)
CUTS_SCHEMA = pa.schema([("rule", pa.string()), ("language", pa.string()), ("cut", pa.float64())])


class FilterStage(Stage[FilterConfig]):
    """Write a verdict for every sample of the annotated shards."""

    name: ClassVar[str] = "filter"
    version: ClassVar[int] = 2
    takes: ClassVar[tuple[str, str] | None] = ("annotate", "in")

    def waves(self) -> Iterator[Sequence[Task]]:
        inputs = self._inputs_by_shard()
        cuts: Cuts = {}
        if self.config.top_rules:
            scores = self._score_tasks(inputs)
            yield scores
            names = [task.shard for task in scores]
            digests = [self.own.digests(name, ".parquet") for name in names]
            yield [
                Task(
                    shard=CUTS_SHARD,
                    inputs={f"scores of {len(inputs)} shards": _digest_of(digests)},
                    params={"scores": names},
                )
            ]
            cuts = self._read_cuts()
        listed = self._digest_of_uids()
        params = {CUTS: cuts} if cuts else {}
        yield [
            Task(shard=shard, inputs={**digests, **listed}, params=params)
            for shard, digests in inputs.items()
        ]

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == CUTS_SHARD:
            return self._write_cuts(task, place)
        if task.shard.startswith(SCORES):
            return self._write_scores(task, place)
        rules = put_in_force(self.config, task.params.get(CUTS, {}))
        table = read_columns(self.inputs, task.shard, columns_of(rules))
        verdicts = make_verdicts(table, judge(rules, table), [rule.name for rule in rules])
        with ShardWriter(place.out, task.shard, VERDICT_SCHEMA, with_tar=False) as writer:
            writer.write_table(verdicts)
        return count_verdicts(verdicts)

    def _inputs_by_shard(self) -> dict[str, dict[str, str]]:
        """Give the digests that a shard's verdicts hang on: those of the stages that rules read."""
        read = {"annotate", BLOCKLIST, *map(stage_of, columns_of(put_in_force(self.config, {})))}
        digests = [
            shards.all_digests(".parquet") for name, shards in self.inputs.items() if name in read
        ]
        return {
            shard: {name: digest for own in digests for name, digest in own[shard].items()}
            for shard in shards_of_all(self.inputs)
        }

    def _score_tasks(self, inputs: Mapping[str, Mapping[str, str]]) -> list[Task]:
        groups = batched(list(inputs), SHARDS_AT_ONCE)
        return [
            Task(
                shard=f"{SCORES}{number:05d}",
                inputs={f"columns of {len(group)} shards": _digest_of([inputs[s] for s in group])},
                params={"sources": list(group)},
            )
            for number, group in enumerate(groups)
        ]

    def _write_scores(self, task: Task, place: Place) -> Counter[str]:
        """Collect the scores of some shards; one row group for each rule and language."""
        tops = self.config.top_rules
        wanted = columns_of_tops(tops)
        tables = (read_columns(self.inputs, shard, wanted) for shard in task.params["sources"])
        found = concat_scores(part for table in tables for part in split_scores(table, tops))
        path = place.out / f"{task.shard}.parquet"
        with pq.ParquetWriter(path, SCORES_SCHEMA, compression="zstd") as writer:
            for (rule, language), scores in found.items():
                columns = [pa.repeat(rule, len(scores)), pa.repeat(language, len(scores)), scores]
                writer.write_table(pa.table(columns, schema=SCORES_SCHEMA))
        return Counter()

    def _write_cuts(self, task: Task, place: Place) -> Counter[str]:
        def read() -> Iterator[tuple[Group, NDArray[np.float64]]]:
            for name in task.params["scores"]:
                yield from _read_scores(self.own, name)

        shares = {rule: [b.top_frac or 1.0] for rule, b in self.config.top_rules.items()}
        cuts = find_cuts(read, shares, self.config.quantile_mode)
        rows = [
            {"rule": rule, "language": language, "cut": cut}
            for rule, by_language in cuts.items()
            for language, (cut,) in by_language.items()
        ]
        table = pa.Table.from_pylist(rows, schema=CUTS_SCHEMA)
        pq.write_table(table, place.out / f"{CUTS_SHARD}.parquet", compression="zstd")
        return Counter()

    def _read_cuts(self) -> Cuts:
        cuts: dict[str, dict[str, float]] = {rule: {} for rule in self.config.top_rules}
        for row in self.own.table(CUTS_SHARD).to_pylist():
            cuts[row["rule"]][row["language"]] = row["cut"]
        return cuts

    def _digest_of_uids(self) -> dict[str, str]:
        """Check the list of uids, and give its digest."""
        if not self.config.uids:
            return {}
        path = Path(self.config.uids)
        check_sorted(open_uid_list(path), path)
        with path.open("rb") as stream:
            return {UIDS: hashlib.file_digest(stream, "sha256").hexdigest()}


def _read_scores(own: ShardSet, name: str) -> Iterator[tuple[Group, NDArray[np.float64]]]:
    with pq.ParquetFile(own.table_path(name)) as file:
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number)
            if rows.num_rows:
                group = (rows["rule"][0].as_py(), rows["language"][0].as_py())
                yield group, rows["score"].to_numpy()


def _digest_of(parts: Sequence[Mapping[str, str]]) -> str:
    """Give one digest for many: a cut hangs on every shard."""
    return hashlib.sha256(json.dumps(list(parts), sort_keys=True).encode()).hexdigest()

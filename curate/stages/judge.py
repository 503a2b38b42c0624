"""Judge every caption attempt by measured columns: accepted, or rejected with all its reasons.

    wave 1: a shard's raw texts -> clean texts, measures, cuts: `_captions-NNNNN`; its texts in bins
    wave 2: one task per bin: texts that several shards have: `_counts-NNNNN`; where only the most
            similar share of a source is kept, the last score that is: `_lines`
    wave 3: measures + counts + thresholds -> verdicts, one row per attempt and cut

Other thresholds run wave 3 alone, which takes seconds: its tasks have them as parameters, and no
other task does. No picture is opened, and no model loaded but the language identifier.

A bad caption drops no sample: `bucket` takes the captions that are accepted, and the alt text is
always among them. `without_caption` counts the samples that have no other.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow.parquet as pq

from curate.captioners.thresholds import Thresholds
from curate.core.manifest import Task, find_markers
from curate.core.shard import ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.duplicates.shuffle import count_bins
from curate.stages.judging.attempts import ATTEMPTS, READ, Identify, measure_attempts
from curate.stages.judging.config import JudgeConfig, limits_from_json, limits_to_json
from curate.stages.judging.lines import draw_lines
from curate.stages.judging.text_counts import (
    TEXTS,
    count_pictures,
    count_shared,
    digest_shared,
    write_shared,
    write_texts,
)
from curate.stages.judging.verdicts import EVERY, JUDGE_SCHEMA, count_judged, judge_attempts

CAPTIONS, COUNTS, LINES = "_captions-", "_counts-", "_lines"
RECAPTION, LANGUAGE = "recaption", "language"


class JudgeStage(Stage[JudgeConfig]):
    """Write a verdict for every attempt of recaption, and for every cut."""

    name: ClassVar[str] = "judge"
    takes: ClassVar[tuple[str, str] | None] = (RECAPTION, "kept")
    _identify: Identify | None = None

    def waves(self) -> Iterator[Sequence[Task]]:
        written = self.inputs[RECAPTION].all_digests(".parquet")
        shards = sorted(written)
        counts = self._read_counts(shards)
        num_bins = self._num_bins(counts)
        trim = self.config.rules.cut_off == "trim"
        yield [
            Task(
                shard=f"{CAPTIONS}{shard}",
                inputs=written[shard],
                params={"bins": num_bins, "trim": trim},
            )
            for shard in shards
        ]
        bins = self._count_tasks(shards, num_bins)
        yield [*bins, *self._line_tasks(shards)]
        names = [task.shard for task in bins]
        yield self._verdict_tasks(shards, names, counts)

    def setup(self) -> None:
        """Load the pack's language identifier, where it has one."""
        if LANGUAGE in self.models:
            from curate.models.language import load_language

            identifier = load_language(self.models[LANGUAGE])

            def identify(text: str) -> tuple[str, float]:
                found = identifier(text)
                return found.code, found.score

            self._identify = identify

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard.startswith(CAPTIONS):
            self._measure(task, place)
        elif task.shard.startswith(COUNTS):
            shards = [f"{CAPTIONS}{shard}" for shard in task.params["shards"]]
            part, count = task.params["bin"], task.params["bins"]
            shared = count_shared(self.own, shards, part, count)
            write_shared(place.out / f"{task.shard}.parquet", shared)
        elif task.shard == LINES:
            shards = [f"{CAPTIONS}{shard}" for shard in task.params["shards"]]
            lines = draw_lines(self.own, shards, task.params["shares"])
            pq.write_table(lines, place.out / f"{LINES}.parquet", compression="zstd")
        else:
            return self._judge(task, place)
        return Counter()

    def _measure(self, task: Task, place: Place) -> None:
        rows = self.inputs[RECAPTION].table(task.shard.removeprefix(CAPTIONS), READ)
        cuts, trim = self.config.cuts, task.params["trim"]
        attempts = measure_attempts(rows, cuts, trim=trim, identify=self._identify)
        with ShardWriter(
            place.out, task.shard, ATTEMPTS, with_tar=False, unique_keys=False
        ) as writer:
            writer.write_table(attempts)
        write_texts(place.out / f"{task.shard}{TEXTS}", attempts, task.params["bins"])

    def _judge(self, task: Task, place: Place) -> Counter[str]:
        attempts = self.own.table(f"{CAPTIONS}{task.shard}")
        pictures = count_pictures(self.own, attempts, task.params["counts"], task.params["number"])
        judged = judge_attempts(attempts, pictures, limits_from_json(task.params["limits"]))
        with ShardWriter(
            place.out, task.shard, JUDGE_SCHEMA, with_tar=False, unique_keys=False
        ) as writer:
            writer.write_table(judged)
        return count_judged(judged, attempts, task.params["samples"])

    def _read_counts(self, shards: Sequence[str]) -> list[Mapping[str, int]]:
        markers = find_markers(self.inputs[RECAPTION].store, shards)
        return [marker.counts if marker else {} for _, marker in markers]

    def _num_bins(self, counts: Sequence[Mapping[str, int]]) -> int:
        """Cut the texts into as many tasks as keep each within its memory."""
        num_attempts = sum(own.get("attempts", own.get("kept", 0)) for own in counts)
        return count_bins(num_attempts * (1 + len(self.config.cuts)), self.config.bin_entries)

    def _count_tasks(self, shards: Sequence[str], count: int) -> list[Task]:
        digest = self._digest_of(shards, TEXTS)
        return [
            Task(
                shard=f"{COUNTS}{number:05d}",
                inputs={f"texts of {len(shards)} shards": digest},
                params={"bin": number, "bins": count, "shards": list(shards)},
            )
            for number in range(count)
        ]

    def _line_tasks(self, shards: Sequence[str]) -> list[Task]:
        """Plan the task that draws lines, if any source has a share to be kept."""
        limits = {EVERY: self.config.rules} | {
            source: self.config.limits_of(source) for source in self.config.by_source
        }
        shares = {source: own.similarity_top_frac for source, own in limits.items()}
        asked = {source: share for source, share in shares.items() if share is not None}
        if not asked:
            return []
        inputs = {f"scores of {len(shards)} shards": self._digest_of(shards, ".parquet")}
        params = {"shards": list(shards), "shares": asked}
        return [Task(shard=LINES, inputs=inputs, params=params)]

    def _verdict_tasks(
        self, shards: Sequence[str], bins: Sequence[str], counts: Sequence[Mapping[str, int]]
    ) -> list[Task]:
        shared = digest_shared(self.own, bins)
        num_samples = [own.get("kept", 0) for own in counts]
        limits = limits_to_json(self._limits(shards, sum(num_samples)))
        return [
            Task(
                shard=shard,
                inputs={
                    **self.own.digests(f"{CAPTIONS}{shard}", ".parquet"),
                    "texts of other shards": shared.get(number, ""),
                },
                params={
                    "number": number,
                    "counts": list(bins),
                    "limits": limits,
                    "samples": num_samples[number],
                },
            )
            for number, shard in enumerate(shards)
        ]

    def _limits(self, shards: Sequence[str], num_samples: int) -> dict[str, Thresholds]:
        """Give each source's thresholds, with what they mean in this set put in."""
        lines: dict[str, float] = {}
        if self._line_tasks(shards):
            table = self.own.table(LINES)
            lines = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
        sources = (EVERY, *sorted({*self.config.by_source, *lines}))
        return {
            source: _resolve(self.config.limits_of(source), lines.get(source), num_samples)
            for source in sources
        }

    def _digest_of(self, shards: Sequence[str], suffix: str) -> str:
        """Give one digest for many of wave 1's files."""
        digests = [self.own.digests(f"{CAPTIONS}{shard}", suffix) for shard in shards]
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _resolve(limits: Thresholds, line: float | None, num_samples: int) -> Thresholds:
    """Put in what shares are of this set: of samples a number, of scores the last that is kept."""
    changes: dict[str, Any] = {}
    if limits.max_pictures_frac is not None:
        share = int(limits.max_pictures_frac * num_samples)
        changes["max_pictures"] = max(limits.max_pictures, share)
    if line is not None:
        floor = limits.min_similarity_sentence
        changes["min_similarity_sentence"] = line if floor is None else max(line, floor)
    return replace(limits, **changes)

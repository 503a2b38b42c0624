"""Measure every picture and caption once; write columns only, decide nothing.

ingest tar -> decode once -> annotators in table order -> one side table per shard
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from curate.annotators.table import ANNOTATORS, Annotator, Batch, measure, runnable
from curate.core.batches import batched
from curate.core.errors import ConfigError
from curate.core.manifest import Task
from curate.core.schema import OK
from curate.core.shard import ShardWriter
from curate.core.stage import MapStage, Place
from curate.stages.pictures import Picture, read_pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotateConfig:
    """Choose what is measured.

    Args:
        annotators: names from ANNOTATORS; empty means all that the model pack can run.
        batch_size: pictures decoded and measured together.
    """

    annotators: list[str] = field(default_factory=list[str])
    batch_size: int = 64

    def __post_init__(self) -> None:
        unknown = sorted(set(self.annotators) - set(ANNOTATORS))
        if unknown:
            raise ConfigError(
                f"annotate.annotators: must be among {', '.join(ANNOTATORS)}, "
                f"got {unknown[0]!r}; fix the name"
            )
        if self.batch_size < 1:
            raise ConfigError(f"annotate.batch_size: must be >= 1, got {self.batch_size}; raise it")


class AnnotateStage(MapStage[AnnotateConfig]):
    """Write the annotators' columns for every sample; failed samples keep their status."""

    name: ClassVar[str] = "annotate"
    takes: ClassVar[tuple[str, str] | None] = ("ingest", "in")
    annotators: Sequence[Annotator]

    def setup(self) -> None:
        able = runnable(self.models)
        names = [n for n in able if not self.config.annotators or n in self.config.annotators]
        missing = sorted(set(self.config.annotators) - set(able))
        if missing:
            raise ConfigError(
                f"annotate.annotators: {missing[0]} needs models that the pack lacks, "
                f"got a pack with {', '.join(sorted(self.models))}; choose another `models=`"
            )
        self.annotators = [ANNOTATORS[name](self.models) for name in names]
        for annotator in self.annotators:
            annotator.setup()

    def run(self, task: Task, place: Place) -> Counter[str]:
        ingested = self.inputs["ingest"]
        measured: dict[str, dict[str, Any]] = {}
        pictures = read_pictures(ingested, task.shard)
        for pictures_batch in batched(pictures, self.config.batch_size):
            measured |= self._measure(pictures_batch)
        counts: Counter[str] = Counter()
        with ShardWriter(place.out, task.shard, self._schema(), with_tar=False) as writer:
            for row in ingested.table(task.shard, ["key", "status"]).to_pylist():
                writer.write(row | measured.get(row["key"], {}))
                counts["in"] += 1
                counts["kept" if row["status"] == OK else f"failed.{row['status']}"] += 1
        return counts

    def _measure(self, pictures: Sequence[Picture]) -> dict[str, dict[str, Any]]:
        """Run every annotator on one batch: key -> column -> value."""
        batch = Batch(
            keys=[picture.key for picture in pictures],
            images=[picture.image for picture in pictures],
            captions=[picture.caption for picture in pictures],
            columns={},
        )
        for annotator in self.annotators:
            batch.columns.update(measure(annotator, batch))
        return {
            key: {name: values[index] for name, values in batch.columns.items()}
            for index, key in enumerate(batch.keys)
        }

    def _schema(self) -> pa.Schema:
        fields: list[Any] = [
            pa.field("key", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
        ]
        for annotator in self.annotators:
            fields += list(annotator.columns.items())
        return pa.schema(fields)

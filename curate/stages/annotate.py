"""Measure every picture and caption once; write columns only, decide nothing.

ingest tar -> decode once, ahead -> annotators in table order -> one side table per shard

The side table's schema carries what each annotator measured with: `annotate.<annotator>.<fact>`,
e.g. `annotate.clip.model`, `annotate.clip.digest`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import pyarrow as pa

from curate.annotators.annotator import (
    HASH_SPECS,
    PRECISIONS,
    Annotator,
    Batch,
    Options,
    Precision,
    measure,
)
from curate.annotators.clip_copy import copy_repeated
from curate.annotators.table import ANNOTATORS, build_annotator, is_annotator, runnable
from curate.core.errors import ConfigError, SampleError
from curate.core.manifest import Task
from curate.core.schema import OK
from curate.core.shard import ShardWriter
from curate.core.stage import MapStage, Place
from curate.stages.pictures import Picture, batch_pictures, read_pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotateConfig:
    """Choose what is measured.

    Args:
        annotators: names from ANNOTATORS, and clip_NAME for further image-text models of the pack;
            empty means all that the model pack can run.
        batch_size: pictures measured together; fewer where they are very large.
        hash_spec: rules of phash and dhash: "lm1", equal for ever, or "imagehash", the library's.
        miniatures: also keep every picture at 32x32, 3 KB, so that dedup finds cropped copies.
        pdq_dihedral: also measure the PDQ hashes of turned and flipped pictures.
        text_embeddings: also write the captions' embeddings of every image-text model.
        precision: of image-text models: fp32; bf16 or fp16 where golden values allow it.
        device: of image-text models: cpu, cuda, or auto (a GPU where there is one).
        threads: that decode and prepare pictures while a network runs; no output depends on it.
    """

    annotators: list[str] = field(default_factory=list[str])
    batch_size: int = 64
    hash_spec: str = HASH_SPECS[0]
    miniatures: bool = False
    pdq_dihedral: bool = False
    text_embeddings: bool = False
    precision: str = "fp32"
    device: str = field(default="auto", metadata={"fingerprint": False})
    threads: int = field(default=1, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        unknown = sorted(name for name in self.annotators if not is_annotator(name))
        if unknown:
            raise ConfigError(
                f"annotate.annotators: must be among {', '.join(ANNOTATORS)}, clip_NAME, "
                f"got {unknown[0]!r}; fix the name"
            )
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"annotate.{name}: must be >= 1, got {getattr(self, name)}; raise it"
                )
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"annotate.precision: must be among {', '.join(PRECISIONS)}, "
                f"got {self.precision!r}; choose one"
            )
        if self.hash_spec not in HASH_SPECS:
            raise ConfigError(
                f"annotate.hash_spec: must be among {', '.join(HASH_SPECS)}, "
                f"got {self.hash_spec!r}; fix the name"
            )
        self._check_used("phash", "hash_spec", is_set=self.hash_spec != HASH_SPECS[0])
        self._check_used("phash", "miniatures", is_set=self.miniatures)
        self._check_used("pdq", "pdq_dihedral", is_set=self.pdq_dihedral)

    def _check_used(self, annotator: str, option: str, *, is_set: bool) -> None:
        """Refuse an option whose annotator does not run."""
        if is_set and self.annotators and annotator not in self.annotators:
            raise ConfigError(
                f"annotate.{option}: needs {annotator} among annotate.annotators, "
                f"got {', '.join(self.annotators)}; add it"
            )


class AnnotateStage(MapStage[AnnotateConfig]):
    """Write the annotators' columns for every sample; failed samples keep their status."""

    name: ClassVar[str] = "annotate"
    version: ClassVar[int] = 3
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
        options = Options(
            hash_spec=self.config.hash_spec,
            miniatures=self.config.miniatures,
            pdq_dihedral=self.config.pdq_dihedral,
            text_embeddings=self.config.text_embeddings,
            precision=cast("Precision", self.config.precision),
            device=self.config.device,
            threads=self.config.threads,
        )
        built = [build_annotator(name, self.models, options) for name in names]
        self.annotators = copy_repeated(built, self.models)
        for annotator in self.annotators:
            annotator.setup()
            self._check_reads(annotator, names)

    def run(self, task: Task, place: Place) -> Counter[str]:
        ingested = self.inputs["ingest"]
        measured: dict[str, dict[str, Any]] = {}
        damaged: dict[str, SampleError] = {}
        pictures = read_pictures(
            ingested,
            task.shard,
            ahead=self.config.batch_size,
            threads=self.config.threads,
            damaged=damaged,
        )
        for batch in batch_pictures(pictures, self.config.batch_size):
            measured |= self._measure(batch)
        counts: Counter[str] = Counter()
        with ShardWriter(place.out, task.shard, self._schema(), with_tar=False) as writer:
            for row in ingested.table(task.shard, ["key", "status"]).to_pylist():
                if error := damaged.get(row["key"]):
                    row |= {"status": error.status, "error": error.detail}
                writer.write(row | measured.get(row["key"], {}))
                counts["in"] += 1
                counts["kept" if row["status"] == OK else f"failed.{row['status']}"] += 1
        return counts

    def _check_reads(self, annotator: Annotator, names: Sequence[str]) -> None:
        """Refuse an annotator without those whose columns it reads: it would measure nothing."""
        missing = [name for name in getattr(annotator, "reads", ()) if name not in names]
        if missing:
            raise ConfigError(
                f"annotate.annotators: {annotator.name} reads the columns of {missing[0]}, "
                f"got {', '.join(names)}; add {missing[0]}"
            )

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
            pa.field("error", pa.string()),  # of a picture that does not decode
        ]
        for annotator in self.annotators:
            fields += list(annotator.columns.items())
        return pa.schema(fields, metadata=self._facts())

    def _facts(self) -> dict[str, str]:
        """Say what each annotator measured with: its models' kinds and digests, and its own facts.

        An annotator's last role is its own model; before it come those whose columns it reads.
        """
        facts: dict[str, str] = {}
        for annotator in self.annotators:
            if annotator.roles:
                ref = self.models[annotator.roles[-1]]
                facts[f"annotate.{annotator.name}.kind"] = ref.kind
                facts[f"annotate.{annotator.name}.digest"] = ref.digest
            for name, value in getattr(annotator, "metadata", {}).items():
                facts[f"annotate.{annotator.name}.{name}"] = value
        return facts

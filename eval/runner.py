"""Evaluate generated pictures: the `evaluate` stage.

    sample shards  -> readings, features --+
    bucket shards  -> reference features --+-> METRICS -> results.json (numbers)
    models, reader                                     -> 00000.parquet (one row a picture)

The reader (the toy web's exact oracle) lives above this layer, so pipelines hands it in. Nothing
here depends on the clock; equal inputs give equal bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from curate.core.errors import ConfigError
from curate.core.model_ref import ModelRef
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage, Task
from eval.evidence import (
    CONTROLS,
    Evidence,
    PictureFacts,
    SampleSet,
    SceneReader,
    drawn_control,
    examine_pictures,
    gather_evidence,
    read_samples,
    shuffled_control,
)
from eval.features import (
    choose_keys,
    load_model,
    rank_keys,
)
from eval.metrics import METRICS, Study
from eval.picture_table import picture_rows, picture_schema
from eval.results import RESULTS, Results, describe_protocol
from eval.truth import TruthCheck

if TYPE_CHECKING:
    from curate.models.clip import ImageTextModel

_SHARD = "00000"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """Choose what is measured.

    Args:
        metrics: names of METRICS.
        controls: names of CONTROLS; drawn from and scored beside the first variant.
        reader: which of the readers that pipelines offers reads scenes; "" for none.
        batch_size: pictures embedded at once.
        max_reference: real pictures compared with, at most.
        frechet_dims: leading axes kept for the Frechet distance; 0 for all dimensions.
        allow_small: give it also for fewer than 2 D pictures, where the bias swamps it.
        num_resamples: bootstrap resamples of rates.
        frechet_resamples: bootstrap resamples of the Frechet distance.

    Source: all chosen by us. 64 axes leave 192 pictures above the bound of 2 D; 2,000 reference
    pictures put their share of the bias below a tenth; 1,000 resamples steady the second digit.
    """

    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    reader: str = ""
    batch_size: int = 64
    max_reference: int = 2000
    frechet_dims: int = 64
    allow_small: bool = False
    num_resamples: int = 1000
    frechet_resamples: int = 200

    def __post_init__(self) -> None:
        """Refuse unknown names and sizes below one."""
        for name, values, table in (
            ("metrics", self.metrics, tuple(METRICS)),
            ("controls", self.controls, CONTROLS),
        ):
            unknown = [value for value in values if value not in table]
            if unknown:
                raise ConfigError(
                    f"evaluate.{name}: must be among {', '.join(table)}, "
                    f"got {unknown[0]!r}; remove it"
                )
        for name in ("batch_size", "max_reference", "num_resamples", "frechet_resamples"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"evaluate.{name}: must be >= 1, got {getattr(self, name)}; raise it"
                )
        if self.frechet_dims < 0:
            raise ConfigError(
                f"evaluate.frechet_dims: must be >= 0, got {self.frechet_dims}; 0 keeps all"
            )


class EvaluateStage(Stage[EvalConfig]):
    """Measure the pictures of `sample` against their prompts and against those of `bucket`.

    Args:
        readers: name -> reader of pictures and prompts, handed in by pipelines.
        truth: compares the stages in `inputs` with what is known of the data, handed in by
            pipelines; its rows go into results.json as they are.
    """

    name: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 3
    runs_in: ClassVar[Literal["worker", "client"]] = "client"

    def __init__(
        self,
        config: EvalConfig,
        inputs: Mapping[str, ShardSet],
        models: Mapping[str, ModelRef],
        seed: int,
        own: ShardSet | None = None,
        readers: Mapping[str, SceneReader] = MappingProxyType({}),
        truth: TruthCheck | None = None,
    ) -> None:
        super().__init__(config, inputs, models, seed, own)
        if config.reader and config.reader not in readers:
            raise ConfigError(
                f"evaluate.reader: must be one of {', '.join(readers) or 'none'}, "
                f"got {config.reader!r}; choose one or leave it empty"
            )
        self._reader = readers.get(config.reader)
        self._truth = truth
        self._model: ImageTextModel | None = None

    def waves(self) -> Iterator[Sequence[Task]]:
        """Yield one task over all shards of both inputs."""
        digests: dict[str, str] = {}
        for shards in self.inputs.values():
            for some in shards.all_digests(".tar", ".parquet").values():
                digests |= some
        yield [Task(shard=_SHARD, inputs=digests)]

    def setup(self) -> None:
        """Load the image-text model."""
        self._model = load_model(self.models["image_text"])

    def run(self, task: Task, place: Place) -> Counter[str]:
        """Measure everything and write results.json and the table of pictures."""
        assert self._model is not None, "setup() comes before run()"
        samples = read_samples(self.inputs["sample"], self._reader)
        keys = [record.key for record in samples.records]
        facts = self._examine("sample", keys)
        reference = self._examine_reference(facts)
        study = self._study(self._gather(samples, facts, self._model), reference, self._model)
        numbers = [number for name in self.config.metrics for number in METRICS[name](study)]
        results = Results(
            numbers=numbers,
            truth=self._truth(self.inputs) if self._truth else (),
            protocol=describe_protocol(samples, facts, reference, study, self.config.reader),
        )
        (place.out / RESULTS).write_text(results.to_json())
        with ShardWriter(place.out, task.shard, picture_schema(), with_tar=False) as writer:
            for evidence in study.variants:
                if not evidence.is_control:
                    for row in picture_rows(evidence):
                        writer.write(row)
        return _count(samples)

    def _examine(
        self, stage: str, keys: Sequence[str], size: tuple[int, int] | None = None
    ) -> PictureFacts:
        assert self._model is not None, "setup() comes before run()"
        reader = self._reader if stage == "sample" else None
        return examine_pictures(
            self.inputs[stage], keys, self._model, reader, self.config.batch_size, size
        )

    def _examine_reference(self, facts: PictureFacts) -> PictureFacts | None:
        """Look at real pictures in the size of the samples; None without any."""
        shards = self.inputs.get("bucket")
        if shards is None or not shards.shards():
            return None
        size = next(iter(facts.sizes)) if len(facts.sizes) == 1 else None
        return self._examine(
            "bucket", choose_keys(shards, self.config.max_reference, self.seed), size
        )

    def _gather(
        self, samples: SampleSet, facts: PictureFacts, model: ImageTextModel
    ) -> list[Evidence]:
        batch_size = self.config.batch_size
        found: list[Evidence] = []
        for variant in samples.variants:
            records = [record for record in samples.records if record.variant == variant]
            found.append(gather_evidence(records, facts, model, batch_size))
        first = found[0]
        size = facts.sizes.most_common(1)[0][0]
        for kind in self.config.controls:
            if kind == "shuffled":
                control = shuffled_control(first, self.seed)
            else:
                control = drawn_control(
                    kind, first, size, model, self._reader, self.seed, batch_size
                )
            found += [control] if control is not None else []
        return found

    def _study(
        self, variants: Sequence[Evidence], reference: PictureFacts | None, model: ImageTextModel
    ) -> Study:
        features = np.zeros((0, model.dim), np.float32)
        if reference is not None:  # by hash, so that any part of them is drawn at random
            features = np.stack(
                [reference.features[key] for key in rank_keys(reference.features, self.seed)]
            )
        # Real pictures as many as generated ones, unless that took most of the reference away.
        num_held_out = min(len(variants[0].keys), len(features) // 3)
        return Study(
            variants=variants,
            reference=features[num_held_out:],
            held_out=features[:num_held_out],
            extractor=model.name,
            extractor_digest=self.models["image_text"].digest,
            seed=self.seed,
            num_resamples=self.config.num_resamples,
            frechet_resamples=self.config.frechet_resamples,
            frechet_dims=self.config.frechet_dims,
            allow_small=self.config.allow_small,
        )


def _count(samples: SampleSet) -> Counter[str]:
    counts: Counter[str] = Counter({"kept": len(samples.records)})
    for failures in samples.failed.values():
        for status, num in failures.items():
            counts[f"failed.{status}"] += num
    counts["in"] = counts.total()
    return counts

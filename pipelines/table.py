"""Wire the whole house on one page: every stage, what it reads, which models it uses.

A new stage is its own file, one line here and its test. Classes are imported when they are built,
so that planning a pipeline does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from curate.core.schema import VERDICTS
from curate.core.shard import ShardSet
from curate.core.stage import Stage
from curate.models.packs import ModelRef
from pipelines.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Hand a builder what every stage is made of."""

    pipeline: str
    config: RunConfig
    inputs: Mapping[str, ShardSet]
    models: Mapping[str, ModelRef]
    own: ShardSet


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """Say what a stage reads, which model roles it uses, and how it is built.

    Args:
        reads: stages whose outputs it needs.
        may_read: stages it reads when the pipeline has them.
        roles: roles of the model pack it uses, where the pack has them; clip_* is every further
            image-text model.
    """

    build: Callable[[Parts], Stage[Any]]
    reads: tuple[str, ...] = ()
    may_read: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    required_roles: tuple[str, ...] = ()


def _ingest(parts: Parts) -> Stage[Any]:
    from curate.stages.ingest import IngestStage

    return IngestStage(
        parts.config.ingest, parts.inputs, parts.models, parts.config.seed, own=parts.own
    )


def _annotate(parts: Parts) -> Stage[Any]:
    from curate.stages.annotate import AnnotateStage

    return AnnotateStage(parts.config.annotate, parts.inputs, parts.models, parts.config.seed)


def _blocklist(parts: Parts) -> Stage[Any]:
    from curate.stages.blocklist import BlocklistStage

    return BlocklistStage(parts.config.blocklist, parts.inputs, parts.models, parts.config.seed)


def _repeats(parts: Parts) -> Stage[Any]:
    from curate.stages.repeats import RepeatsStage

    return RepeatsStage(
        parts.config.repeats, parts.inputs, parts.models, parts.config.seed, own=parts.own
    )


def _filter(parts: Parts) -> Stage[Any]:
    from curate.stages.filter import FilterStage

    return FilterStage(
        parts.config.filter, parts.inputs, parts.models, parts.config.seed, own=parts.own
    )


def _dedup(parts: Parts) -> Stage[Any]:
    from curate.stages.dedup import DedupStage

    return DedupStage(
        parts.config.dedup, parts.inputs, parts.models, parts.config.seed, own=parts.own
    )


def _decontaminate(parts: Parts) -> Stage[Any]:
    from curate.stages.decontaminate import DecontaminateStage

    return DecontaminateStage(
        parts.config.decontaminate, parts.inputs, parts.models, parts.config.seed, own=parts.own
    )


def _with_verdicts(inputs: Mapping[str, ShardSet]) -> dict[str, ShardSet]:
    """Give the last stage that judges under the name by which later ones know it."""
    judges = ("dedup", "decontaminate")
    last = [inputs[name] for name in judges if name in inputs][-1]
    return {VERDICTS: last} | {name: one for name, one in inputs.items() if name not in judges}


def _recaption(parts: Parts) -> Stage[Any]:
    from curate.stages.recaption import RecaptionStage
    from pipelines.captioners import CAPTIONERS

    config = parts.config
    return RecaptionStage(
        config.recaption, _with_verdicts(parts.inputs), parts.models, config.seed, own=parts.own,
        geometry=config.bucket.geometry, captioners=CAPTIONERS,
    )  # fmt: skip


def _judge(parts: Parts) -> Stage[Any]:
    from curate.stages.judge import JudgeStage

    return JudgeStage(
        parts.config.judge, parts.inputs, parts.models, parts.config.seed, own=parts.own
    )


def _bucket(parts: Parts) -> Stage[Any]:
    from curate.stages.bucket import BucketStage

    return BucketStage(
        parts.config.bucket, _with_verdicts(parts.inputs), parts.models, parts.config.seed,
        own=parts.own,
    )  # fmt: skip


def _encode(parts: Parts) -> Stage[Any]:
    from curate.stages.encode import EncodeStage
    from curate.stages.encoding.config import used_models

    config = parts.config
    models = used_models(config.encode, parts.models)
    return EncodeStage(config.encode, parts.inputs, models, config.seed, own=parts.own)


def _train(parts: Parts) -> Stage[Any]:
    from train.stage import TrainStage

    return TrainStage(parts.config.train, parts.inputs, parts.models, parts.config.seed)


def _sample(parts: Parts) -> Stage[Any]:
    from train.sample import SampleStage

    return SampleStage(parts.config.sample, parts.inputs, parts.models, parts.config.seed)


def _evaluate(parts: Parts) -> Stage[Any]:
    from eval.runner import EvaluateStage
    from pipelines.config import TOYWEB
    from pipelines.inputs import toyweb_folder
    from pipelines.readers import READERS
    from pipelines.truth import make_truth_check

    config = parts.config
    is_toyweb = config.input == TOYWEB
    folder = toyweb_folder(config.out)
    check = make_truth_check(folder, config.toyweb, parts.models) if is_toyweb else None
    return EvaluateStage(
        config.evaluate, parts.inputs, parts.models, config.seed, readers=READERS, truth=check
    )


def _report(parts: Parts) -> Stage[Any]:
    from pipelines.report import build_report

    return build_report(parts.config, parts.pipeline, parts.inputs, parts.models)


STAGES: Mapping[str, StageSpec] = {
    "ingest": StageSpec(build=_ingest),
    "annotate": StageSpec(
        build=_annotate,
        reads=("ingest",),
        roles=(
            "image_text", "clip_*", "aesthetic", "aesthetic_v1", "watermark", "text_overlay",
            "nsfw", "nudenet", "text_area", "ocr", "faces", "descriptor", "language", "toxic_terms",
            "toxicity",
        ),
    ),
    "blocklist": StageSpec(build=_blocklist, reads=("ingest",), may_read=("annotate",)),
    "repeats": StageSpec(build=_repeats, reads=("ingest", "annotate")),
    "filter": StageSpec(
        build=_filter, reads=("annotate", "ingest"), may_read=("blocklist", "repeats")
    ),
    "dedup": StageSpec(build=_dedup, reads=("filter", "annotate", "ingest")),
    "decontaminate": StageSpec(
        build=_decontaminate,
        reads=("dedup", "annotate", "ingest"),
        roles=("image_text", "descriptor"),
    ),
    "recaption": StageSpec(
        build=_recaption,
        reads=("dedup", "ingest"),
        may_read=("decontaminate",),
        roles=("image_text", "rewriter", "verifier"),
        required_roles=("captioner",),
    ),
    "judge": StageSpec(build=_judge, reads=("recaption",), roles=("language",)),
    "bucket": StageSpec(
        build=_bucket, reads=("dedup", "ingest"), may_read=("decontaminate", "judge")
    ),
    "encode": StageSpec(
        build=_encode,
        reads=("bucket",),
        roles=("text_encoder_*", "image_text", "features_*"),
        required_roles=("vae", "text_encoder"),
    ),
    "train": StageSpec(build=_train, reads=("encode",)),
    "sample": StageSpec(
        build=_sample, reads=("train", "encode"), required_roles=("vae", "text_encoder")
    ),
    "evaluate": StageSpec(
        build=_evaluate,
        reads=("sample", "bucket"),
        may_read=(
            "ingest", "annotate", "filter", "dedup", "decontaminate", "recaption", "judge",
        ),
        roles=("captioner", "vae"),
        required_roles=("image_text",),
    ),
    "report": StageSpec(
        build=_report,
        reads=("ingest",),
        may_read=(
            "annotate", "blocklist", "repeats", "filter", "dedup", "decontaminate", "recaption",
            "judge", "bucket", "encode", "train", "sample", "evaluate",
        ),
    ),
}  # fmt: skip

LEARNT = ("train", "sample", "evaluate")
"""Stages that hold no sample, only what was learnt from them."""

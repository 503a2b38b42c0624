"""Hold the schema of a whole run: one section per stage, and what the stages share.

Importing this must stay cheap (no torch): the command line builds it at every start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from curate.core.engine_config import EngineConfig
from curate.core.errors import ConfigError
from curate.sources.config import IngestConfig
from curate.stages.annotate import AnnotateConfig
from curate.stages.bucketing.config import BucketConfig
from curate.stages.dedup import DedupConfig
from curate.stages.encoding.config import EncodeConfig
from curate.stages.filtering.config import FilterConfig
from curate.stages.judging.config import JudgeConfig
from curate.stages.matching.benchmark_config import DecontaminateConfig
from curate.stages.matching.blocklist_config import BlocklistConfig
from curate.stages.recaptioning.config import RecaptionConfig
from curate.stages.repeats import RepeatsConfig
from eval.report import ReportConfig
from eval.runner import EvalConfig
from train.config import TrainConfig
from train.sample import SampleConfig

TOYWEB = "toyweb"  # the value of `input` that stands for the embedded toy web


@dataclass(frozen=True, slots=True, kw_only=True)
class ToywebConfig:
    """Size the toy web that `input=toyweb` stands for.

    Args:
        num_images: rows of its URL table.
        seed: of its scenes and faults.
        num_prompts: held-out prompts for sampling.
        max_objects: objects in a held-out prompt's scene, at most; 1..4.
    """

    num_images: int = 5000
    seed: int = 0
    num_prompts: int = 192
    max_objects: int = 3

    def __post_init__(self) -> None:
        if self.num_images < 1 or self.num_prompts < 1 or not 1 <= self.max_objects <= 4:
            raise ConfigError(
                "toyweb: num_images and num_prompts must be >= 1 and max_objects in 1..4, got "
                f"{self.num_images}, {self.num_prompts} and {self.max_objects}; change them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Hold everything a run depends on.

    Args:
        input: URL table, folder, tars, or "toyweb".
        out: folder of all outputs.
        seed: of every random draw.
        models: model pack: toy, offline, laion, datacomp, or a YAML file (role -> kind and paths).
        models_folder: folder of the models that the packs laion and datacomp do not ship.
        stages: the pipeline's stages, in any order; the table's order holds.
        require_blocklist: refuse to run without a list of known harm.
        keep_stale: let the chosen stages read outputs that another config made, knowingly.
        retry_quarantined: try tasks again that an earlier run gave up.
        retry_failed: fetch failed rows of finished shards again and merge them.
        debug: show tracebacks of user errors.
    """

    input: str = ""
    out: str = "out"
    seed: int = 0
    models: str = "toy"
    models_folder: str = ""
    stages: list[str] = field(default_factory=list[str])
    require_blocklist: bool = False
    keep_stale: bool = False
    retry_quarantined: bool = False
    retry_failed: bool = False
    debug: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)
    toyweb: ToywebConfig = field(default_factory=ToywebConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    annotate: AnnotateConfig = field(default_factory=AnnotateConfig)
    blocklist: BlocklistConfig = field(default_factory=BlocklistConfig)
    repeats: RepeatsConfig = field(default_factory=RepeatsConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    recaption: RecaptionConfig = field(default_factory=RecaptionConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    bucket: BucketConfig = field(default_factory=BucketConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    evaluate: EvalConfig = field(default_factory=EvalConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

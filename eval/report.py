"""Write the report: one static HTML file that needs nothing else, the `report` stage.

    side tables, markers -> report_ingest, report_rules,
                            report_repeats, report_matching,
                            report_curation ------------------+
    metrics.jsonl, samples, results.json                      +-> templates/report.html.j2
                         -> report_model ---------------------+        -> index.html

Pictures are inlined as small thumbnails, charts as SVG; no script, no font, no request. All text
from data is escaped by the template engine. Equal inputs give equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from curate.core.errors import ConfigError
from curate.core.model_ref import ModelRef
from curate.core.shard import ShardSet
from curate.core.stage import Place, Stage, Task
from curate.core.withheld import BLOCKLIST
from eval.curation import choose_clusters, choose_failing, choose_kept, list_measures
from eval.funnel import measure_funnel
from eval.gallery import MAX_UNSAFE, open_gallery
from eval.picture_choice import PictureChoice
from eval.report_buckets import measure_buckets
from eval.report_captions import measure_judged
from eval.report_contamination import choose_copies, measure_contamination, view_copies
from eval.report_curation import (
    choose_captions,
    view_captions,
    view_clusters,
    view_funnel,
    view_histograms,
)
from eval.report_duplicates import describe_bounds
from eval.report_ingest import Meaning, measure_ingest
from eval.report_matching import measure_matching
from eval.report_model import LABELS, view_losses, view_numbers, view_samples
from eval.report_page import format_number, format_percent, render_page, shorten
from eval.report_repeats import find_repeats, view_repeats
from eval.report_rules import RuleFacts, view_pictures, view_rules
from eval.results import RESULTS, Results, load_results
from eval.truth import TruthRow

PAGE = "index.html"
_SHARD = "00000"
_JUDGES = ("decontaminate", "dedup", "filter")  # the last of them that ran says what was kept
_MODEL_STAGES = ("train", "sample", "evaluate")  # they lose no samples and are no part of a funnel
_MIN_SIDE_PX = 32  # below it a thumbnail shows nothing; the page is then as large as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Size the report.

    Args:
        title: heading; "" takes the pipeline's name.
        num_examples: pictures shown of each duplicate cluster, and for each rule that holds no
            number, dropped and kept each; rules with a threshold show the ten nearest to it.
        num_kept: pictures shown that passed everything.
        num_clusters: duplicate clusters shown.
        num_repeats: repeated pictures shown, and repeated captions.
        num_captions: pictures shown with all their captions.
        num_prompts: prompts shown with what was drawn for them.
        thumbnail_px: longer side of a thumbnail; halved until the page keeps `max_bytes`.
        max_bytes: size of the page aimed for.

    Source: all chosen by us: one screen a section, and a page that can be mailed.
    """

    title: str = ""
    num_examples: int = 10
    num_kept: int = 16
    num_clusters: int = 6
    num_repeats: int = 10
    num_captions: int = 8
    num_prompts: int = 24
    thumbnail_px: int = 144
    max_bytes: int = 5_000_000

    def __post_init__(self) -> None:
        """Refuse sizes that make no page."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            least = 16 if item.name == "thumbnail_px" else 0
            if isinstance(value, int) and value < least:
                raise ConfigError(f"report.{item.name}: must be >= {least}, got {value}; raise it")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContext:
    """Hold what only pipelines knows of a run; part of the fingerprint.

    Args:
        pipeline: name of the preset.
        command: the line that repeats the run.
        config_yaml: the resolved config.
        rules: name -> thresholds in words, of each active rule of filter.
        meanings: status -> what it means, of each failure at ingest.
        truth: measurements against a known truth; those of results.json when empty.
        quarantined: "stage/shard" -> why it was given up; their samples are in no number.
        batch_size: of the training that the buckets are meant for.
    """

    pipeline: str
    command: str = ""
    config_yaml: str = ""
    rules: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    meanings: Mapping[str, Meaning] = field(default_factory=dict[str, Meaning])
    truth: Sequence[TruthRow] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict[str, str])
    batch_size: int = 1

    @property
    def config_digest(self) -> str:
        """Give the sha256 of the resolved config; "" without one."""
        return hashlib.sha256(self.config_yaml.encode()).hexdigest() if self.config_yaml else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """Say which version of a stage made what, on which weights."""

    name: str
    version: int
    num_shards: int
    fingerprint: str
    models: Mapping[str, str]


class ReportStage(Stage[ReportConfig]):
    """Write one page about a run; parts whose stage is not among the inputs are left out.

    Args:
        context: what pipelines knows of the run.
        measure_rules: says what each active rule does, in the order of judgement.
    """

    name: ClassVar[str] = "report"
    version: ClassVar[int] = 7
    runs_in: ClassVar[Literal["worker", "client"]] = "client"

    def __init__(
        self,
        config: ReportConfig,
        inputs: Mapping[str, ShardSet],
        models: Mapping[str, ModelRef],
        seed: int,
        own: ShardSet | None = None,
        *,
        context: ReportContext,
        measure_rules: Callable[[], Sequence[RuleFacts]] = list,
    ) -> None:
        super().__init__(config, inputs, models, seed, own)
        self._context = context
        self._measure_rules = measure_rules

    def waves(self) -> Iterator[Sequence[Task]]:
        """Yield one task over everything the run has made."""
        digests: dict[str, str] = {}
        for shards in self.inputs.values():
            for some in shards.all_digests().values():
                digests |= some
        params = dataclasses.asdict(self._context)
        yield [Task(shard=_SHARD, inputs=digests, params=params)]

    def run(self, task: Task, place: Place) -> Counter[str]:
        """Render the page, with smaller thumbnails until it is small enough."""
        rules = self._measure_rules()
        fixed, choice = self._fixed_parts(rules), self._choose(rules)
        side_px = self.config.thumbnail_px
        page = render_page(fixed | self._picture_parts(choice, side_px))
        while len(page) > self.config.max_bytes and side_px // 2 >= _MIN_SIDE_PX:
            side_px //= 2
            page = render_page(fixed | self._picture_parts(choice, side_px))
        (place.out / PAGE).write_bytes(page)
        return Counter({"in": len(self.inputs), "kept": len(self.inputs)})

    def _fixed_parts(self, rules: Sequence[RuleFacts]) -> dict[str, Any]:
        context, inputs = self._context, self.inputs
        curation = {name: item for name, item in inputs.items() if name not in _MODEL_STAGES}
        results = self._results()
        funnel = measure_funnel(curation)
        dropped = next((row.dropped for row in funnel if row.stage == "filter"), {})
        return {
            "title": self.config.title or context.pipeline,
            "context": context,
            "seed": self.seed,
            "headline": describe_run(inputs, results),
            "stages": [describe_stage(name, item) for name, item in inputs.items()],
            "funnel": view_funnel(funnel),
            "came_in": measure_ingest(inputs["ingest"], context.meanings, inputs.get("annotate"))
            if "ingest" in inputs
            else None,
            "rules": view_rules(rules, dropped),
            "max_unsafe": {
                name: MAX_UNSAFE[name]
                for name in list_measures(inputs.get("annotate"))
                if name in MAX_UNSAFE
            },
            "histograms": view_histograms(
                inputs.get("annotate"), {facts.column for facts in rules}
            ),
            "matching": measure_matching(inputs.get("annotate")),
            "contamination": measure_contamination(inputs.get("decontaminate")),
            "bounds": describe_bounds(inputs.get("dedup")),
            "buckets": measure_buckets(inputs.get("bucket"), context.batch_size),
            "judged": measure_judged(inputs.get("judge"), self.config.num_examples),
            "losses": view_losses(inputs.get("train")),
            "numbers": view_numbers(results.numbers if results else ()),
            "truth": context.truth or (results.truth if results else ()),
            "protocol": describe_protocol(results.protocol if results else {}),
        }

    def _choose(self, rules: Sequence[RuleFacts]) -> PictureChoice:
        config, inputs = self.config, self.inputs
        plain = [facts.name for facts in rules if not (facts.near_dropped or facts.near_kept)]
        return PictureChoice(
            rules=rules,
            dropped=choose_failing(inputs.get("filter"), plain, config.num_examples),
            passed=choose_kept(inputs.get("filter"), config.num_examples),
            kept=choose_kept(_last_judge(inputs), config.num_kept),
            clusters=choose_clusters(inputs.get("dedup"), config.num_clusters, config.num_examples),
            captions=choose_captions(
                inputs.get("judge"), inputs.get("recaption"), config.num_captions
            ),
            repeats=find_repeats(inputs, config.num_repeats, config.num_repeats),
            copies=choose_copies(inputs.get("decontaminate"), config.num_examples),
        )

    def _picture_parts(self, choice: PictureChoice, side_px: int) -> dict[str, Any]:
        config, inputs = self.config, self.inputs
        parts: dict[str, Any] = {
            "samples": view_samples(
                inputs.get("sample"), inputs.get("evaluate"), config.num_prompts, side_px
            ),
            "pictures": {},
            "kept": (),
            "clusters": (),
            "captions": None,
            "repeats": None,
            "copies": (),
        }
        if "ingest" not in inputs:
            return parts
        gallery = open_gallery(
            inputs["ingest"], inputs.get("annotate"), choice.keys, side_px, inputs.get(BLOCKLIST)
        )
        return parts | {
            "pictures": {
                facts.name: view_pictures(
                    facts, choice.dropped.get(facts.name, ()), choice.passed, gallery
                )
                for facts in choice.rules
            },
            "kept": [gallery.view(key) for key in choice.kept],
            "clusters": view_clusters(choice.clusters, gallery),
            "captions": view_captions(choice.captions, gallery),
            "repeats": view_repeats(choice.repeats, gallery),
            "copies": view_copies(choice.copies, gallery),
        }

    def _results(self) -> Results | None:
        shards = self.inputs.get("evaluate")
        return load_results(shards) if shards and shards.store.exists(RESULTS) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Hold one figure of the headline, already in words."""

    value: str
    label: str


def describe_run(inputs: Mapping[str, ShardSet], results: Results | None) -> list[Figure]:
    """Choose the few figures that say what became of the data and of the model."""
    rows = {row.stage: row for row in measure_funnel(inputs)}
    figures: list[Figure] = []
    if "ingest" in rows:
        figures.append(Figure(value=f"{rows['ingest'].num_in:,}", label="rows to ingest"))
    last = next((rows[name] for name in ("bucket", *_JUDGES) if name in rows), None)
    if last is not None and "ingest" in rows:
        share = last.num_kept / max(rows["ingest"].num_in, 1)
        label = f"kept to the end, {format_percent(share)}"
        figures.append(Figure(value=f"{last.num_kept:,}", label=label))
    numbers = results.numbers if results else ()
    for name in ("color.f1", "count.accuracy", "exact_scene"):
        best = next((n for n in numbers if n.name == name and n.value is not None), None)
        if best is not None:
            label = f"{LABELS[name][1]} ({best.variant})"
            figures.append(Figure(value=format_number(best.value), label=label))
    return figures


def _last_judge(inputs: Mapping[str, ShardSet]) -> ShardSet | None:
    return next((inputs[name] for name in _JUDGES if name in inputs), None)


def describe_protocol(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Put the protocol of an evaluation in words, digests shortened."""
    return [(name, _in_words(value)) for name, value in protocol.items()]


def describe_stage(name: str, shards: ShardSet) -> StageFacts:
    """Read from a stage's markers what made it."""
    markers = [shards.marker(shard) for shard in shards.shards()]
    prints = "".join(marker.fingerprint for marker in markers)
    return StageFacts(
        name=name,
        version=markers[0].identity.version if markers else 0,
        num_shards=len(markers),
        fingerprint=hashlib.sha256(prints.encode()).hexdigest() if markers else "",
        models=dict(markers[0].identity.models) if markers else {},
    )


def _in_words(value: Any) -> str:
    """Write nested values as text: "ema (ok 192), untrained (ok 64)"."""
    if isinstance(value, Mapping):
        words = {
            name: f"({_in_words(item)})" if isinstance(item, Mapping) else _in_words(item)
            for name, item in value.items()
        }
        return ", ".join(f"{name} {text}" for name, text in words.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_in_words(item) for item in value) or "none"
    text = str(value)
    return shorten(text) if re.fullmatch(r"[0-9a-f]{64}", text) else text

"""Write the report: one static HTML file that needs nothing else, the `report` stage.

    side tables, markers -> report_curation --+
    metrics.jsonl, samples, results.json      +-> templates/report.html.j2 -> index.html
                         -> report_model   ---+

Pictures are inlined as small thumbnails, charts as SVG; no script, no font, no request. All text
from data is escaped by the template engine. Equal inputs give equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from curate.core.errors import ConfigError
from curate.core.model_ref import ModelRef
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.core.stage import Place, Stage, Task
from eval.curation import (
    Rule,
    choose_clusters,
    choose_examples,
    measure_funnel,
    order_by_hash,
    read_columns,
    read_verdicts,
)
from eval.report_curation import (
    choose_captions,
    open_gallery,
    view_captions,
    view_clusters,
    view_funnel,
    view_histograms,
    view_reasons,
)
from eval.report_model import LABELS, view_losses, view_numbers, view_samples
from eval.results import RESULTS, Results, load_results
from eval.truth import TruthRow

PAGE = "index.html"
TEMPLATE = "report.html.j2"
_SHARD = "00000"
_MODEL_STAGES = ("train", "sample", "evaluate")  # they lose no samples and are no part of a funnel
_MIN_SIDE_PX = 32  # below it a thumbnail shows nothing; the page is then as large as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Size the report.

    Args:
        title: heading; "" takes the pipeline's name.
        num_examples: pictures shown for each reason, dropped and kept each.
        num_kept: pictures shown that passed everything.
        num_clusters: duplicate clusters shown.
        num_captions: pictures shown with all their captions.
        num_prompts: prompts shown with what was drawn for them.
        thumbnail_px: longer side of a thumbnail; halved until the page keeps `max_bytes`.
        max_bytes: size of the page aimed for.

    Source: all chosen by us: one screen a section, and a page that can be mailed.
    """

    title: str = ""
    num_examples: int = 6
    num_kept: int = 16
    num_clusters: int = 6
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
        rules: the active thresholds of filter, in order of judgement.
        truth: measurements against a known truth; those of results.json when empty.
        quarantined: "stage/shard" -> why it was given up; their samples are in no number.
    """

    pipeline: str
    command: str = ""
    config_yaml: str = ""
    rules: Sequence[Rule] = ()
    truth: Sequence[TruthRow] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict[str, str])

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
    """

    name: ClassVar[str] = "report"
    version: ClassVar[int] = 2
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
    ) -> None:
        super().__init__(config, inputs, models, seed, own)
        self._context = context

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
        fixed, side_px = self._fixed_parts(), self.config.thumbnail_px
        page = render_page(fixed | self._picture_parts(side_px))
        while len(page) > self.config.max_bytes and side_px // 2 >= _MIN_SIDE_PX:
            side_px //= 2
            page = render_page(fixed | self._picture_parts(side_px))
        (place.out / PAGE).write_bytes(page)
        return Counter({"in": len(self.inputs), "kept": len(self.inputs)})

    def _fixed_parts(self) -> dict[str, Any]:
        context, inputs = self._context, self.inputs
        curation = {name: item for name, item in inputs.items() if name not in _MODEL_STAGES}
        results = self._results()
        return {
            "title": self.config.title or context.pipeline,
            "context": context,
            "seed": self.seed,
            "headline": describe_run(inputs, results),
            "stages": [describe_stage(name, item) for name, item in inputs.items()],
            "funnel": view_funnel(measure_funnel(curation)),
            "histograms": view_histograms(inputs.get("annotate"), context.rules),
            "losses": view_losses(inputs.get("train")),
            "numbers": view_numbers(results.numbers if results else ()),
            "truth": context.truth or (results.truth if results else ()),
            "protocol": describe_protocol(results.protocol if results else {}),
        }

    def _picture_parts(self, side_px: int) -> dict[str, Any]:
        config, context, inputs = self.config, self._context, self.inputs
        samples = view_samples(
            inputs.get("sample"), inputs.get("evaluate"), config.num_prompts, side_px
        )
        empty = {"reasons": (), "kept": (), "clusters": (), "captions": None}
        ingest = inputs.get("ingest")
        if ingest is None:
            return {"samples": samples, **empty}
        verdicts = read_verdicts(inputs.get("filter"))
        columns = [KEY, *(rule.column for rule in context.rules)]
        scores = read_columns(inputs.get("annotate"), columns)
        groups = choose_examples(verdicts, scores, context.rules, config.num_examples)
        clusters = choose_clusters(inputs.get("dedup"), config.num_clusters, config.num_examples)
        survivors = read_verdicts(inputs.get("dedup")).kept or verdicts.kept
        kept = order_by_hash(survivors)[: config.num_kept]
        captions = choose_captions(inputs.get("recaption"), config.num_captions)
        shown = {item.key for group in groups for item in (*group.dropped, *group.kept)}
        shown |= {key for item in clusters for key in (item.keeper, *(k for k, _ in item.others))}
        gallery = open_gallery(ingest, shown | set(kept) | set(captions.texts), side_px)
        return {
            "samples": samples,
            "reasons": view_reasons(groups, gallery),
            "kept": [gallery.view(key) for key in kept],
            "clusters": view_clusters(clusters, gallery),
            "captions": view_captions(captions, gallery),
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
    last = next((rows[name] for name in ("bucket", "dedup", "filter") if name in rows), None)
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


def render_page(parts: Mapping[str, Any]) -> bytes:
    """Fill the template, UTF-8; every text is escaped but the SVG drawn here.

    Args:
        parts: what `ReportStage` collects, by the names the template uses.
    """
    import jinja2  # here, since the command line imports this module at every start

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": "{:,}".format,
        "percent": format_percent,
        "number": format_number,
        "short": _shorten,
    }
    source = importlib.resources.files("eval") / "templates" / TEMPLATE
    return environment.from_string(source.read_text()).render(parts).encode()


def format_percent(share: float) -> str:
    """Write a share so that a small one is not shown as none."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{share:.1%}".replace("%", " %")


def format_number(value: float | None, name: str = "") -> str:
    """Write a rate with three decimals, a number that rests on a network with four."""
    if value is None:
        return ""
    text = f"{value:.4f}" if "[" in name else f"{value:.3f}"
    return text.replace("-", "\u2212")


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
    return _shorten(text) if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _shorten(digest: str) -> str:
    return digest[:12]

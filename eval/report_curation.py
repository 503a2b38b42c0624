"""Prepare the report's first half for the template: funnel, histograms, examples, captions.

Everything here is plain values and finished SVG; the template only lays them out. A part whose
stage or column is absent comes out empty and is left out of the page.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from eval.charts import draw_histogram
from eval.curation import (
    DuplicateCluster,
    Example,
    FunnelRow,
    Rule,
    RuleExamples,
    list_measures,
    measure_distributions,
    order_by_hash,
    read_columns,
)
from eval.thumbnails import load_thumbnails

# Chosen by us: what a page can hold; judged columns come first and are never cut.
_MAX_HISTOGRAMS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Draw a share of the first stage's samples; `start` and `share` in [0, 1]."""

    kind: str
    label: str
    num: int
    start: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelView:
    """Lay out one stage: its row, and a bar for each way out."""

    row: FunnelRow
    kept: Bar
    losses: Sequence[Bar]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramView:
    """Hold one chart and the words under it."""

    column: str
    svg: str
    limits: str
    num: int
    num_outside: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """Hold one picture with its words; `uri` "" shows an empty frame."""

    uri: str
    caption: str
    mark: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonView:
    """Lay out one reason: dropped pictures and near survivors."""

    reason: str
    column: str
    limits: str
    num_dropped: int
    dropped: Sequence[PictureView]
    kept: Sequence[PictureView]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """Lay out one duplicate cluster."""

    num_members: int
    num_hidden: int
    keeper: PictureView
    others: Sequence[PictureView]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionView:
    """Lay out one picture with its captions, in the order of the columns."""

    uri: str
    texts: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionTable:
    """Hold the caption columns and rows."""

    sources: Sequence[str]
    rows: Sequence[CaptionView]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionChoice:
    """Hold the captions of the chosen pictures: key -> source -> text."""

    sources: Sequence[str]
    texts: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Hold thumbnails and captions of all samples the page shows, by key."""

    uris: Mapping[str, str]
    captions: Mapping[str, str]

    def view(self, key: str, mark: str = "", detail: str = "") -> PictureView:
        """Lay out one sample."""
        return PictureView(
            uri=self.uris.get(key, ""),
            caption=self.captions.get(key, ""),
            mark=mark,
            detail=detail,
        )


def view_funnel(rows: Sequence[FunnelRow]) -> list[FunnelView]:
    """Scale all stages to the largest count, so that bars compare down the page."""
    views: list[FunnelView] = []
    total = max((row.num_in for row in rows), default=0) or 1
    for row in rows:
        start = row.num_kept / total
        losses: list[Bar] = []
        ways = [("failed", row.failed), ("dropped", row.dropped)]
        for kind, counts in ways:
            for label, num in counts.items():
                losses.append(Bar(kind=kind, label=label, num=num, start=start, share=num / total))
                start += num / total
        kept = Bar(kind="kept", label="", num=row.num_kept, start=0, share=row.num_kept / total)
        views.append(FunnelView(row=row, kept=kept, losses=losses))
    return views


def view_histograms(annotate: ShardSet | None, rules: Sequence[Rule]) -> list[HistogramView]:
    """Draw one histogram for each measured column, the judged ones first."""
    columns = list_measures(annotate)
    table = read_columns(annotate, columns)
    if table is None:
        return []
    found = measure_distributions(table, columns, rules)
    judged = sum(bool(item.rules) for item in found)
    return [
        HistogramView(
            column=item.column,
            svg=draw_histogram(item),
            limits=", ".join(describe_limits(rule) for rule in item.rules),
            num=len(item.values),
            num_outside=item.num_outside,
        )
        for item in found[: max(_MAX_HISTOGRAMS, judged)]
    ]


def choose_captions(recaption: ShardSet | None, limit: int) -> CaptionChoice:
    """Choose pictures by hash among those that captions were written for."""
    table = read_columns(recaption, [KEY, STATUS, "source", "text"])
    if table is None or not {"source", "text"} <= set(table.column_names):
        return CaptionChoice(sources=(), texts={})
    texts: dict[str, dict[str, str]] = {}
    sources: dict[str, None] = {}
    for row in table.to_pylist():
        if row["source"]:
            sources[row["source"]] = None
            text = row["text"] if row[STATUS] == OK else f"({row[STATUS]})"
            texts.setdefault(row[KEY], {})[row["source"]] = text or ""
    chosen = order_by_hash(texts)[:limit]
    return CaptionChoice(sources=tuple(sources), texts={key: texts[key] for key in chosen})


def open_gallery(ingest: ShardSet, keys: Collection[str], side_px: int) -> Gallery:
    """Load pictures and captions of all chosen samples in one pass over the shards."""
    return Gallery(
        uris=load_thumbnails(ingest, keys, side_px), captions=read_captions(ingest, keys)
    )


def view_reasons(groups: Sequence[RuleExamples], gallery: Gallery) -> list[ReasonView]:
    """Lay out the examples of each reason."""
    return [
        ReasonView(
            reason=group.reason,
            column=group.rule.column if group.rule else "",
            limits=describe_limits(group.rule) if group.rule else "",
            num_dropped=group.num_dropped,
            dropped=[_view_example(item, gallery) for item in group.dropped],
            kept=[_view_example(item, gallery) for item in group.kept],
        )
        for group in groups
    ]


def view_clusters(clusters: Sequence[DuplicateCluster], gallery: Gallery) -> list[ClusterView]:
    """Lay out duplicate clusters."""
    return [
        ClusterView(
            num_members=item.num_members,
            num_hidden=item.num_members - 1 - len(item.others),
            keeper=gallery.view(item.keeper, mark="kept"),
            others=[gallery.view(key, mark=edge) for key, edge in item.others],
        )
        for item in clusters
    ]


def view_captions(choice: CaptionChoice, gallery: Gallery) -> CaptionTable | None:
    """Put the alt text and the new captions of the chosen pictures side by side."""
    if not choice.texts:
        return None
    rows = [
        CaptionView(
            uri=gallery.uris.get(key, ""),
            texts=[
                gallery.captions.get(key, ""),
                *(texts.get(source, "") for source in choice.sources),
            ],
        )
        for key, texts in choice.texts.items()
    ]
    return CaptionTable(sources=["alt", *choice.sources], rows=rows)


def read_captions(ingest: ShardSet, keys: Collection[str]) -> dict[str, str]:
    """Read the captions that came with the pictures."""
    table = read_columns(ingest, [KEY, "caption"])
    if table is None or "caption" not in table.column_names:
        return {}
    wanted = set(keys)
    pairs = zip(table[KEY].to_pylist(), table["caption"].to_pylist(), strict=True)
    return {key: caption or "" for key, caption in pairs if key in wanted}


def describe_limits(rule: Rule) -> str:
    """Put a rule's bounds in words: "at least 0.26", "at most 0.5", "1 to 3"."""
    if rule.min is not None and rule.max is not None:
        return f"{rule.min:g} to {rule.max:g}"
    return f"at least {rule.min:g}" if rule.min is not None else f"at most {rule.max:g}"


def format_score(value: float) -> str:
    """Write a score with three decimals, or as the whole number it is."""
    return f"{value:.0f}" if value == round(value) else f"{value:.3f}"


def _view_example(item: Example, gallery: Gallery) -> PictureView:
    detail = "" if item.score is None else format_score(item.score)
    return gallery.view(item.key, detail=detail)

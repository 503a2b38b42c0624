"""Lay out what stages did to the samples: funnel, measurements, duplicates, captions.

Everything here is plain values and finished SVG; the template only lays them out. A part whose
stage or column is absent comes out empty and is left out of the page.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from eval.charts import bin_values, draw_histogram
from eval.curation import DuplicateCluster, measure_distributions
from eval.funnel import FunnelRow
from eval.gallery import Gallery, PictureView
from eval.row_stream import read_parts, take_rows

_MAX_HISTOGRAMS = 36  # chosen by us: what a page can hold


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
    """Hold one chart and the number of values in it."""

    column: str
    svg: str
    num: int


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

    picture: PictureView
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


def view_histograms(annotate: ShardSet | None, judged: Collection[str] = ()) -> list[HistogramView]:
    """Draw one histogram for each measured column but those that a rule judges."""
    views: list[HistogramView] = []
    for item in measure_distributions(annotate, judged)[:_MAX_HISTOGRAMS]:
        edges, counts = bin_values(item.values)
        svg = draw_histogram(
            edges,
            counts,
            np.zeros_like(counts),
            name=f"hist-{item.column}",
            title=f"Histogram of {item.column}",
        )
        views.append(HistogramView(column=item.column, svg=svg, num=len(item.values)))
    return views


def choose_captions(
    judge: ShardSet | None, recaption: ShardSet | None, limit: int
) -> CaptionChoice:
    """Choose pictures at random among those that captions were written for.

    Args:
        judge: has captions as they are trained on, or why they are not; None shows raw ones.
        recaption: has captions as the models wrote them.
        limit: pictures, at most.
    """
    written, column = (judge, "text") if judge else (recaption, "text_raw")
    keys: list[str] = []
    for part in read_parts(written, [KEY, "source"]):
        if "source" in part.column_names:
            found = part.filter(part["source"].is_valid())
            keys = sorted({*keys, *found[KEY].unique().to_pylist()})[:limit]
    texts: dict[str, dict[str, list[str]]] = {key: {} for key in keys}
    sources: dict[str, None] = {}
    for row in take_rows(written, keys, [STATUS, "source", column]):
        if row["source"]:
            sources[row["source"]] = None
            text = row[column] if row[STATUS] == OK else f"({row[STATUS]})"
            texts[row[KEY]].setdefault(row["source"], []).append(text or "")
    return CaptionChoice(
        sources=tuple(sources),
        texts={
            key: {source: " / ".join(several) for source, several in own.items()}
            for key, own in texts.items()
        },
    )


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
            picture=gallery.view(key),
            texts=[
                gallery.captions.get(key, ""),
                *(texts.get(source, "") for source in choice.sources),
            ],
        )
        for key, texts in choice.texts.items()
    ]
    return CaptionTable(sources=["alt", *choice.sources], rows=rows)

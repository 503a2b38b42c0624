"""Lay out what each rule of filter does: histogram, nearest samples, languages, hosts, sizes.

RuleFacts (measured where rules live, handed in by pipelines) -> RuleView, fixed
                                                              -> RulePictures, by thumbnail size
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from eval.charts import draw_histogram, shown_range
from eval.gallery import Gallery, PictureView

_MAX_GROUPS = 6  # of a kind; chosen by us: three short tables side by side
_MAX_LIMITS = 6  # thresholds spelt out; chosen by us: a share within 176 languages has 176


@dataclass(frozen=True, slots=True, kw_only=True)
class NearSample:
    """Point at a sample near a threshold; `is_decided` unless another rule drops it as well."""

    key: str
    score: float
    is_decided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """Count a group's samples before and after a rule."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuleFacts:
    """Say what one rule is and does.

    Args:
        name: of the rule, and the reason it gives.
        column: it judges; several for a condition.
        summary: what the column says; "" for rules that hold no number.
        source: where the rule comes from.
        limits: thresholds in words, e.g. ">= 0.28 (en)".
        thresholds: the numbers among them.
        edges: [B + 1], of the histogram; empty for rules that hold no number.
        kept, dropped: [B], samples by score.
        num_passed, num_outside, num_unmeasured: of all good samples, by this rule alone.
        near_kept, near_dropped: nearest first.
        groups: "language", "host", "size" -> counts before and after, in the order of judgement.
    """

    name: str
    column: str
    summary: str = ""
    source: str = ""
    limits: Sequence[str] = ()
    thresholds: Sequence[float] = ()
    edges: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    kept: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, int))
    dropped: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, int))
    num_passed: int = 0
    num_outside: int = 0
    num_unmeasured: int = 0
    near_kept: Sequence[NearSample] = ()
    near_dropped: Sequence[NearSample] = ()
    groups: Mapping[str, Sequence[GroupChange]] = field(
        default_factory=dict[str, Sequence[GroupChange]]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """Lay out a group: how much of it a rule passes, and its share before and after, in [0, 1]."""

    name: str
    before: int
    passed: float
    share_before: float
    share_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTable:
    """Lay out the groups of one kind, those that lose most of their share first."""

    kind: str
    rows: Sequence[GroupRow]
    num_hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """Lay out one rule without its pictures.

    Args:
        num_first: samples for which it is the first rule to fail.
        beyond: thresholds that lie beyond the chart.
    """

    facts: RuleFacts
    limits: Sequence[str]
    num_hidden_limits: int
    num_first: int
    svg: str
    beyond: Sequence[float]
    tables: Sequence[GroupTable]

    @property
    def drops(self) -> bool:
        """Tell whether it is the first to fail for any sample."""
        return self.num_first > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePictures:
    """Lay out a rule's pictures; `is_nearest` unless they were chosen at random."""

    is_nearest: bool
    dropped: Sequence[PictureView]
    kept: Sequence[PictureView]


def view_rules(rules: Sequence[RuleFacts], dropped_first: Mapping[str, int]) -> list[RuleView]:
    """Lay out all rules, in the order of judgement.

    Args:
        rules: what each does.
        dropped_first: reason -> samples dropped for it, also "unmeasured.RULE".
    """
    views: list[RuleView] = []
    for facts in rules:
        low, high = shown_range(facts.edges)
        first = dropped_first.get(facts.name, 0)
        views.append(
            RuleView(
                facts=facts,
                limits=facts.limits[:_MAX_LIMITS],
                num_hidden_limits=max(0, len(facts.limits) - _MAX_LIMITS),
                num_first=first + dropped_first.get(f"unmeasured.{facts.name}", 0),
                svg=_draw(facts),
                beyond=[end for end in facts.thresholds if not low <= end <= high],
                tables=[view_groups(kind, groups) for kind, groups in facts.groups.items()],
            )
        )
    return views


def view_groups(kind: str, groups: Sequence[GroupChange]) -> GroupTable:
    """Lay out the groups of one kind; no rows where a rule drops nothing or there is one group."""
    before, after = sum(item.before for item in groups), sum(item.after for item in groups)
    if before == after or len(groups) < 2:
        return GroupTable(kind=kind, rows=(), num_hidden=0)
    rows = [
        GroupRow(
            name=item.name,
            before=item.before,
            passed=item.after / item.before,
            share_before=item.before / before,
            share_after=item.after / max(after, 1),
        )
        for item in groups
    ]
    rows.sort(key=lambda row: (row.share_after - row.share_before, row.name))
    return GroupTable(
        kind=kind, rows=rows[:_MAX_GROUPS], num_hidden=max(0, len(rows) - _MAX_GROUPS)
    )


def view_pictures(
    facts: RuleFacts, dropped: Sequence[str], kept: Sequence[str], gallery: Gallery
) -> RulePictures:
    """Lay out a rule's pictures.

    Args:
        facts: of the rule.
        dropped: keys to show where the rule has no nearest ones.
        kept: the same of those that passed.
        gallery: holds the pictures.
    """
    if not facts.near_dropped and not facts.near_kept:
        return RulePictures(
            is_nearest=False,
            dropped=[gallery.view(key) for key in dropped],
            kept=[gallery.view(key) for key in kept] if dropped else [],
        )
    return RulePictures(
        is_nearest=True,
        dropped=[_view_near(item, "others drop it too", gallery) for item in facts.near_dropped],
        kept=[_view_near(item, "another drops it", gallery) for item in facts.near_kept],
    )


def format_score(value: float) -> str:
    """Write a score with four digits, or as the whole number it nearly is."""
    is_whole = value == round(value) or abs(value) >= 1000
    text = f"{value:,.0f}" if is_whole else f"{value:.4g}"
    return text.replace("-", "\u2212")


def _view_near(item: NearSample, else_mark: str, gallery: Gallery) -> PictureView:
    mark = "" if item.is_decided else else_mark
    return gallery.view(item.key, detail=format_score(item.score), mark=mark)


def _draw(facts: RuleFacts) -> str:
    if not facts.edges.size:
        return ""
    return draw_histogram(
        facts.edges,
        facts.kept,
        facts.dropped,
        name=f"rule-{facts.name}",
        title=f"Histogram of {facts.column}",
        thresholds=facts.thresholds,
        is_root=True,
    )

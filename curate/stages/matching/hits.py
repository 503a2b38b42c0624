"""Say what a match of a sample with an item of an evaluation set is, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.core.schema import VERDICT_FIELDS
from curate.stages.matching.benchmark_config import DROP, Actions

PICTURE_KINDS = ("bytes", "pixels", "pdq", "phash", "descriptor", "clip")
PROMPT_KINDS = ("exact", "minhash", "ngram")
KINDS = (*PICTURE_KINDS, *PROMPT_KINDS)
"""What gave a match away, the strongest evidence first."""

PICTURE, PROMPT = "contaminated_picture", "contaminated_prompt"
REASONS: Mapping[str, str] = {
    **dict.fromkeys(PICTURE_KINDS, PICTURE),
    **dict.fromkeys(PROMPT_KINDS, PROMPT),
}

ALTERNATES = "alternates"  # dedup's column: captions of dropped duplicates
_HIT_FIELDS = (
    ("benchmark", pa.string()),
    ("item", pa.string()),
    ("kind", pa.string()),
    ("distance", pa.float32()),
)
CONTAMINATION_SCHEMA = pa.schema(
    [
        *VERDICT_FIELDS,
        *_HIT_FIELDS,  # of the hit that decided, or of the strongest that is flagged
        ("hits", pa.list_(pa.struct(list(_HIT_FIELDS)))),  # all
        (ALTERNATES, pa.list_(pa.string())),  # as dedup has them, without those that are prompts
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Name a match.

    Args:
        row: of the sample.
        benchmark: name of the evaluation set.
        item: of it.
        kind: among KINDS.
        distance: bits of a PDQ hash or pHash; 1 - cosine, 1 - similarity; 0 for what is equal.
    """

    row: int
    benchmark: str
    item: str
    kind: str
    distance: float = 0.0

    @property
    def is_prompt(self) -> bool:
        """Tell whether the item is a prompt and no picture."""
        return self.kind in PROMPT_KINDS

    def to_row(self) -> dict[str, Any]:
        """Give the columns of the match."""
        return {name: getattr(self, name) for name, _ in _HIT_FIELDS}


def keep_strongest(hits: Iterable[Hit]) -> dict[int, list[Hit]]:
    """Keep one match for each sample and item, by the strongest evidence.

    Returns:
        Row of a sample -> its hits, the strongest first; equal ones by name, so that no order of
        search shows.
    """
    found: dict[tuple[int, str, str, bool], Hit] = {}
    for hit in sorted(hits, key=_rank):
        found.setdefault((hit.row, hit.benchmark, hit.item, hit.is_prompt), hit)
    by_row: dict[int, list[Hit]] = {}
    for hit in found.values():
        by_row.setdefault(hit.row, []).append(hit)
    return by_row


def decide(hits: Sequence[Hit], actions: Actions) -> dict[str, Any]:
    """Judge a sample by its hits: the columns of its verdict beyond key and status.

    Args:
        hits: of one sample, the strongest first; at least one.
        actions: what follows from each kind.
    """
    dropping = [hit for hit in hits if actions.of(hit.kind) == DROP]
    chosen = next(iter([*dropping, *hits]))
    verdict = {"keep": False, "reason": REASONS[chosen.kind]} if dropping else {}
    return {**verdict, **chosen.to_row(), "hits": [hit.to_row() for hit in hits]}


def _rank(hit: Hit) -> tuple[int, float, str, str, int]:
    return KINDS.index(hit.kind), hit.distance, hit.benchmark, hit.item, hit.row

"""Turn "the best 30 %" into thresholds: one cut for each rule, or for each rule and language.

    columns of some shards -> scores by (rule, language) -> count, select -> Cuts

The samples that count are those with the status ok whose score was measured (and, within languages,
whose language was), whatever other rules say of them: so a cut does not depend on other thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.stages.filtering.columns import LANGUAGE, find_ok, find_places, score_values
from curate.stages.filtering.config import DATACOMP, Bounds
from curate.stages.filtering.quantiles import (
    HELD_VALUES,
    Group,
    Read,
    count_measured,
    rank_of_datacomp,
    rank_of_exact,
    select,
)
from curate.stages.filtering.rules import RULES

Cuts = Mapping[str, Mapping[str, float]]
"""Rule -> language ("" over all) -> the last score kept; no entry where none was measured."""

ALL = ""  # the language of a cut over all samples


def column_judged(rule: str, bounds: Bounds) -> str:
    """Name the column that a rule judges."""
    return bounds.column or RULES[rule].column


def columns_of_tops(tops: Mapping[str, Bounds]) -> dict[str, str]:
    """Name the columns that the cuts of some rules are made from, with the key that needs each."""
    wanted: dict[str, str] = {}
    for rule, bounds in tops.items():
        wanted.setdefault(column_judged(rule, bounds), f"filter.{rule}")
        if bounds.within:
            wanted.setdefault(LANGUAGE, f"filter.{rule}.within")
    return wanted


def split_scores(
    table: pa.Table, tops: Mapping[str, Bounds]
) -> Iterator[tuple[Group, NDArray[np.float64]]]:
    """Yield the scores of a table by (rule, language); NaN where nothing was measured."""
    table = table.filter(pa.array(find_ok(table)))
    for rule, bounds in tops.items():
        scores = score_values(table, column_judged(rule, bounds))
        if not bounds.within:
            yield (rule, ALL), scores
            continue
        codes = sorted(table[LANGUAGE].drop_null().unique().to_pylist())
        places = find_places(table[LANGUAGE], codes)
        for place, code in enumerate(codes):
            yield (rule, code), scores[places == place]


def find_cuts(
    read: Read, shares: Mapping[str, Sequence[float]], mode: str, held: int = HELD_VALUES
) -> dict[str, dict[str, list[float]]]:
    """Find the cuts of some shares of each rule's scores.

    Args:
        read: passes over the scores, as `split_scores` gives them.
        shares: rule -> shares to keep, each in (0, 1].
        mode: exact or datacomp, see `quantiles.rank_of_exact` and `rank_of_datacomp`.
        held: so many scores may be kept in memory.

    Returns:
        Rule -> language -> the cut of each share; languages without a measured score are left out.
    """
    counts = count_measured(read)
    ranks = {
        (rule, code): [_rank(rule, share, *count, mode) for share in shares[rule]]
        for (rule, code), count in sorted(counts.items())
        if rule in shares and count[0]
    }
    hold = sum(total for _, total in counts.values()) <= held
    cuts: dict[str, dict[str, list[float]]] = {rule: {} for rule in shares}
    for (rule, code), values in select(read, ranks, hold=hold).items():
        cuts[rule][code] = values
    return cuts


def concat_scores(
    parts: Iterable[tuple[Group, NDArray[np.float64]]],
) -> dict[Group, NDArray[np.float64]]:
    """Join the scores of several shards, group by group, in the order of the groups' names."""
    found: dict[Group, list[NDArray[np.float64]]] = {}
    for group, scores in parts:
        found.setdefault(group, []).append(scores)
    return {group: np.concatenate(found[group]) for group in sorted(found)}


def _rank(rule: str, share: float, num_measured: int, num_all: int, mode: str) -> int:
    """Give the rank from the smallest of the last score in a share."""
    if mode == DATACOMP:
        from_best = min(rank_of_datacomp(share, num_all), num_measured - 1)
    else:
        from_best = rank_of_exact(share, num_measured)
    return num_measured - 1 - from_best if RULES[rule].better == "high" else from_best

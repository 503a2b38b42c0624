"""Hold a score against thresholds: plain ones, ones by language, and the cut of a best share.

Bounds + cuts -> Limit for each language and for the others -> PASSED, OUTSIDE or UNMEASURED
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.stages.filtering.columns import LANGUAGE, find_places, score_values
from curate.stages.filtering.config import Bounds
from curate.stages.filtering.cuts import ALL, column_judged
from curate.stages.filtering.precision import in_precision_of
from curate.stages.filtering.rules import RULES

# What a rule says of a row.
PASSED, OUTSIDE, UNMEASURED = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Hold the lowest and the highest score that passes, and where they come from."""

    low: float = -math.inf
    high: float = math.inf
    note: str = ""

    @property
    def text(self) -> str:
        """Spell it, e.g. ">= 0.28 (en)"."""
        ends = [f">= {self.low:.12g}"] if self.low > -math.inf else []
        ends += [f"<= {self.high:.12g}"] if self.high < math.inf else []
        return " and ".join(ends) + (f" ({self.note})" if self.note and ends else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRule:
    """Hold a number against thresholds, both ends inclusive, in the precision of the column.

    Args:
        column: of the score.
        other: what holds in languages that `by_language` does not name.
        by_language: language code -> what holds there.
        needs_language: whether a sample without a language counts as unmeasured.
    """

    name: str
    column: str
    other: Limit
    by_language: Mapping[str, Limit] = field(default_factory=dict[str, Limit])
    needs_language: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the columns it reads."""
        return (self.column, LANGUAGE) if self.needs_language else (self.column,)

    @property
    def words(self) -> str:
        """Spell what holds in other languages."""
        return self.other.text

    def judge(self, table: pa.Table) -> NDArray[np.uint8]:
        """Judge every row."""
        scores = self.scores(table)
        low, high = self.ends(table)
        outcomes = np.where((scores >= low) & (scores <= high), PASSED, OUTSIDE).astype(np.uint8)
        outcomes[np.isnan(scores) | np.isnan(low)] = UNMEASURED
        return outcomes

    def ends(self, table: pa.Table) -> tuple[Any, Any]:
        """Give the lowest and the highest score that passes.

        Returns:
            Two numbers, or two arrays [N] where they hang on the language; NaN where it is unknown.
        """
        kind = table.schema.field(self.column).type
        limits = self.limits()
        low = in_precision_of(kind, [*(limit.low for limit in limits), np.nan])
        high = in_precision_of(kind, [*(limit.high for limit in limits), np.nan])
        if not self.needs_language:
            return low[-2], high[-2]
        places = self._places(table)
        return low[places], high[places]

    def limits(self) -> list[Limit]:
        """Give what holds in the languages of `by_language`, in its order, and last in others."""
        return [*self.by_language.values(), self.other]

    def scores(self, table: pa.Table) -> NDArray[np.float64]:
        """Give the scores."""
        return score_values(table, self.column)

    def thresholds(self, table: pa.Table) -> pa.Array:
        """Spell the threshold of each row's language."""
        texts = [limit.text for limit in self.limits()]
        if not self.needs_language:
            return pa.repeat(texts[-1], table.num_rows)
        return pa.array([*texts, "by language"]).take(
            pa.array(self._places(table) % (len(texts) + 1))
        )

    def _places(self, table: pa.Table) -> NDArray[np.int64]:
        """Give the place of each row's language among the limits; -1 where it has none."""
        return find_places(table[LANGUAGE], list(self.by_language))


def score_rule(name: str, bounds: Bounds, cuts: Mapping[str, float]) -> ScoreRule:
    """Put one rule's bounds into force.

    Args:
        name: of the rule.
        bounds: what is asked for.
        cuts: language, or "" for all -> the last score that `top_frac` keeps.
    """
    is_high = RULES[name].better == "high"
    plain = Limit(low=_or(bounds.min, -math.inf), high=_or(bounds.max, math.inf))
    languages = bounds.languages()
    limits = {
        code: Limit(low=end, high=plain.high, note=code)
        if is_high
        else Limit(low=plain.low, high=end, note=code)
        for code, end in languages.items()
    }
    limits |= {code: plain for code in cuts if code not in limits and code != ALL}
    share = f"best {bounds.top_frac:.12g}" if bounds.top_frac is not None else ""
    for code, limit in limits.items():
        note = f"{share} of {code}" if code in cuts else share
        limits[code] = _tighten(limit, cuts.get(code, cuts.get(ALL)), note, is_high=is_high)
    other = _tighten(plain, cuts.get(ALL), share, is_high=is_high)
    return ScoreRule(
        name=name,
        column=column_judged(name, bounds),
        other=other,
        by_language=limits,
        needs_language=bool(languages or bounds.within),
    )


def _tighten(limit: Limit, cut: float | None, note: str, *, is_high: bool) -> Limit:
    """Let a share's cut hold too, where there is one; the note names what decides."""
    if cut is None:
        return limit
    if is_high:
        return Limit(low=cut, high=limit.high, note=note) if cut > limit.low else limit
    return Limit(low=limit.low, high=cut, note=note) if cut < limit.high else limit


def _or(value: float | None, other: float) -> float:
    return other if value is None else value

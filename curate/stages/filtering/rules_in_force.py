"""Put the config's rules into force: each judges the columns of a shard, all rows at once.

    FilterConfig + Cuts -> rules in the order of judgement -> PASSED, OUTSIDE or UNMEASURED per row

A rule in force knows which columns it reads, what it says of each row, the score it looked at and
the threshold that held for that row; ledger, `why`, sweep and report ask these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.stages.filtering.columns import LANGUAGE as LANGUAGE_COLUMN
from curate.stages.filtering.columns import find_places
from curate.stages.filtering.config import LANGUAGE, FilterConfig
from curate.stages.filtering.cuts import Cuts
from curate.stages.filtering.expression import Expression, parse_expression
from curate.stages.filtering.expression_values import evaluate
from curate.stages.filtering.rules import RULES
from curate.stages.filtering.score_rule import OUTSIDE, PASSED, UNMEASURED, score_rule
from curate.stages.filtering.uid_lists import find_listed, open_uid_list, parse_uids

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

UIDS, WHERE = "uids", "where"
SOURCE_KEY = "source_key"


class RuleInForce(Protocol):
    """Judge rows by some of their columns."""

    @property
    def name(self) -> str:
        """Give the reason it drops samples for."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the columns it reads."""
        ...

    @property
    def words(self) -> str:
        """Spell what must hold, in languages without a threshold of their own."""
        ...

    def judge(self, table: pa.Table) -> NDArray[np.uint8]:
        """Give PASSED, OUTSIDE or UNMEASURED for every row: [N]; the unmeasured never passes."""
        ...

    def scores(self, table: pa.Table) -> NDArray[np.float64]:
        """Give the numbers it looks at: [N]; NaN where there is none."""
        ...

    def thresholds(self, table: pa.Table) -> pa.Array:
        """Spell what each row must meet: [N] texts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRule:
    """Keep some languages."""

    keep: tuple[str, ...]
    name: str = LANGUAGE
    columns: tuple[str, ...] = (LANGUAGE_COLUMN,)

    @property
    def words(self) -> str:
        """Spell the codes."""
        return f"in {', '.join(self.keep)}"

    def judge(self, table: pa.Table) -> NDArray[np.uint8]:
        """Judge every row."""
        places = find_places(table[LANGUAGE_COLUMN], self.keep)
        outcomes = np.where(places < len(self.keep), PASSED, OUTSIDE).astype(np.uint8)
        outcomes[places < 0] = UNMEASURED
        return outcomes

    def scores(self, table: pa.Table) -> NDArray[np.float64]:
        """Give none: a code is no number."""
        return np.full(table.num_rows, np.nan)

    def thresholds(self, table: pa.Table) -> pa.Array:
        """Spell the codes."""
        return pa.repeat(self.words, table.num_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereRule:
    """Hold a condition over columns."""

    expression: Expression
    name: str = WHERE

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the columns it reads."""
        return self.expression.columns

    @property
    def words(self) -> str:
        """Spell the condition."""
        return self.expression.text

    def judge(self, table: pa.Table) -> NDArray[np.uint8]:
        """Judge every row; null is unmeasured."""
        codes = pc.if_else(evaluate(self.expression, table), PASSED, OUTSIDE)
        return pc.fill_null(codes, UNMEASURED).to_numpy().astype(np.uint8)

    def scores(self, table: pa.Table) -> NDArray[np.float64]:
        """Give none: a condition may look at several numbers."""
        return np.full(table.num_rows, np.nan)

    def thresholds(self, table: pa.Table) -> pa.Array:
        """Spell the condition."""
        return pa.repeat(self.words, table.num_rows)

    def parts(self) -> list[WhereRule]:
        """Give a rule for each condition that `and` joins."""
        return [WhereRule(expression=part) for part in self.expression.parts()]


@dataclass(frozen=True, slots=True, kw_only=True)
class UidRule:
    """Keep the samples whose source_key a list has."""

    path: Path
    name: str = UIDS
    columns: tuple[str, ...] = (SOURCE_KEY,)

    @property
    def words(self) -> str:
        """Spell the name of the list."""
        return f"in {self.path.name}"

    def judge(self, table: pa.Table) -> NDArray[np.uint8]:
        """Judge every row; a source_key that is no uid is unmeasured."""
        uids = parse_uids(table[SOURCE_KEY])
        listed = find_listed(uids, open_uid_list(self.path))
        outcomes = np.where(listed, PASSED, OUTSIDE).astype(np.uint8)
        outcomes[~uids.known] = UNMEASURED
        return outcomes

    def scores(self, table: pa.Table) -> NDArray[np.float64]:
        """Give none: a uid is no number."""
        return np.full(table.num_rows, np.nan)

    def thresholds(self, table: pa.Table) -> pa.Array:
        """Spell the name of the list."""
        return pa.repeat(self.words, table.num_rows)


def put_in_force(config: FilterConfig, cuts: Cuts) -> list[RuleInForce]:
    """Give the active rules in the order of judgement.

    Args:
        config: what is asked for.
        cuts: of the rules with `top_frac`.
    """
    active = config.active_rules()
    rules: list[RuleInForce] = [UidRule(path=Path(config.uids))] if config.uids else []
    for name in RULES:
        if name == "language_score" and config.language.keep:  # right before its own confidence
            rules.append(LanguageRule(keep=tuple(config.language.keep)))
        if name in active:
            rules.append(score_rule(name, active[name], cuts.get(name, {})))
    if config.where:
        rules.append(WhereRule(expression=parse_expression(config.where)))
    return rules


def columns_of(rules: Sequence[RuleInForce]) -> dict[str, str]:
    """Name the columns that some rules read, with the key of the first that needs each."""
    wanted: dict[str, str] = {}
    for rule in rules:
        for column in rule.columns:
            wanted.setdefault(column, f"filter.{rule.name}")
    return wanted

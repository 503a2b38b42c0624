"""Order samples by how much one would like to keep them.

A policy is a list of rules, the most important first; a rule reads one column. Where all rules tie,
the smaller key is better, so that the order never depends on rows or shards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.errors import ConfigError, StageError
from curate.core.schema import KEY

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

KEEPER_COLUMNS: Mapping[str, str] = {
    "resolution": "num_pixels",
    "similarity": "clip.similarity",
    "aesthetic": "aesthetic.score",
    "caption_words": "caption_text.words",
    "licence": "license",
    "source": "source",
}
"""Rule -> the column it reads; `num_pixels` is width * height, one with a dot is of annotate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperPolicy:
    """Say which of several duplicates stays.

    Args:
        rules: names of KEEPER_COLUMNS, the most important first. The larger number is better for
            resolution, similarity, aesthetic and caption_words; a sample without a value is last.
        licences: for rule licence: names, the best first, in any case. A name stands for itself and
            for a URL that has it between slashes (`by-sa`, `zero` of Creative Commons). Other
            stated licences come after them, samples that state none are last.
        sources: for rule source: names, the best first. A name stands for the source itself, for
            all below it (`name/...`, `name#...`) and for a host's subdomains (`x.name`).

    Raises:
        ConfigError: a rule is unknown or comes twice, or names lack their rule, or the reverse.
    """

    rules: Sequence[str] = ("resolution",)
    licences: Sequence[str] = ()
    sources: Sequence[str] = ()

    def __post_init__(self) -> None:
        known = ", ".join(KEEPER_COLUMNS)
        for place, name in enumerate(self.rules):
            if name not in KEEPER_COLUMNS:
                raise ConfigError(
                    f"dedup.keeper: must be among {known}, got {name!r}; fix the name"
                )
            if name in self.rules[:place]:
                raise ConfigError(f"dedup.keeper: names a rule once, got {name} twice; drop one")
        if self.licences and "licence" not in self.rules:
            raise ConfigError(
                "dedup.keeper: must have licence where dedup.keeper_licences is set, "
                f"got {', '.join(self.rules) or 'none'}; add it"
            )
        if bool(self.sources) != ("source" in self.rules):
            raise ConfigError(
                "dedup.keeper: source and dedup.keeper_sources need each other, "
                f"got {', '.join(self.rules) or 'none'} and {len(self.sources)} names; add one"
            )

    def columns(self) -> list[str]:
        """Name the columns that the rules read."""
        return [KEEPER_COLUMNS[name] for name in self.rules]


def check_measured(policy: KeeperPolicy, names: Collection[str]) -> None:
    """Refuse a rule whose column is not there.

    Args:
        policy: the rules.
        names: columns that were measured.

    Raises:
        StageError: nobody measured a column.
    """
    for rule in policy.rules:
        column = KEEPER_COLUMNS[rule]
        if column not in names:
            raise StageError(
                f"dedup.keeper: {rule} reads column {column}, which was not measured; "
                f"add {column.partition('.')[0]} to annotate.annotators or leave {rule} out"
            )


def rank_samples(facts: pa.Table, policy: KeeperPolicy) -> NDArray[np.int64]:
    """Order samples from the best to the worst.

    Args:
        facts: [N]: column `key` without repeats, and the policy's columns.
        policy: the rules.

    Returns:
        [N], row numbers of `facts`.

    Raises:
        StageError: nobody measured a column.
    """
    check_measured(policy, facts.column_names)
    if not len(facts):
        return np.empty(0, np.int64)
    columns = [_score(facts[KEEPER_COLUMNS[rule]], rule, policy) for rule in policy.rules]
    names = [str(place) for place in range(len(columns))]
    table = pa.table([*columns, facts[KEY]], names=[*names, KEY])
    order = [*((name, "descending") for name in names), (KEY, "ascending")]
    return pc.sort_indices(table, sort_keys=order).to_numpy().view(np.int64)


def _score(column: pa.ChunkedArray, rule: str, policy: KeeperPolicy) -> pa.ChunkedArray:
    """Turn a column into numbers, the larger the better, chunk by chunk: texts may pass 2 GB."""
    return pa.chunked_array([_SCORES[rule](chunk, policy) for chunk in column.chunks])


def _number(column: pa.Array, policy: KeeperPolicy) -> pa.Array:
    """Take a number as it is; what is none is null and comes last."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), None, column)


def _licence(column: pa.Array, policy: KeeperPolicy) -> pa.Array:
    """Give 0 where none is stated, 1 for one without a place, more for those with a name."""
    stated = pc.fill_null(pc.utf8_lower(pc.utf8_trim_whitespace(column)), "")
    score = pc.not_equal(stated, "").cast(pa.int32())
    for place, name in enumerate(reversed(policy.licences), start=2):
        wanted = name.strip().lower()
        is_meant = pc.or_(pc.equal(stated, wanted), pc.match_substring(stated, f"/{wanted}/"))
        score = pc.if_else(is_meant, place, score)
    return score


def _source(column: pa.Array, policy: KeeperPolicy) -> pa.Array:
    """Give 0 for a source without a name, more for the named ones."""
    source = pc.fill_null(column, "")
    score = pa.array(np.zeros(len(source), np.int32))
    for place, name in enumerate(reversed(policy.sources), start=1):
        score = pc.if_else(pc.equal(source, name), place, score)
        for mark in "/#":
            score = pc.if_else(pc.starts_with(source, f"{name}{mark}"), place, score)
        score = pc.if_else(pc.ends_with(source, f".{name}"), place, score)
    return score


_SCORES: Mapping[str, Callable[[pa.Array, KeeperPolicy], pa.Array]] = {
    "resolution": _number,
    "similarity": _number,
    "aesthetic": _number,
    "caption_words": _number,
    "licence": _licence,
    "source": _source,
}

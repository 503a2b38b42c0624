"""Find the scores that a share of each source's captions reaches, over all shards, exactly.

sources and scores of all measured shards -> rank of the last that is kept -> its score: the line
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.shard import ShardSet
from curate.stages.filtering.quantiles import (
    HELD_VALUES,
    Group,
    count_measured,
    rank_of_exact,
    select,
)
from curate.stages.judging.verdicts import EVERY

SCORE = "similarity_sentence"
LINES_SCHEMA = pa.schema([("source", pa.string()), ("line", pa.float64())])


def draw_lines(own: ShardSet, names: Sequence[str], shares: Mapping[str, float]) -> pa.Table:
    """Draw each source's line: LINES_SCHEMA, by source. What reaches the line is kept.

    Args:
        own: where the tables of measured attempts are.
        names: of these tables.
        shares: source -> share to keep, in (0, 1]; `EVERY` for each source not named.
    """

    def read() -> Iterator[tuple[Group, NDArray[np.float64]]]:
        for name in names:
            yield from _read_scores(own, name)

    counted = count_measured(read)
    ranks: dict[Group, list[int]] = {}
    for group, (num_measured, _) in sorted(counted.items()):
        share = shares.get(group[0], shares.get(EVERY))
        if share is not None and num_measured:
            # `rank_of_exact` counts from the best, `select` from the smallest.
            ranks[group] = [num_measured - 1 - rank_of_exact(share, num_measured)]
    hold = sum(num for num, _ in counted.values()) <= HELD_VALUES
    found = select(read, ranks, hold=hold)
    rows = [{"source": source, "line": line} for (source, _), (line,) in found.items()]
    return pa.Table.from_pylist(rows, schema=LINES_SCHEMA)


def _read_scores(own: ShardSet, name: str) -> Iterator[tuple[Group, NDArray[np.float64]]]:
    table = own.table(name, ["source", SCORE, "from_web"])
    sources = np.array(table["source"].to_pylist(), object)
    scores = table[SCORE].cast(pa.float64()).to_numpy()
    written = ~table["from_web"].to_numpy()
    for source in sorted(set(sources[written])):
        yield (source, ""), scores[written & (sources == source)]

"""Sort samples into groups that a filter may treat unlike: by language, host and size.

    first pass: which hosts are common -> Grouping -> later pass: the group of every row

Each kind has few groups, so that counts by group stay small whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.stages.filtering.columns import HOST, find_places

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

OTHERS, UNKNOWN = "others", "unknown"
SIZE_EDGES_PX = (64, 128, 256, 512, 1024)  # of the shortest side; chosen by us: training sizes
NUM_HOSTS = 20  # chosen by us: what one can take in


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Name the groups of one kind.

    Args:
        kind: "language", "host" or "size".
        column: that decides.
        names: of the groups; two more follow, for other values and for unknown ones.
        edges: for numbers, where each group but the first begins.
    """

    kind: str
    column: str
    names: tuple[str, ...]
    edges: tuple[float, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Name all groups."""
        return (*self.names, OTHERS, UNKNOWN)

    def places(self, table: pa.Table) -> NDArray[np.int64]:
        """Give the place of each row's group among the labels: [N]."""
        if not self.edges:
            found = find_places(table[self.column], self.names)
        else:
            values = table[self.column].cast(pa.float64()).to_numpy(zero_copy_only=False)
            found = np.searchsorted(self.edges, values, side="right")
            found[np.isnan(values)] = -1
        return np.where(found < 0, len(self.names) + 1, found)


def group_by_value(kind: str, column: str, names: Sequence[str]) -> Grouping:
    """Group by the values of a text column."""
    return Grouping(kind=kind, column=column, names=tuple(names))


def group_by_size(column: str) -> Grouping:
    """Group by the shortest side in pixels."""
    edges = SIZE_EDGES_PX
    between = [f"{low} to {high - 1} px" for low, high in pairwise(edges)]
    names = (f"below {edges[0]} px", *between, f"{edges[-1]} px and more")
    return Grouping(kind="size", column=column, names=names, edges=tuple(map(float, edges)))


def columns_to_group(measured: Sequence[str], ingested: Sequence[str]) -> dict[str, str]:
    """Choose the column of each kind, for kinds that the tables can tell: kind -> column."""
    chosen = {"language": "language.code"} if "language.code" in measured else {}
    if "url" in ingested:
        chosen["host"] = HOST
    if {"original_width", "original_height"} <= set(ingested):
        chosen["size"] = "original_min_side_px"
    elif "pixels.min_side_px" in measured:
        chosen["size"] = "pixels.min_side_px"
    return chosen

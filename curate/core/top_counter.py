"""Count texts over many tables in bounded memory, for the few most common of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

MAX_COUNTED = 20_000
"""Texts counted at once, about 4 MB; then the rarer half is forgotten. Chosen by us."""


class TopCounter:
    """Count texts; exact up to `MAX_COUNTED` of them, beyond it rare ones may be forgotten."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, values: pa.ChunkedArray) -> None:
        """Count one table's values; null does not count."""
        for entry in pc.value_counts(values).to_pylist():
            if entry["values"] is not None:
                self._counts[entry["values"]] += entry["counts"]
        if len(self._counts) > MAX_COUNTED:
            self._counts = Counter(dict(self.most_common(MAX_COUNTED // 2)))

    def most_common(self, limit: int | None = None) -> list[tuple[str, int]]:
        """Give the most common texts with their counts, equals in the order of the texts."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:limit]

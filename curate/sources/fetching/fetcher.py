"""Say what a fetcher is.

URL table -> fetcher.fetch_all(row -> URL) -> row -> Fetched, asked in row order
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Hold one URL's outcome: original bytes, or a status of `statuses.FAILURES` and its detail."""

    data: bytes | None = None
    status: str = "ok"
    error: str = ""


class Fetcher(Protocol):
    """Fetch many URLs; what was learnt of hosts stays with the object from task to task."""

    def fetch_all(
        self, urls: Mapping[int, str], scratch: Path
    ) -> AbstractContextManager[Callable[[int], Fetched]]:
        """Fetch URLs while the block runs, and give their outcomes.

        Args:
            urls: source row -> URL.
            scratch: for what does not fit into memory.

        Returns:
            A function from row to outcome; each row is asked once, in the order of `urls`.
        """
        ...

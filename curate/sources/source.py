"""Say what a source is: it plans tasks in the client and reads their raw samples in a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from curate.core.manifest import Task
from curate.core.stage import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """Hold one sample as found: bytes or the reason why there are none.

    Args:
        row: position in the source, for tracing back.
        source_key: what the source calls the sample (uid, __key__, id); "" where it does not.
        fields: the source's other fields, of JSON types; they survive in the tables.
        members: further members of a tar by extension ("cls", "seg.png"); they survive as they are.
        expected_sha256: what the source says of the bytes, 64 hex characters; "" says nothing.
        data: original bytes; None when status is not "ok".
    """

    key: str
    row: int
    url: str
    caption: str
    source: str
    license: str = ""
    source_key: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    members: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    expected_sha256: str = ""
    data: bytes | None = None
    status: str = "ok"
    error: str = ""


class Source(Protocol):
    """Plan and read one kind of input."""

    def plan(self) -> Sequence[Task]:
        """List tasks; each names the digest of its part of the input."""
        ...

    def read(
        self, task: Task, scratch: Path, rows: Collection[int] | None = None
    ) -> Iterator[RawSample]:
        """Yield the task's samples in source order; failed ones too.

        Args:
            task: one of `plan`.
            scratch: survives kills, belongs to this task.
            rows: only the samples with these `RawSample.row`; None means all.
        """
        ...


@runtime_checkable
class StagedSource(Source, Protocol):
    """Plan helper shards first; `plan` and `read` need them done."""

    def plan_helpers(self) -> Sequence[Task]:
        """List the tasks of the helper shards."""
        ...

    def run_helper(self, task: Task, place: Place, removed: Collection[str]) -> Counter[str]:
        """Write one helper shard; of samples with a key in `removed` it keeps the key alone."""
        ...

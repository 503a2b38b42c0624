"""Read a table of URLs: plan row ranges, fetch each range, keep original bytes.

    parts -> rows of one task -> digest, keys, repeats -> Task    (plan)
    Task -> its rows -> URLs as browsers write them -> fetcher -> RawSample (read)

Every row gives a sample: one without a URL that can be fetched says so, a broken line too.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import make_key, shard_name
from curate.sources.config import IngestConfig
from curate.sources.fetching.fetcher import Fetched, Fetcher
from curate.sources.fetching.fetchers import make_fetcher
from curate.sources.fetching.web_url import WebUrl, read_web_url
from curate.sources.source import RawSample
from curate.sources.tables.repeats import KEY_BYTES, RepeatFinder, url_keys
from curate.sources.tables.row_block import RowBlock
from curate.sources.tables.row_table import Span, Table, changed
from curate.sources.tables.table_files import open_path
from curate.sources.tables.table_presets import TableColumns, resolve_columns

_SHA256 = re.compile(r"[0-9a-f]{64}")


class UrlTableSource:
    """Plan shards over the rows of a table with a column of URLs.

    Args:
        table: of one or many parts, or the path of a file.
        config: names of the columns, rows per shard and how to fetch.
        place: what messages call a file, when it is not its path.

    Raises:
        DataError: the table cannot be read or lacks a column.
    """

    def __init__(self, table: Path | Table, config: IngestConfig, place: str = "") -> None:
        self._table = open_path(table, config, place) if isinstance(table, Path) else table
        self._config = config
        self._columns: dict[int, TableColumns] = {}
        self._fetcher: Fetcher | None = None
        self._columns_of(0)

    def plan(self) -> Sequence[Task]:
        """List tasks; the input digest covers a task's rows, so a changed row reruns one shard.

        Memory: 10 bytes a row, for the keys that tell repeats.
        """
        repeats, found = RepeatFinder(), list[tuple[list[Span], str, int]]()
        for pieces in self._table.shards(self._config.shard_size):
            digest = hashlib.sha256()
            for span, block in pieces:
                repeats.add(self._hash(span, block, digest))
            num_rows = sum(len(block) for _, block in pieces)
            found.append(([span for span, _ in pieces], digest.hexdigest(), num_rows))
        if not found:
            raise DataError(f"{self._table.place}: must have rows, got none; set input=PATH")
        return self._tasks(found, repeats.rows())

    def read(
        self, task: Task, scratch: Path, rows: Collection[int] | None = None
    ) -> Iterator[RawSample]:
        """Fetch the task's rows and yield them in table order."""
        found = [row for row in self._rows(task) if rows is None or row.row in rows]
        wanted = {row.row: row.target.url for row in found if not row.status}
        with self._fetching(wanted, scratch) as fetched:
            for row in found:
                result = Fetched(status=row.status, error=row.error) if row.status else None
                result = result or fetched(row.row)
                yield RawSample(
                    key=row.key,
                    row=row.row,
                    url=row.url,
                    caption=row.caption,
                    source=row.target.host,
                    license=row.license,
                    source_key=row.source_key,
                    fields=row.fields,
                    expected_sha256=row.sha256,
                    data=result.data,
                    status=result.status,
                    error=result.error,
                )

    def _columns_of(self, part: int) -> TableColumns:
        if part not in self._columns:
            reader, place = self._table.reader(part), self._table.parts[part].place
            self._columns[part] = resolve_columns(reader.names, self._config, place)
        return self._columns[part]

    def _hash(self, span: Span, block: RowBlock, digest: Any) -> bytes:
        """Feed all that a block holds to a digest; give the keys of its rows."""
        columns = self._columns_of(span.part)
        keys = url_keys(block.texts(columns.url), block.texts(columns.caption))
        digest.update(keys)
        block.hash_into(digest, {columns.url, columns.caption})
        return keys

    def _tasks(self, found: Sequence[tuple[list[Span], str, int]], repeats: Any) -> Sequence[Task]:
        tasks: list[Task] = []
        start = 0
        for spans, digest, num_rows in found:
            stop = start + num_rows
            first, last = repeats.searchsorted([start, stop])
            params: dict[str, Any] = {"start": start, "stop": stop}
            params["repeats"] = repeats[first:last].tolist()
            if len(self._table.parts) > 1:
                params["parts"] = [span.to_json() for span in spans]
            inputs = {f"rows[{start}:{stop}]": digest}
            tasks.append(Task(shard=shard_name(len(tasks)), inputs=inputs, params=params))
            start = stop
        return tasks

    def _rows(self, task: Task) -> Iterator[_Row]:
        """Read the task's rows again; DataError when they are no longer those of the plan."""
        start, stop = task.params["start"], task.params["stop"]
        spans = [Span(part=p, first=f, last=t) for p, f, t in task.params.get("parts", ())]
        spans = spans or [Span(part=0, first=start, last=stop)]
        pieces = [(span, self._table.read(span)) for span in spans]
        digest = hashlib.sha256()
        keys = [self._hash(span, block, digest) for span, block in pieces]
        if task.inputs[f"rows[{start}:{stop}]"] != digest.hexdigest():
            raise changed(self._table.place)
        repeats = set(task.params["repeats"])
        for (span, block), part_keys in zip(pieces, keys, strict=True):
            yield from _read_rows(start, block, self._columns_of(span.part), part_keys, repeats)
            start += len(block)

    def _fetching(self, wanted: Mapping[int, str], scratch: Path) -> Any:
        if not wanted:
            return contextlib.nullcontext()
        self._fetcher = self._fetcher or make_fetcher(self._config)
        return self._fetcher.fetch_all(wanted, scratch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Hold a row before it is fetched; a status says that it will not be."""

    key: str
    row: int
    url: str
    caption: str
    target: WebUrl
    license: str = ""
    source_key: str = ""
    sha256: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: str = ""
    error: str = ""


def _read_rows(
    start: int, block: RowBlock, columns: TableColumns, keys: bytes, repeats: set[int]
) -> Iterator[_Row]:
    names = (columns.url, columns.caption, columns.license, columns.source_key, columns.sha256)
    cells = zip(*(block.texts(name) for name in names), strict=True)
    fields = block.fields(columns.taken)
    for index, (url, caption, license_, source_key, sha256) in enumerate(cells):
        row = start + index
        is_repeat = row in repeats
        key = keys[index * KEY_BYTES : (index + 1) * KEY_BYTES].hex()
        target = read_web_url(url)
        status, error = _refusal(block.bad.get(index, ""), target, is_repeat)
        yield _Row(
            key=make_key(url, caption, str(row)) if is_repeat else key,
            row=row,
            url=url,
            caption=caption,
            target=target,
            license=license_,
            source_key=source_key,
            sha256=_stated_hash(sha256),
            fields={**columns.read_fields(fields[index]), **_odd_hash(columns.sha256, sha256)},
            status=status,
            error=error,
        )


def _refusal(problem: str, target: WebUrl, is_repeat: bool) -> tuple[str, str]:
    """Give the status of a row that is not fetched, and why; empty for one that is."""
    if problem:
        return "bad_row", problem
    if target.refusal:
        return "bad_url", target.refusal
    return ("repeated_row", "same url and caption as an earlier row") if is_repeat else ("", "")


def _stated_hash(text: str) -> str:
    """Give a table's sha256 in lower case; "" where it states none."""
    text = text.strip().lower()
    return text if _SHA256.fullmatch(text) else ""


def _odd_hash(name: str, text: str) -> dict[str, str]:
    """Keep what a table has in place of a hash."""
    return {} if not text or _stated_hash(text) else {name: text}

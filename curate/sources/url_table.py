"""Read a table of URLs: plan row ranges, fetch each range with img2dataset, keep original bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.dataset as ds

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import make_key, shard_name
from curate.sources.config import IngestConfig
from curate.sources.img2dataset import Fetched, fetch_all
from curate.sources.table import RawSample

_READ_ROWS = 16_384


class UrlTableSource:
    """Plan shards over the rows of a parquet, csv, tsv or jsonl table.

    Args:
        path: the table, or a copy of it.
        config: names of the columns, rows per shard and how to fetch.
        place: what messages call the table, when it is not its path.

    Raises:
        DataError: the table cannot be read or lacks a column.
    """

    def __init__(self, path: Path, config: IngestConfig, place: str = "") -> None:
        self._place = place or str(path)
        self._config = config
        self._dataset = _open_table(path, self._place)
        names = self._dataset.schema.names
        for field in ("url_column", "caption_column"):
            column = getattr(config, field)
            if column not in names:
                raise DataError(
                    f"{self._place}: column {column!r} must exist, got {', '.join(names)}; "
                    f"set ingest.{field}=NAME"
                )
        licence = config.license_column
        self._columns = [config.url_column, config.caption_column]
        self._columns += [licence] if licence in names else []

    def plan(self) -> Sequence[Task]:
        """List tasks; the input digest covers a task's rows, so a changed row reruns one shard."""
        tasks: list[Task] = []
        seen: set[bytes] = set()
        digest, repeats, start, row = hashlib.sha256(), list[int](), 0, -1
        for row, (url, caption, licence) in enumerate(self._rows()):
            if row - start == self._config.shard_size:
                tasks.append(_range_task(len(tasks), start, row, digest.hexdigest(), repeats))
                digest, repeats, start = hashlib.sha256(), [], row
            key = make_key(url, caption)
            digest.update(f"{key}:{licence}\n".encode())
            if bytes.fromhex(key) in seen:
                repeats.append(row)
            seen.add(bytes.fromhex(key))
        if row < 0:
            raise DataError(f"{self._place}: must have rows, got none; set input=PATH")
        tasks.append(_range_task(len(tasks), start, row + 1, digest.hexdigest(), repeats))
        return tasks

    def read(self, task: Task, scratch: Path) -> Iterator[RawSample]:
        """Fetch the task's rows and yield them in table order."""
        start, stop = task.params["start"], task.params["stop"]
        repeats = set(task.params["repeats"])
        rows = {start + i: values for i, values in enumerate(self._rows(start, stop))}
        wanted = {
            row: url
            for row, (url, _, _) in rows.items()
            if row not in repeats and not _refuse_url(url)
        }
        with fetch_all(wanted, scratch, self._config) as fetched:
            for row, (url, caption, licence) in rows.items():
                result = _outcome(row, url, repeats, fetched)
                yield RawSample(
                    key=make_key(url, caption, str(row))
                    if row in repeats
                    else make_key(url, caption),
                    row=row,
                    url=url,
                    caption=caption,
                    source=urlsplit(url).hostname or "" if not _refuse_url(url) else "",
                    license=licence,
                    data=result.data,
                    status=result.status,
                    error=result.error,
                )

    def _rows(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """Yield (url, caption, licence) of rows [start, stop), streaming."""
        position = 0
        try:
            for batch in self._dataset.to_batches(
                columns=self._columns, batch_size=_READ_ROWS, use_threads=False
            ):
                first, last = max(start - position, 0), batch.num_rows
                if stop is not None:
                    last = min(last, stop - position)
                position += batch.num_rows
                if first >= last:
                    if stop is not None and position >= stop:
                        return
                    continue
                part = batch.slice(first, last - first)
                columns = [_texts(part.column(i)) for i in range(part.num_columns)]
                if len(columns) < 3:
                    columns.append([""] * part.num_rows)
                yield from zip(*columns, strict=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self._place}: must be readable to the end, got {_line(error)}; replace it"
            ) from error


def _open_table(path: Path, place: str) -> Any:
    formats = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json"}
    try:
        if path.suffix == ".tsv":
            import pyarrow.csv

            options = pyarrow.csv.ParseOptions(delimiter="\t")
            return ds.dataset(path, format=ds.CsvFileFormat(parse_options=options))
        return ds.dataset(path, format=formats[path.suffix])
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{place}: must be a readable {path.suffix[1:]} table, got {_line(error)}; replace it"
        ) from error


def _range_task(index: int, start: int, stop: int, digest: str, repeats: Sequence[int]) -> Task:
    return Task(
        shard=shard_name(index),
        inputs={f"rows[{start}:{stop}]": digest},
        params={"start": start, "stop": stop, "repeats": list(repeats)},
    )


def _outcome(row: int, url: str, repeats: set[int], fetched: Any) -> Fetched:
    if row in repeats:
        return Fetched(
            data=None, status="repeated_row", error="same url and caption as an earlier row"
        )
    refusal = _refuse_url(url)
    if refusal:
        return Fetched(data=None, status="bad_url", error=refusal)
    return fetched(row)


def _refuse_url(url: str) -> str:
    """Say why a URL is not fetched; only http and https with a host are."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return f"scheme must be http or https, got {parts.scheme or 'none'}"
    return "" if host else "host must be given"


def _texts(column: pa.Array) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

"""Find and read the pictures of an evaluation set: loose files, a list of them, tars or parquet.

    open_pictures -> plan(): parts with digests (client, cheap) -> read(part): items with bytes

Tars and tables are read as ingest reads them. Nothing is fetched: a table of URLs is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.store import Store, open_store
from curate.sources.config import IngestConfig
from curate.sources.files import PICTURE_SUFFIXES, facts_of, is_picture, picture_files, place_of
from curate.sources.source import Source
from curate.sources.table import make_source
from curate.sources.tables.image_table import ImageTableSource
from curate.sources.webdataset import WebDatasetSource
from curate.stages.matching.list_lines import find_bad_byte

LIST = ".txt"
_READ_FILES = 16  # chosen by us: pictures in memory at once; a remote folder reads them together


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Name the pictures that one task hashes.

    Args:
        digest: over their names, sizes and versions.
        params: plain JSON values that say which they are.
    """

    digest: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Hold one picture of an evaluation set.

    Args:
        name: unique in its set: a path, or tar and key.
        data: original bytes; None where there are none.
        error: why there are none.
    """

    name: str
    data: bytes | None
    error: str = ""


class PictureFiles(Protocol):
    """Plan and read the pictures of one evaluation set."""

    def plan(self) -> Sequence[Part]:
        """Cut them into parts, in the order of their names."""
        ...

    def read(self, params: Mapping[str, Any], scratch: Path) -> Iterator[Item]:
        """Yield the items of a part."""
        ...


def open_pictures(name: str, path: str, shard_size: int) -> PictureFiles:
    """Open the pictures of a benchmark.

    Args:
        name: of the benchmark, for messages.
        path: see `Benchmark.pictures`.
        shard_size: pictures of a part; a tar is one part.

    Raises:
        DataError: there is nothing, or nothing that holds pictures.
    """
    field = f"decontaminate.benchmarks.{name}.pictures"
    store = open_store(path)
    if store.is_local and not Path(path).exists():
        raise DataError(f"{field}: must exist, got {path}; fix the path")
    if store.is_local and Path(path).suffix == LIST:
        return _listed(field, Path(path), shard_size)
    if found := _loose(store):
        return LooseFiles(store, found, shard_size)
    try:
        source = make_source(IngestConfig(source=path, shard_size=shard_size))
    except DataError as error:
        raise DataError(f"{field}: {str(error).removeprefix('input: ')}") from error
    if not isinstance(source, (WebDatasetSource, ImageTableSource)):
        raise DataError(
            f"{field}: must hold pictures, tars or a table with a column of pictures, got {path}; "
            "nothing is fetched for a benchmark, ingest it and name its shards"
        )
    return SourceFiles(field, source)


class LooseFiles:
    """Read pictures that are files of their own.

    Args:
        store: the folder that their names start from.
        names: of the pictures.
        shard_size: pictures of a part.
    """

    def __init__(self, store: Store, names: Sequence[str], shard_size: int) -> None:
        self._store = store
        self._names = names
        self._shard_size = shard_size

    def plan(self) -> Sequence[Part]:
        """Cut the names into parts; sizes and modification times or ETags tell versions apart."""
        parts: list[Part] = []
        for start in range(0, len(self._names), self._shard_size):
            names = list(self._names[start : start + self._shard_size])
            facts = [(name, *facts_of(self._store, name)) for name in names]
            parts.append(Part(digest=_digest(facts), params={"files": names}))
        return parts

    def read(self, params: Mapping[str, Any], scratch: Path) -> Iterator[Item]:
        """Yield the files in order.

        Raises:
            DataError: one has gone since the plan.
        """
        names: Sequence[str] = params["files"]
        for start in range(0, len(names), _READ_FILES):
            chosen = names[start : start + _READ_FILES]
            found = self._store.read_many(chosen)
            for name in chosen:
                if name not in found:
                    raise DataError(
                        f"{place_of(self._store, name)}: must stay while the run reads it, got no "
                        "file; run again"
                    )
                yield Item(name=name, data=found[name])


class SourceFiles:
    """Read the pictures of tars or of a table's cells, as ingest does.

    Args:
        field: config field, for messages.
        source: of ingest.
    """

    def __init__(self, field: str, source: Source) -> None:
        self._field = field
        self._source = source

    def plan(self) -> Sequence[Part]:
        """Give a part for each task of the source.

        Raises:
            DataError: there are none.
        """
        tasks = self._source.plan()
        if not tasks:
            raise DataError(f"{self._field}: must hold pictures, got none; fix the path")
        return [
            Part(
                digest=_digest(sorted(task.inputs.items())),
                params={"shard": task.shard, "inputs": dict(task.inputs), **task.params},
            )
            for task in tasks
        ]

    def read(self, params: Mapping[str, Any], scratch: Path) -> Iterator[Item]:
        """Yield the samples of a task; those without a picture say why."""
        rest = {name: value for name, value in params.items() if name not in ("shard", "inputs")}
        task = Task(shard=params["shard"], inputs=params["inputs"], params=rest)
        for sample in self._source.read(task, scratch):
            name = sample.source or str(sample.row)
            error = "" if sample.data is not None else f"{sample.status}: {sample.error}"
            yield Item(name=name, data=sample.data, error=error)


def _loose(store: Store) -> list[str]:
    """List the pictures below a folder; none where it holds tars, or where the path is a file."""
    if store.is_local and not Path(store.url).is_dir():
        return []
    if store.names(".tar"):
        return []
    found = picture_files(store)
    return sorted(name for name in found if is_picture(name))


def _listed(field: str, path: Path, shard_size: int) -> LooseFiles:
    """Read a list of pictures.

    Raises:
        DataError: it is empty, or names a file that is not there or has no picture's ending.
    """
    store = open_store(path.parent)
    names: list[str] = []
    for number, line in enumerate(_text_of(field, path).splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        if not is_picture(name) or not store.exists(name):
            raise DataError(
                f"{field}: line {number} of {path} must name a picture that is there "
                f"({', '.join(PICTURE_SUFFIXES)}), got {name[:200]!r}; fix the line"
            )
        names.append(name)
    if not names:
        raise DataError(f"{field}: must list pictures, got none in {path}; fix the file")
    return LooseFiles(store, sorted(set(names)), shard_size)


def _text_of(field: str, path: Path) -> str:
    """Read a list without its byte order mark.

    Raises:
        DataError: it is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = find_bad_byte(path)
        raise DataError(
            f"{field}: line {line} of {path} must be UTF-8 text, got byte {byte:#04x}; convert it"
        ) from error


def _digest(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

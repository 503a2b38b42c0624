"""Read and write shards: `NNNNN.tar` (members) + `NNNNN.parquet` (one row for every sample).

The writer fills a temporary folder and knows nothing of commits; `core/stage.py` moves finished
files into place and writes the marker last. Tar headers are deterministic (ustar, mtime 0, owner
0), so equal samples give equal bytes. WebDataset readers open the tars as they are.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import ShardError
from curate.core.manifest import Marker, load_marker
from curate.core.schema import KEY, STATUS, is_key

_BLOCK = tarfile.BLOCKSIZE


class ShardWriter:
    """Write one shard's rows and members, in the order given.

    Args:
        folder: where the files go; it exists.
        name: shard name, e.g. "00042".
        schema: side-table schema; has string columns `key` and `status`.
        with_tar: False for stages that write columns only.
        unique_keys: False for tables with several rows a sample (recaption attempts).

    Raises:
        ShardError: a row without key or status, a malformed or repeated key, a bad member name.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        schema: pa.Schema,
        *,
        with_tar: bool,
        unique_keys: bool = True,
    ) -> None:
        self._table_path = folder / f"{name}.parquet"
        self._tar_path = folder / f"{name}.tar"
        self._schema = schema
        self._rows: list[Mapping[str, Any]] = []
        self._keys: set[str] = set()
        self._unique_keys = unique_keys
        self._stream = self._tar_path.open("wb") if with_tar else None

    def write(
        self, row: Mapping[str, Any], members: Mapping[str, bytes] | None = None
    ) -> dict[str, tuple[int, int]]:
        """Append one row and its members.

        Args:
            row: values by column name; absent columns become null. Read when the shard is
                closed, so the caller may still put member offsets into it.
            members: extension without leading dot ("jpg", "alt.npy") -> bytes.

        Returns:
            Extension -> (offset, size) of each member's payload in the tar, in bytes.
        """
        key = row.get(KEY)
        if not isinstance(key, str) or not is_key(key) or not row.get(STATUS):
            raise ShardError(
                f"{self._table_path}: a row needs a key of 20 hex characters and a status, "
                f"got key {key!r}, status {row.get(STATUS)!r}; make keys with make_key"
            )
        if self._unique_keys and key in self._keys:
            raise ShardError(f"{self._table_path}: keys must be unique, got {key} twice")
        self._keys.add(key)
        self._rows.append(row)
        return {ext: self._append(f"{key}.{ext}", data) for ext, data in (members or {}).items()}

    def close(self) -> None:
        """Write the table and the end of the tar."""
        if self._stream is not None:
            self._stream.write(b"\0" * (2 * _BLOCK))
            self._stream.close()
            self._stream = None
        table = pa.Table.from_pylist(list(self._rows), schema=self._schema)
        pq.write_table(table, self._table_path, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif self._stream is not None:
            self._stream.close()

    def _append(self, name: str, data: bytes) -> tuple[int, int]:
        if self._stream is None:
            raise ShardError(f"{self._tar_path}: this shard has no tar, got member {name!r}")
        if name != name.lower() or "/" in name or len(name) > 100:
            raise ShardError(
                f"{self._tar_path}: member names are lower-case, flat and at most 100 characters, "
                f"got {name!r}; rename it at ingest"
            )
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        self._stream.write(info.tobuf(format=tarfile.USTAR_FORMAT))
        offset = self._stream.tell()
        self._stream.write(data)
        self._stream.write(b"\0" * (-len(data) % _BLOCK))
        return offset, len(data)


class ShardSet:
    """Open a folder of finished shards for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"ShardSet({str(self.folder)!r})"

    def shards(self) -> list[str]:
        """List the finished shards (those with a marker), sorted; helper shards `_x` left out."""
        names = (path.name.removesuffix(".done.json") for path in self.folder.glob("*.done.json"))
        return sorted(name for name in names if not name.startswith("_"))

    def marker(self, shard: str) -> Marker:
        """Load the shard's marker."""
        return load_marker(self.folder / f"{shard}.done.json")

    def digests(self, shard: str, *suffixes: str) -> dict[str, str]:
        """Give name -> sha256 of a shard's files, from its marker, for use as task inputs."""
        files = self.marker(shard).files
        return {
            f"{self.folder.name}/{name}": file.sha256
            for name, file in files.items()
            if not suffixes or name.removeprefix(shard) in suffixes
        }

    def table_path(self, shard: str) -> Path:
        """Give the path of the shard's side table."""
        return self.folder / f"{shard}.parquet"

    def tar_path(self, shard: str) -> Path:
        """Give the path of the shard's tar."""
        return self.folder / f"{shard}.tar"

    def table(self, shard: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the shard's side table, or some columns of it.

        Raises:
            ShardError: the file cannot be read as parquet or lacks a column.
        """
        path = self.table_path(shard)
        try:
            table = pq.read_table(path, columns=list(columns) if columns else None)
        except (pa.ArrowException, OSError) as error:
            raise ShardError(
                f"{path}: must be a readable parquet file, got {error}; rerun its stage"
            ) from error
        missing = sorted(set(columns or ()) - set(table.column_names))
        if missing:
            raise ShardError(f"{path}: needs columns {missing}; rerun its stage")
        return table

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Yield (shard, table) of every finished shard, one at a time."""
        for shard in self.shards():
            yield shard, self.table(shard, columns)

    def members(self, shard: str) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield (key, {extension: bytes}) of a shard's tar in file order."""
        yield from read_members(self.tar_path(shard))


def read_members(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, {extension: bytes}) of one of our tars; a key ends at the first dot.

    Raises:
        ShardError: the tar is cut or is no tar.
    """
    key, members = "", dict[str, bytes]()
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                name, _, ext = info.name.partition(".")
                if name != key and members:
                    yield key, members
                    members = {}
                key = name
                stream = tar.extractfile(info)
                members[ext] = stream.read() if stream else b""
    except (tarfile.TarError, OSError) as error:
        raise ShardError(
            f"{path}: must be a whole tar file, got {error}; rerun its stage"
        ) from error
    if members:
        yield key, members


def npy_bytes(array: Any) -> bytes:
    """Serialise an array as an `.npy` file without pickle."""
    import numpy as np

    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()

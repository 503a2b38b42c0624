"""Read and write shards: `NNNNN.tar` (members) + `NNNNN.parquet` (one row for every sample).

The writer fills a temporary folder and knows nothing of commits; `core/commit.py` moves finished
files into place and writes the marker last. Tar headers are deterministic (ustar, mtime 0, owner
0), so equal samples give equal bytes. WebDataset readers open the tars as they are. The table's
`members` column says where each member lies in the tar, and its xxh3 digest.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tarfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import xxhash

from curate.core.errors import ShardError
from curate.core.manifest import (
    Marker,
    find_markers,
    finished_shards,
    load_marker,
    marker_name,
)
from curate.core.schema import KEY, KEY_PATTERN, STATUS, is_key
from curate.core.store import LocalStore, Store
from curate.core.tar_writer import TarDigest, TarWriter

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
MEMBERS = "members"
MEMBERS_FIELD = pa.field(
    MEMBERS,
    pa.list_(
        pa.struct(
            [("ext", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64()),
             ("xxh3", pa.uint64())]
        )
    ),
)  # fmt: skip


class ShardWriter:
    """Write one shard's rows and members, in the order given.

    Args:
        folder: where the files go; it exists.
        name: shard name, e.g. "00042".
        schema: side-table schema; has string columns `key` and `status`.
        with_tar: False for stages that write columns only; True adds the column `members`.
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
        self._schema = schema.append(MEMBERS_FIELD) if with_tar else schema
        self._rows: list[Mapping[str, Any]] = []
        self._members: list[list[dict[str, Any]]] = []
        self._tables: list[pa.Table] = []
        self._keys: set[str] = set()
        self._unique_keys = unique_keys
        self._tar = TarWriter(self._tar_path) if with_tar else None
        self._tar_digest: TarDigest | None = None

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
        index = [self._append(f"{key}.{ext}", data) for ext, data in (members or {}).items()]
        self._rows.append(row)
        self._members.append(index)
        return {entry["ext"]: (entry["offset"], entry["bytes"]) for entry in index}

    def write_table(self, table: pa.Table) -> None:
        """Append many rows at once; for shards without a tar, and not mixed with `write`.

        Args:
            table: all columns of the schema, keys and statuses of the form `write` asks for.
        """
        assert self._tar is None, f"{self._tar_path}: write_table is for shards without a tar"
        assert not self._rows, f"{self._table_path}: write and write_table do not mix"
        keys = table[KEY]
        fits = pc.match_substring_regex(keys, KEY_PATTERN)
        named = pc.not_equal(table[STATUS], "")
        if not pc.all(pc.and_(fits, named), skip_nulls=False).as_py() and len(keys):
            raise ShardError(
                f"{self._table_path}: every row needs a key of 20 hex characters and a status; "
                "make keys with make_key"
            )
        if self._unique_keys and len(pc.unique(keys)) < len(keys):
            raise ShardError(f"{self._table_path}: keys must be unique, got one twice")
        self._tables.append(table.select(self._schema.names).cast(self._schema))

    @property
    def tar_digest(self) -> TarDigest:
        """Give the digest of the closed tar."""
        assert self._tar_digest is not None, f"{self._tar_path}: no tar, or not closed yet"
        return self._tar_digest

    def close(self) -> None:
        """Write the table and the end of the tar."""
        if self._tar is not None:
            self._tar_digest = self._tar.close()
            self._tar = None
        pq.write_table(self._table(), self._table_path, compression="zstd")

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
        elif self._tar is not None:
            self._tar.abandon()

    def _table(self) -> pa.Table:
        if self._tables:
            return pa.concat_tables(self._tables)
        if MEMBERS not in self._schema.names:
            return pa.Table.from_pylist(self._rows, schema=self._schema)
        rows = pa.Table.from_pylist(self._rows, schema=self._schema.remove(len(self._schema) - 1))
        index = pa.array(self._members, MEMBERS_FIELD.type)
        return rows.append_column(MEMBERS_FIELD, index).cast(self._schema)

    def _append(self, name: str, data: bytes) -> dict[str, Any]:
        if self._tar is None:
            raise ShardError(f"{self._tar_path}: this shard has no tar, got member {name!r}")
        return {
            "ext": name.partition(".")[2],
            "offset": self._tar.add(name, data),
            "bytes": len(data),
            "xxh3": xxhash.xxh3_64_intdigest(data),
        }


class ShardSet:
    """Open a folder of finished shards for reading, local or behind a URL."""

    def __init__(self, place: Store | Path) -> None:
        self.store = LocalStore(place) if isinstance(place, Path) else place

    def __repr__(self) -> str:
        return f"ShardSet({self.store.url!r})"

    @property
    def url(self) -> str:
        """Give the folder's path or URL, for messages."""
        return self.store.url

    def shards(self) -> list[str]:
        """List the finished shards (those with a marker), sorted; helper shards `_x` left out."""
        return [name for name in finished_shards(self.store) if not name.startswith("_")]

    def marker(self, shard: str) -> Marker:
        """Load the shard's marker."""
        return load_marker(self.store, shard)

    def digests(self, shard: str, *suffixes: str) -> dict[str, str]:
        """Give name -> sha256 of a shard's files, from its marker, for use as task inputs."""
        return self._chosen(self.marker(shard), shard, suffixes)

    def all_digests(self, *suffixes: str) -> dict[str, dict[str, str]]:
        """Give what `digests` gives for every finished shard, read in one go, sorted by shard.

        Raises:
            ShardError: a marker is damaged.
        """
        found: dict[str, dict[str, str]] = {}
        for shard, marker in find_markers(self.store, self.shards()):
            if marker is None:
                raise ShardError(
                    f"{self.url}/{marker_name(shard)}: must be a marker of this version, got none; "
                    "run its stage again"
                )
            found[shard] = self._chosen(marker, shard, suffixes)
        return found

    def table_path(self, shard: str) -> Path:
        """Give a local path of the shard's side table."""
        return self.store.local_path(f"{shard}.parquet")

    def tar_path(self, shard: str) -> Path:
        """Give a local path of the shard's tar."""
        return self.store.local_path(f"{shard}.tar")

    def has_table(self, shard: str) -> bool:
        """Tell whether the shard has a side table."""
        return self.store.exists(f"{shard}.parquet")

    def has_tar(self, shard: str) -> bool:
        """Tell whether the shard has a tar."""
        return self.store.exists(f"{shard}.tar")

    def schema(self, shard: str) -> pa.Schema:
        """Read the schema of the shard's side table."""
        with self._open_table(shard) as source:
            return pq.read_schema(source)

    def table(self, shard: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the shard's side table, or some columns of it; only their bytes are fetched.

        Raises:
            ShardError: the file cannot be read as parquet or lacks a column.
        """
        with self._open_table(shard) as source:
            table = pq.read_table(source, columns=list(columns) if columns else None)
        missing = sorted(set(columns or ()) - set(table.column_names))
        if missing:
            raise ShardError(
                f"{self.url}/{shard}.parquet: needs columns {missing}; rerun its stage"
            )
        return table

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Yield (shard, table) of every finished shard, one at a time."""
        for shard in self.shards():
            yield shard, self.table(shard, columns)

    def local_folder(self, shard: str) -> Path:
        """Give a local folder that holds all files of the shard under their names."""
        marker = self.marker(shard)
        paths = {name: self.store.local_path(name) for name in marker.files}
        if isinstance(self.store, LocalStore):
            return self.store.folder
        folder = next(iter(paths.values())).parent / marker.fingerprint[:16]
        for name, path in paths.items():  # copies lie apart; links bring them together
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                os.link(path, folder / name)
        return folder

    def members(self, shard: str) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield (key, {extension: bytes}) of a shard's tar in file order."""
        yield from read_members(self.tar_path(shard))

    def _chosen(self, marker: Marker, shard: str, suffixes: Sequence[str]) -> dict[str, str]:
        return {
            f"{self.store.name}/{name}": file.sha256
            for name, file in marker.files.items()
            if not suffixes or name.removeprefix(shard) in suffixes
        }

    @contextlib.contextmanager
    def _open_table(self, shard: str) -> Generator[Any]:
        name = f"{shard}.parquet"
        try:
            if self.store.is_local:
                yield self.store.local_path(name)
            else:
                with self.store.open(name) as stream:
                    yield stream
        except (pa.ArrowException, OSError) as error:
            raise ShardError(
                f"{self.url}/{name}: must be a readable parquet file, got {error}; rerun its stage"
            ) from error


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

    whole = np.ascontiguousarray(array)
    return _npy_header(whole.dtype, whole.shape) + whole.tobytes()


@functools.lru_cache(maxsize=1024)
def _npy_header(dtype: Any, shape: tuple[int, ...]) -> bytes:
    """Write an empty array's header, with the shape of a full one."""
    import numpy as np

    if dtype.hasobject:
        raise ValueError(f"an array must hold plain numbers, got {dtype}")
    stream = io.BytesIO()
    described = np.lib.format.dtype_to_descr(dtype)
    said = {"descr": described, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, said)
    return stream.getvalue()

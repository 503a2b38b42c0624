"""Keep the files of one folder behind a URL that fsspec knows: s3, gs, hf, memory and others.

A `RemoteStore` is its URL: it travels to workers and costs nothing until its first use. fsspec
holds one client per process and kind of store; listings are never cached.

Who bears which fault (measured with tests/core/faulty_proxy.py, s3fs 2026.9, botocore 1.43):

    an answer lost, reset, silent, 500 or 503     botocore: 5 attempts, growing pauses
    lost, reset, silent or SlowDown beyond that   s3fs: 5 rounds of botocore's 5 attempts
    500 and refused connections beyond that       `_attempt`: 3 rounds of the library's own
    a body cut short                              s3fs: 5 attempts, then `_attempt`
    an answer lost after the store obeyed         `_attempt`; `create` knows its own mark

Waits are the libraries' own and finite: s3fs gives 5 s to connect and 15 s to a silent socket
(FSSPEC_S3='{"config_kwargs": {"read_timeout": 60}}' changes them, AWS_MAX_ATTEMPTS botocore's
attempts, AWS_ENDPOINT_URL the address). An upload that a kill cut off leaves parts that no one
sees; a bucket rule (AbortIncompleteMultipartUpload) removes them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import io
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.registry import known_implementations, registry

from curate.core.errors import StoreError
from curate.core.remote_copies import drop_copies, fetch_copy, info_of
from curate.core.remote_file import RangeFile

__all__ = ["RemoteStore", "drop_copies"]

_TRIES = 3  # chosen by us: rounds of a library that has itself tried 5 times
_PAUSE_S = 0.5  # chosen by us: doubled after every round
_READ_AHEAD_BYTES = 1 << 20  # chosen by us: a parquet footer and more in one request
_PART_BYTES = 8 << 20  # chosen by us: s3fs holds 10 parts of an upload in memory; S3 allows 10000
_READERS = 16  # chosen by us: small reads wait for the network, not for a core
_S3 = ("s3://", "s3a://")
_VERSIONS = ("ETag", "etag", "md5Hash", "blob_id", "mtime", "last_modified", "created")
_WRITER = "latentmill-writer"
_EXTRAS = {"s3": '"latentmill[s3]"', "s3a": '"latentmill[s3]"'}
_BUCKET_SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "az")
_HTTP_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "httpx", "huggingface_hub", "gcsfs")
_PASSING = (None, errno.EIO, errno.EREMOTEIO, errno.EBUSY, errno.ECONNRESET)
# HTTPClientError: s3fs has made 25 attempts already. The other: no attempt can succeed.
_FINAL_KINDS = frozenset({"HTTPClientError", "NoCredentialsError"})

T = TypeVar("T")


class RemoteStore:
    """Keep the files under one URL of an object store.

    Args:
        url: e.g. "s3://bucket/prefix"; nothing is fetched before the first use.

    Raises:
        StoreError: the scheme is unknown, or its library is not installed.
    """

    is_local = False

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        _check_scheme(self.url)

    def __repr__(self) -> str:
        return f"RemoteStore({self.url!r})"

    @property
    def name(self) -> str:
        """Give the last part of the URL."""
        return self.url.rpartition("/")[2]

    def child(self, name: str) -> RemoteStore:
        """Give the store of a folder below."""
        return RemoteStore(f"{self.url}/{name}")

    def names(self, suffix: str = "") -> list[str]:
        """List the files directly in the folder whose name ends so, sorted; none if absent."""
        entries = self._entries()
        names = [str(e["name"]).rpartition("/")[2] for e in entries if e["type"] == "file"]
        return sorted(name for name in names if name and name.endswith(suffix))

    def is_empty(self) -> bool:
        """Tell whether the folder is absent or holds nothing but hidden files."""
        names = [str(e["name"]).rstrip("/").rpartition("/")[2] for e in self._entries()]
        return all(name.startswith(".") for name in names)

    def exists(self, name: str) -> bool:
        """Tell whether the file is there."""
        try:
            return self._info(name)["type"] == "file"
        except FileNotFoundError:
            return False

    def read(self, name: str) -> bytes:
        """Read a small file whole."""
        return self._attempt("readable", name, lambda system, path: bytes(system.cat_file(path)))

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read small files, many at a time; absent ones are left out."""

        def read(name: str) -> bytes | None:
            try:
                return self.read(name)
            except FileNotFoundError:
                return None

        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(names, pool.map(read, names), strict=True))
        return {name: data for name, data in found.items() if data is not None}

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Read the bytes [start, stop) of a file that has them."""
        return self._attempt(
            "readable", name, lambda system, path: _range(system, path, start, stop)
        )

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading by ranges; one that is replaced meanwhile may mix."""
        info = self._info(name)
        if info["type"] != "file":
            raise FileNotFoundError(f"{self.url}/{name}")
        return io.BufferedReader(RangeFile(self.read_range, name, info["size"]), _READ_AHEAD_BYTES)

    def files(self) -> dict[str, tuple[int, str]]:
        """List all files below, in folders too: name -> (size, what tells versions apart)."""
        return self._attempt("listable", "", _files)

    def facts(self, name: str) -> tuple[int, str]:
        """Give a file's size and what tells its versions apart."""
        return _facts(self._info(name))

    def local_path(self, name: str, *, keep: bool = False) -> Path:
        """Fetch a copy, or give the one fetched before while the object is unchanged.

        Args:
            name: of the file.
            keep: the copy stays until the process ends, not only until `drop_copies`.
        """
        return self._attempt(
            "readable",
            name,
            lambda system, path: fetch_copy(
                system, path, functools.partial(self.read_range, name), keep
            ),
        )

    def write(self, name: str, data: bytes) -> None:
        """Write by one upload, which the store shows whole or not at all."""
        self._attempt("writable", name, lambda system, path: system.pipe_file(path, data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists; of many callers exactly one is told True.

        On S3 a PUT with `If-None-Match: *`, of an object that carries its writer's mark: a caller
        whose answer was lost still learns that it won. A server that ignores the header (s3rver
        does) leaves a window between look and write, and so does memory:// and any fsspec class
        without an exclusive write of its own; gcsfs matches the object's generation.
        """
        mark = uuid.uuid4().hex
        options: dict[str, Any] = {"Metadata": {_WRITER: mark}} if self.url.startswith(_S3) else {}

        def create(system: Any, path: str) -> bool:
            try:
                system.pipe_file(path, data, mode="create", **options)
            except OSError as error:
                if not _is_taken(error):
                    raise
                return bool(options) and system.metadata(path).get(_WRITER) == mark
            return True

        return not self.exists(name) and self._attempt("writable", name, create)

    def put(self, path: Path, name: str) -> None:
        """Upload a local file, in parts when it is large; the local file stays."""
        options = {"chunksize": _PART_BYTES} if self.url.startswith(_S3) else {}
        self._attempt(
            "writable", name, lambda system, to: system.put_file(str(path), to, **options)
        )

    def delete(self, name: str) -> None:
        """Remove a file; one that is absent stays absent."""
        with contextlib.suppress(FileNotFoundError):
            self._attempt("removable", name, lambda system, path: system.rm_file(path))

    def sync(self, names: Iterable[str] = ()) -> None:
        """Do nothing: an upload that returned is durable."""

    def _entries(self) -> list[dict[str, Any]]:
        try:
            return self._attempt("listable", "", _entries)
        except FileNotFoundError:
            return []

    def _info(self, name: str) -> dict[str, Any]:
        return self._attempt("readable", name, info_of)

    def _attempt(self, rule: str, name: str, call: Callable[[Any, str], T]) -> T:
        """Call with (file system, path); repeat what may pass, put the rest into one line.

        Raises:
            FileNotFoundError: the object is absent, in a bucket that exists.
            StoreError: anything else.
        """
        place = f"{self.url}/{name}" if name else self.url
        is_write = rule == "writable"
        for attempt in range(_TRIES):
            try:
                system, root = _open_system(self.url)
                return call(system, f"{root}/{name}" if name else root)
            except Exception as error:
                if isinstance(error, FileNotFoundError):
                    _require_bucket(self.url)
                    if not is_write:
                        raise
                if not _is_fault(error):
                    raise
                # "Not found" while writing: the last request of an upload in parts was obeyed,
                # its answer was lost, and its repetition met no such upload.
                passing = _may_pass(error) or (is_write and isinstance(error, FileNotFoundError))
                if attempt == _TRIES - 1 or not passing:
                    raise StoreError(
                        f"{place}: must be {rule}, got {_line(error)}; "
                        "check the address and the credentials, then run again"
                    ) from error
            time.sleep(_PAUSE_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


def _open_system(url: str) -> tuple[Any, str]:
    """Give fsspec's file system, one per process, and the path that it calls the URL."""
    try:
        return fsspec.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise _no_library(url) from error


def _check_scheme(url: str) -> None:
    """Refuse what cannot work, without the seconds that importing a library may take."""
    scheme = url.partition("://")[0]
    if scheme not in known_implementations and scheme not in registry:
        raise StoreError(
            f"{url}: scheme must be one that fsspec knows (s3, gs, hf, ...), got {scheme}; "
            "correct the URL"
        )
    if scheme not in registry and importlib.util.find_spec(_library(scheme)) is None:
        raise _no_library(url)


def _library(scheme: str) -> str:
    return str(known_implementations[scheme]["class"]).partition(".")[0]


def _no_library(url: str) -> StoreError:
    scheme = url.partition("://")[0]
    library = _library(scheme)
    remedy = f"pip install {_EXTRAS.get(scheme, library)}"
    if library == "fsspec":  # the class is there, what it imports is not; fsspec names it
        remedy = str(known_implementations[scheme].get("err"))
    return StoreError(f"{url}: library of {scheme}:// must be installed, got none; {remedy}")


def _require_bucket(url: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme in _BUCKET_SCHEMES:
        _find_bucket(f"{scheme}://{rest.partition('/')[0]}", os.getpid())


@functools.cache  # a bucket that is there once need not be asked for after every absent object
def _find_bucket(url: str, process: int) -> None:
    system, path = _open_system(url)
    try:
        system.info(path)
    except FileNotFoundError as error:
        raise StoreError(
            f"{url}: bucket must exist, got none of this name; create it or correct the URL"
        ) from error
    except Exception as error:  # one may read objects without being allowed to ask for the bucket
        if not _is_fault(error):
            raise


def _entries(system: Any, path: str) -> list[dict[str, Any]]:
    """List a folder, without its own marker: an empty object that ends in a slash."""
    system.invalidate_cache()
    listed: list[dict[str, Any]] = system.ls(path, detail=True)
    return [entry for entry in listed if str(entry["name"]).strip("/") != path.strip("/")]


def _files(system: Any, path: str) -> dict[str, tuple[int, str]]:
    system.invalidate_cache()
    found: dict[str, Any] = system.find(path, detail=True)
    start = len(path.strip("/")) + 1
    names = {name.strip("/")[start:]: info for name, info in found.items() if name[-1:] != "/"}
    return {name: _facts(info) for name, info in names.items() if name}


def _facts(info: dict[str, Any]) -> tuple[int, str]:
    return info["size"], next((str(info[key]) for key in _VERSIONS if info.get(key)), "")


def _range(system: Any, path: str, start: int, stop: int) -> bytes:
    data = bytes(system.cat_file(path, start=start, end=stop))
    if len(data) != stop - start:
        raise OSError(errno.EIO, f"{len(data)} of {stop - start} bytes")
    return data


def _is_taken(error: OSError) -> bool:
    """Tell that a condition failed; s3fs knows only AWS's form of the answer, not MinIO's."""
    return isinstance(error, FileExistsError) or "(PreconditionFailed)" in str(error.__cause__)


def _is_fault(error: Exception) -> bool:
    """Tell a fault of the store or the network from a programming error."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or library in _HTTP_LIBRARIES


def _may_pass(error: Exception) -> bool:
    if _FINAL_KINDS & {kind.__name__ for kind in type(error).__mro__}:
        return False
    if not isinstance(error, OSError):
        return True
    known = isinstance(error, (PermissionError, FileNotFoundError, FileExistsError))
    return not known and error.errno in _PASSING


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__

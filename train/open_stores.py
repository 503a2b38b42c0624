"""Open the stores that are trained on together: their files, a cache for remote ones, agreement."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import get_worker_info

from curate.core.errors import ConfigError, DataError
from curate.core.latent_manifest import NAME, LatentManifest
from curate.core.range_cache import CachedFiles
from curate.core.record_files import LocalFiles, RecordFiles
from curate.core.remote_copies import private_folder
from curate.core.remote_store import RemoteStore
from curate.core.store import LocalStore, Store
from train.blocks import BLOCK, WINDOW_BLOCKS
from train.reading import ReadConfig
from train.store import LatentStore

# Windows have up to twice WINDOW_BLOCKS blocks, and one begins before the one before it has ended.
_WINDOW_SAMPLES = 2 * 2 * WINDOW_BLOCKS * BLOCK


def open_stores(stores: Sequence[Store], reading: ReadConfig) -> list[LatentStore]:
    """Open latent stores that must agree on what one model learns from.

    Raises:
        ConfigError: a cache that does not hold what is read in turns.
        DataError: no samples, or stores whose facts differ.
        ShardError: a damaged store.
    """
    opened = [LatentStore(store, _open_files(store, reading)) for store in stores]
    for one, store in zip(opened, stores, strict=True):
        if not store.is_local:
            _check_cache(one.manifest, reading.cache_bytes, one.url)
    for other in opened[1:]:
        check_facts(opened[0], other)
    return opened


def check_facts(one: LatentStore, other: LatentStore) -> None:
    """Refuse stores that one model cannot be trained on together.

    Raises:
        DataError: names the field and both values.
    """
    pairs: list[tuple[str, Any, Any]] = [("latents", one.manifest.latents, other.manifest.latents)]
    for what in ("texts", "features"):
        columns, others = getattr(one.manifest, what), getattr(other.manifest, what)
        names, other_names = ([column.name for column in some] for some in (columns, others))
        if names != other_names:
            raise _differs(one, other, what, names, other_names)
        pairs += [
            (f"{what}.{name}", a, b) for name, a, b in zip(names, columns, others, strict=True)
        ]
    for name, a, b in pairs:
        for field in dataclasses.fields(a):
            values = getattr(a, field.name), getattr(b, field.name)
            if field.name not in ("has_flipped", "error") and values[0] != values[1]:
                raise _differs(one, other, f"{name}.{field.name}", *values)


def _open_files(store: Store, reading: ReadConfig) -> RecordFiles:
    """Open a store's tars for reading by range."""
    if isinstance(store, LocalStore):
        return LocalFiles(store.folder, reading.io)
    assert isinstance(store, RemoteStore), f"{store.url}: neither local nor remote"
    # One folder for each version of the store, and for each process that reads it.
    info = get_worker_info()
    version = hashlib.sha256(store.url.encode() + store.read(NAME)).hexdigest()[:16]
    rank = os.environ.get("RANK", "0")  # as torchrun tells its processes
    root = Path(reading.cache_folder) if reading.cache_folder else private_folder() / "ranges"
    folder = root / f"{version}-{rank}-{info.id if info else 'main'}"
    return CachedFiles(store, folder, reading.cache_bytes)


def _check_cache(manifest: LatentManifest, cache_bytes: int, url: str) -> None:
    """Refuse a cache that does not hold the windows that are read in turns.

    Raises:
        ConfigError: says how much they take.
    """
    sizes: dict[str, list[int]] = {}
    for entry in manifest.shards:
        num_bytes = sum(size for name, size in entry.files.items() if name.endswith(".tar"))
        sizes.setdefault(entry.bucket, [0, 0])
        sizes[entry.bucket][0] += entry.num_samples
        sizes[entry.bucket][1] += num_bytes
    needed = sum(
        num_bytes * min(samples, _WINDOW_SAMPLES) // max(samples, 1)
        for samples, num_bytes in sizes.values()
    )
    if needed > cache_bytes:
        raise ConfigError(
            f"train.reading.cache_bytes: must hold the windows of {url} that are read in turns, "
            f"{needed} bytes, got {cache_bytes}; raise it, or copy the store to a disk"
        )


def _differs(one: LatentStore, other: LatentStore, field: str, a: Any, b: Any) -> DataError:
    return DataError(
        f"{other.url}: {field} must be that of {one.url}, {a}, got {b}; encode both with the same "
        "models and options"
    )

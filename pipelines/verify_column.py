"""Name the damaged records of a tar that has an index: digest by digest, as it was written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import DataError, ShardError
from curate.core.index_tars import index_arrays, index_captions
from curate.core.record_index import SUFFIX, RecordIndex, open_index
from curate.core.store import Store


def damaged_records(store: Store, shard: str, name: str) -> list[str]:
    """List the keys of the records whose numbers are no longer what the index says.

    Args:
        store: the stage's folder.
        shard: whose tar it is; the keys stand in the index of its main tar.
        name: of the tar in the folder; its index lies beside it.

    Raises:
        ShardError: the index is damaged too, or the tar cannot be read to its end.
        DataError: likewise.
    """
    written = open_index(store.local_path(name.removesuffix(".tar") + SUFFIX))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "now.idx"
        now = open_index(_index_again(store.local_path(name), written, target))
        rows = _differing(written.arrays, now.arrays)
    main = written
    if "key" not in written.arrays:
        main = open_index(store.local_path(f"{shard}{SUFFIX}"))
    return [bytes(main.arrays["key"][row]).hex() for row in rows]


def describe_damage(store: Store, shard: str, name: str) -> str:
    """Say in words which records of a damaged tar are damaged."""
    try:
        found = damaged_records(store, shard, name)
    except (ShardError, DataError) as error:
        return f"its records cannot be told apart: {error}"
    if not found:
        return "no record is damaged, only headers, texts or padding"
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"damaged records: {', '.join(found[:5])}{more}"


def _index_again(tar: Path, written: RecordIndex, target: Path) -> Path:
    if "captions" in written.arrays:
        return index_captions(tar, {}, target)
    return index_arrays(tar, {}, list(written.facts["members"]), target=target)


def _differing(written: Mapping[str, NDArray[Any]], now: Mapping[str, NDArray[Any]]) -> list[int]:
    """Give the rows of samples with a digest that differs."""
    if "captions" in written:
        same = written["captions"]["xxh3"] == now["captions"]["xxh3"]
        owners = np.searchsorted(written["first"], np.flatnonzero(~same), side="right") - 1
        return sorted(set(owners.tolist()))
    digests = [name for name in written if name.endswith(".xxh3")]
    differs = np.any([written[name] != now[name] for name in digests], axis=0)
    return np.flatnonzero(differs).tolist()

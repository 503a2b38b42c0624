"""Read existing WebDataset tars with the webdataset library; bytes pass through undecoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import make_key, shard_name
from curate.core.store import Store
from curate.sources.files import facts_of, place_of
from curate.sources.table import PICTURE_SUFFIXES, RawSample

_END_BYTES = 1024


class WebDatasetSource:
    """Plan one shard per tar.

    Args:
        store: the folder that holds them.
        tars: names, in the order of the output shards.
    """

    def __init__(self, store: Store, tars: Sequence[str]) -> None:
        self._store = store
        self._tars = list(tars)

    def plan(self) -> Sequence[Task]:
        """List tasks; a task's input digest covers the tar's size and modification time or ETag."""
        tasks: list[Task] = []
        for index, name in enumerate(self._tars):
            size, version = facts_of(self._store, name)
            facts = f"{name}:{size}:{version}"
            tasks.append(
                Task(
                    shard=shard_name(index),
                    inputs={name: hashlib.sha256(facts.encode()).hexdigest()},
                    params={"tar": name},
                )
            )
        return tasks

    def read(self, task: Task, scratch: Path) -> Iterator[RawSample]:
        """Yield the tar's samples; the caption is the `.txt` member or the `caption` of `.json`."""
        from webdataset.compat import WebDataset

        name: str = task.params["tar"]
        place = place_of(self._store, name)
        path = self._store.local_path(name)
        _check_end(path, place)
        stream = WebDataset(str(path), shardshuffle=False, empty_check=False)
        try:
            for row, sample in enumerate(stream):
                yield _raw_sample(sample, name, row)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{place}: must be a whole WebDataset tar, got {error}; replace it"
            ) from error


def _check_end(path: Path, place: str) -> None:
    """Refuse a cut tar, which readers take for a short one.

    Source: POSIX ustar: an archive ends with two blocks of 512 zero bytes.
    """
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - _END_BYTES, 0))
        if stream.read() != bytes(_END_BYTES):
            raise DataError(
                f"{place}: must be a whole WebDataset tar, got one without end; replace it"
            )


def _raw_sample(sample: dict[str, Any], tar: str, row: int) -> RawSample:
    name = str(sample["__key__"])
    pictures = [ext for ext in sample if f".{ext.lower()}" in PICTURE_SUFFIXES]
    meta = _json_object(sample.get("json", b"{}"))
    text = sample.get("txt", b"").decode("utf-8", errors="replace").strip()
    data = sample[pictures[0]] if pictures else None
    return RawSample(
        key=make_key(tar, name),
        row=row,
        url=str(meta.get("url") or ""),
        caption=text or str(meta.get("caption") or ""),
        source=f"{tar}/{name}",
        license=str(meta.get("license") or ""),
        data=data,
        status="ok" if data is not None else "no_picture",
        error="" if data is not None else f"members: {', '.join(sorted(sample))}",
    )


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:  # a broken .json costs its fields, not the sample
        return {}
    return value if isinstance(value, dict) else {}

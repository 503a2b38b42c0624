"""Read a folder of pictures; a caption is the text file of the same stem beside the picture."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import make_key, shard_name
from curate.core.store import Store, open_store
from curate.sources.files import (
    PICTURE_SUFFIXES,
    Facts,
    caption_name,
    is_picture,
    picture_files,
    place_of,
)
from curate.sources.source import RawSample

_READ_FILES = 16  # chosen by us: pictures in memory at once; a remote folder reads them together


class FolderSource:
    """Plan shards over the sorted pictures below a folder.

    Args:
        folder: path or store, searched recursively; hidden files and links that lead outside are
            left out.
        shard_size: pictures per shard.
    """

    def __init__(self, folder: Path | Store, shard_size: int) -> None:
        self._store = open_store(folder) if isinstance(folder, Path) else folder
        self._shard_size = shard_size

    def plan(self) -> Sequence[Task]:
        """List tasks; a task's input digest covers names, sizes and modification times or ETags.

        Raises:
            DataError: the folder holds no pictures.
        """
        found = picture_files(self._store)
        files = sorted(name for name in found if is_picture(name))
        if not files:
            raise DataError(
                f"{self._store.url}: must hold pictures ({', '.join(PICTURE_SUFFIXES)}) "
                "or .tar shards, got none; set input=PATH"
            )
        repeats = _repeated_files(self._store, {name: found[name][0] for name in files})
        tasks: list[Task] = []
        for start in range(0, len(files), self._shard_size):
            chosen = files[start : start + self._shard_size]
            tasks.append(
                Task(
                    shard=shard_name(len(tasks)),
                    inputs={f"files[{start}:{start + len(chosen)}]": _digest(chosen, found)},
                    params={
                        "start": start,
                        "files": chosen,
                        "repeats": sorted(repeats & set(chosen)),
                    },
                )
            )
        return tasks

    def read(
        self, task: Task, scratch: Path, rows: Collection[int] | None = None
    ) -> Iterator[RawSample]:
        """Yield the task's pictures with their captions."""
        repeats = set(task.params["repeats"])
        for row, (name, data, caption) in enumerate(
            self._read_files(task.params["files"]), start=task.params["start"]
        ):
            if rows is not None and row not in rows:
                continue
            repeated = name in repeats
            yield RawSample(
                key=make_key(data, name) if repeated else make_key(data),
                row=row,
                url="",
                caption=caption,
                source=name,
                data=None if repeated else data,
                status="repeated_file" if repeated else "ok",
                error="same bytes as an earlier file" if repeated else "",
            )

    def _read_files(self, names: Sequence[str]) -> Iterator[tuple[str, bytes, str]]:
        """Yield (name, bytes, caption)."""
        for start in range(0, len(names), _READ_FILES):
            chosen = names[start : start + _READ_FILES]
            found = self._store.read_many([*chosen, *map(caption_name, chosen)])
            for name in chosen:
                if name not in found:
                    raise DataError(
                        f"{place_of(self._store, name)}: must stay while the run reads it, got "
                        "no file; run again"
                    )
                caption = found.get(caption_name(name), b"")
                yield name, found[name], caption.decode("utf-8", errors="replace").strip()


def _digest(names: Sequence[str], found: Mapping[str, Facts]) -> str:
    paths = [path for name in names for path in (name, caption_name(name)) if path in found]
    facts = [(PurePosixPath(path).name, *found[path]) for path in paths]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _repeated_files(store: Store, sizes: Mapping[str, int]) -> set[str]:
    """Find files whose bytes an earlier file has; only files of equal size are read."""
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for name, size in sizes.items():
        by_size[size].append(name)
    repeated: set[str] = set()
    for same_size in by_size.values():
        seen: set[str] = set()
        for name in same_size if len(same_size) > 1 else ():
            digest = hashlib.sha256(store.read(name)).hexdigest()
            if digest in seen:
                repeated.add(name)
            seen.add(digest)
    return repeated

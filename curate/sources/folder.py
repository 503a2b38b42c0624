"""Read a folder of pictures; a caption is the text file of the same stem beside the picture."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import make_key, shard_name
from curate.sources.table import PICTURE_SUFFIXES, RawSample


class FolderSource:
    """Plan shards over the sorted pictures below a folder.

    Args:
        folder: searched recursively; hidden files and links that lead outside are left out.
        shard_size: pictures per shard.
    """

    def __init__(self, folder: Path, shard_size: int) -> None:
        self._folder = folder
        self._shard_size = shard_size

    def plan(self) -> Sequence[Task]:
        """List tasks; a task's input digest covers names, sizes and modification times.

        Raises:
            DataError: the folder holds no pictures.
        """
        files = self._pictures()
        if not files:
            raise DataError(
                f"{self._folder}: must hold pictures ({', '.join(PICTURE_SUFFIXES)}) "
                "or .tar shards, got none; set input=PATH"
            )
        repeats = _repeated_files(self._folder, files)
        tasks: list[Task] = []
        for start in range(0, len(files), self._shard_size):
            chosen = files[start : start + self._shard_size]
            tasks.append(
                Task(
                    shard=shard_name(len(tasks)),
                    inputs={f"files[{start}:{start + len(chosen)}]": self._digest(chosen)},
                    params={
                        "start": start,
                        "files": chosen,
                        "repeats": sorted(repeats & set(chosen)),
                    },
                )
            )
        return tasks

    def read(self, task: Task, scratch: Path) -> Iterator[RawSample]:
        """Yield the task's pictures with their captions."""
        repeats = set(task.params["repeats"])
        for row, name in enumerate(task.params["files"], start=task.params["start"]):
            data = (self._folder / name).read_bytes()
            repeated = name in repeats
            yield RawSample(
                key=make_key(data, name) if repeated else make_key(data),
                row=row,
                url="",
                caption=self._caption(name),
                source=name,
                data=None if repeated else data,
                status="repeated_file" if repeated else "ok",
                error="same bytes as an earlier file" if repeated else "",
            )

    def _pictures(self) -> list[str]:
        root = self._folder.resolve()
        names: list[str] = []
        for path in self._folder.rglob("*"):
            inside = path.resolve().is_relative_to(root)
            hidden = any(part.startswith(".") for part in path.relative_to(self._folder).parts)
            if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and inside and not hidden:
                names.append(path.relative_to(self._folder).as_posix())
        return sorted(names)

    def _caption(self, name: str) -> str:
        path = (self._folder / name).with_suffix(".txt")
        return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""

    def _digest(self, names: Sequence[str]) -> str:
        facts: list[tuple[str, int, int]] = []
        for name in names:
            for path in (self._folder / name, (self._folder / name).with_suffix(".txt")):
                if path.exists():
                    stat = path.stat()
                    facts.append((path.name, stat.st_size, stat.st_mtime_ns))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _repeated_files(folder: Path, names: Sequence[str]) -> set[str]:
    """Find files whose bytes an earlier file has; only files of equal size are read."""
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for name in names:
        by_size[(folder / name).stat().st_size].append(name)
    repeated: set[str] = set()
    for same_size in by_size.values():
        seen: set[str] = set()
        for name in same_size if len(same_size) > 1 else ():
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            if digest in seen:
                repeated.add(name)
            seen.add(digest)
    return repeated

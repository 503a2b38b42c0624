"""Turn WARC and WAT files into samples: links first, then the pictures behind them.

    wave 1: a file's pages -> its links, sorted, without repeats: `_links-NNNNN` (`web_links.py`)
    plan:   keys of all files -> links that another file has, too -> one task for each row group
    read:   a row group's links -> fetcher -> RawSample

The order of shards is that of the files' names and of the keys in each file, so a further file
behind the others adds shards and changes none before, unless one of its pages opts a link out.

Of links that several files have the first is fetched, the others are rows `repeated_row`; one that
any page opts out is not fetched at all. Memory of the plan: 30 bytes a link.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import OK, make_key, shard_name
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.core.store import Store
from curate.core.tombstones import TAKEN_DOWN
from curate.sources.config import IngestConfig
from curate.sources.crawls.warc_pages import read_pages
from curate.sources.crawls.web_links import read_group_digests, write_links
from curate.sources.fetching.fetcher import Fetched, Fetcher
from curate.sources.fetching.fetchers import make_fetcher
from curate.sources.files import facts_of
from curate.sources.source import RawSample
from curate.sources.tables.repeats import KEY_BYTES, RepeatFinder

LINKS = "_links-"
_Keys = tuple[npt.NDArray[np.int64], bytes]  # numbers of some links, and their keys


class WarcSource:
    """Plan one helper shard per file, then shards over their links.

    Args:
        store: the folder that holds the files.
        files: their names, in order.
        config: how links are chosen and fetched.
        own: the shard set of the stage, where the helper shards are.
    """

    def __init__(
        self, store: Store, files: Sequence[str], config: IngestConfig, own: ShardSet | None
    ) -> None:
        self._store = store
        self._files = list(files)
        self._config = config
        self._own = own
        self._fetcher: Fetcher | None = None

    def plan_helpers(self) -> Sequence[Task]:
        """List the tasks that must be done before `plan`; digests as those of tars."""
        tasks: list[Task] = []
        for index, name in enumerate(self._files):
            size, version = facts_of(self._store, name)
            facts = f"{name}:{size}:{version}"
            digest = hashlib.sha256(facts.encode()).hexdigest()
            shard = f"{LINKS}{shard_name(index)}"
            tasks.append(Task(shard=shard, inputs={name: digest}, params={"file": name}))
        return tasks

    def run_helper(self, task: Task, place: Place, removed: Collection[str]) -> Counter[str]:
        """Write the links of one file; of those in `removed` the key alone."""
        name: str = task.params["file"]
        with self._store.local_path(name).open("rb") as stream:
            pages = read_pages(stream, self._config)
            target = place.out / f"{task.shard}.parquet"
            return write_links(pages, name, target, place.scratch, self._config, removed)

    def plan(self) -> Sequence[Task]:
        """List tasks, one for each row group of the links' tables.

        Raises:
            DataError: no file has a link.
        """
        repeats = _Repeats()
        groups: list[tuple[int, int, str, int]] = []  # file, row group, digest, first link
        for index in range(len(self._files)):
            with self._open_links(f"{LINKS}{shard_name(index)}") as file:
                for group, digest in enumerate(read_group_digests(file)):
                    groups.append((index, group, digest, repeats.num_rows))
                    repeats.add(file.read_row_group(group, columns=["key", "rank"]))
        if not groups:
            raise DataError(
                f"{self._store.url}: must hold <img> links with alt text, got none in "
                f"{len(self._files)} files; set input=PATH"
            )
        found, tasks = repeats.rows(), list[Task]()
        ends = [start for *_, start in groups[1:]] + [repeats.num_rows]
        for (index, group, digest, start), stop in zip(groups, ends, strict=True):
            first, last = found.searchsorted([start, stop])
            params = {
                "links": f"{LINKS}{shard_name(index)}",
                "file": self._files[index],
                "group": group,
                "repeats": (found[first:last] - start).tolist(),
            }
            inputs = {f"{self._files[index]} links[{group}]": digest}
            tasks.append(Task(shard=shard_name(len(tasks)), inputs=inputs, params=params))
        return tasks

    def read(
        self, task: Task, scratch: Path, rows: Collection[int] | None = None
    ) -> Iterator[RawSample]:
        """Fetch the task's links and yield them in the order of their keys."""
        with self._open_links(task.params["links"]) as file:
            links = file.read_row_group(task.params["group"]).to_pylist()
        repeats = set(task.params["repeats"])
        for index, link in enumerate(links):
            if index in repeats:
                link |= _as_repeat(link, task.params["file"])
        chosen = [link for link in links if rows is None or link["position"] in rows]
        wanted = {link["position"]: link["url"] for link in chosen if link["status"] == OK}
        with self._fetching(wanted, scratch) as fetched:
            for link in chosen:
                position = link["position"]
                known = Fetched(status=link["status"], error=link["error"] or "")
                result = fetched(position) if position in wanted else known
                yield _raw_sample(task.params["file"], link, result)

    def _fetching(self, wanted: Mapping[int, str], scratch: Path) -> Any:
        if not wanted:
            return contextlib.nullcontext()
        self._fetcher = self._fetcher or make_fetcher(self._config)
        return self._fetcher.fetch_all(wanted, scratch)

    @contextlib.contextmanager
    def _open_links(self, shard: str) -> Generator[pq.ParquetFile]:
        assert self._own is not None, "the links of a crawl lie in the stage's own shard set"
        with self._own.store.open(f"{shard}.parquet") as stream, pq.ParquetFile(stream) as file:
            yield file


class _Repeats:
    """Find the links that another file has, too; those that opt out stand before the others."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._first: list[_Keys] = []
        self._others: list[_Keys] = []

    def add(self, table: pa.Table) -> None:
        """Take the keys and ranks of the next links; ranks outlive a takedown, statuses do not."""
        keys = np.frombuffer(bytes.fromhex("".join(table["key"].to_pylist())), f"V{KEY_BYTES}")
        rows = np.arange(self.num_rows, self.num_rows + len(table))
        is_first = table["rank"].to_numpy() == 0  # opted out, or a loss, which nothing repeats
        self._first.append((rows[is_first], keys[is_first].tobytes()))
        self._others.append((rows[~is_first], keys[~is_first].tobytes()))
        self.num_rows += len(table)

    def rows(self) -> npt.NDArray[np.int64]:
        """Give the links that repeat another one, in order."""
        finder, parts = RepeatFinder(), [*self._first, *self._others]
        for _, keys in parts:
            finder.add(keys)
        rows = np.concatenate([rows for rows, _ in parts])
        return np.sort(rows[finder.rows()])


def _as_repeat(link: Mapping[str, Any], file: str) -> dict[str, str]:
    """Give what a link's row says when another file has it, too; its key is not that link's."""
    key = make_key(link["key"], f"{file}:{link['position']}")  # the same when url and caption go
    if link["status"] == TAKEN_DOWN:
        return {"key": key}
    error = "same url and caption as another row"
    return {"key": key, "status": "repeated_row", "error": error}


def _raw_sample(file: str, link: Mapping[str, Any], result: Fetched) -> RawSample:
    fields = {"crawl_file": file}
    if link["page_url"]:
        fields["page_url"] = link["page_url"]
    return RawSample(
        key=link["key"],
        row=link["position"],
        url=link["url"] or "",
        caption=link["caption"] or "",
        source=urlsplit(link["url"] or "").hostname or "",
        license=link["license"] or "",
        fields=fields,
        data=result.data,
        status=result.status,
        error=result.error,
    )

"""Take samples out of a run for good: out of ingest, and out of everything made from it.

    FILE -> keys of ingest's rows -> and of rows that repeat them
         -> tombstones, written while the run is owned
         -> journals of captions: their lines go, those of other samples stay
         -> ingest and the stages that are done run again: ingest copies its shards without the
            samples, every later stage redoes the shards that held them
         -> stages that are not at their end, or read one that is not, lose those shards

A model that was trained on them keeps what it learnt: the training stages are left alone and said.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute

from curate.core.errors import ConfigError, DataError
from curate.core.manifest import SUMMARY, finished_shards
from curate.core.schema import KEY, is_key
from curate.core.shard import ShardSet
from curate.core.store import Store
from curate.core.tombstones import FOLDER, add_tombstones
from curate.stages.recaptioning.journal import forget
from pipelines.inspect import read_run
from pipelines.request import Request, reads_of, reopen_request
from pipelines.table import LEARNT, STAGES
from pipelines.traces import remove_traces

By = Literal["keys", "urls", "hashes"]
WAYS: tuple[By, ...] = ("keys", "urls", "hashes")
pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
_PIXELS = "hashes.sha256_pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Takedown:
    """Say what a takedown will do.

    Args:
        keys: of the samples it takes out, those that repeat their URL and caption too.
        places: (key, ingest shard) of each, helper shards included.
        unmatched: how many values of the file met no sample.
        learnt: stages whose model or numbers came from the samples.
        unfinished: stages that lose their shards of the samples; the next run makes them anew.
        request: the stages to run again.
    """

    by: By
    keys: frozenset[str]
    places: frozenset[tuple[str, str]]
    unmatched: int
    learnt: tuple[str, ...]
    unfinished: tuple[str, ...]
    request: Request

    def bury(self) -> str:
        """Write the tombstones, then clear journals and unfinished stages; nothing comes back.

        Returns:
            The name of the file of tombstones.
        """
        out = self.request.out
        name = add_tombstones(out.child(FOLDER), self.places, self.by)
        forget(out.child("recaption"), self.keys)
        others = [stage for stage in STAGES if stage not in (*self.request.chosen, *LEARNT)]
        remove_traces(out, {shard for _, shard in self.places}, others)
        return name


def plan_takedown(out: Store, by: By, path: Path) -> Takedown:
    """Find the samples that a file names.

    Args:
        out: folder of a run.
        by: what a line holds: a key, a URL as the table has it, or the sha256 of a file or of its
            canonical pixels.
        path: one value a line; empty lines and lines that start with # are skipped.

    Raises:
        ConfigError: a line is not of that kind, or `out` was not made by curate.
        DataError: no value meets a sample, or the file cannot be read.
    """
    wanted = _read_values(by, path)
    stages = read_run(out)["stages"]
    found, met = _find(out, by, wanted)
    if not found:
        raise DataError(
            f"{path}: must name samples of {out.url}, got none of {len(wanted)} {by} there; "
            "check out= and the file"
        )
    places = _with_repeats(out, found)
    request = _request_again(out, stages)
    there = [name for name in STAGES if finished_shards(out.child(name))]
    # Models trained before are read by the report as they are.
    config = dataclasses.replace(request.config, keep_stale=True, retry_failed=False)
    return Takedown(
        by=by,
        keys=frozenset(key for key, _ in places),
        places=places,
        unmatched=len(wanted - met),
        learnt=tuple(name for name in there if name in LEARNT),
        unfinished=tuple(name for name in there if name not in (*request.chosen, *LEARNT)),
        request=dataclasses.replace(request, config=config),
    )


def _request_again(out: Store, stages: Collection[str]) -> Request:
    """Ask for ingest and for every stage that has run to its end, as all have that it reads."""
    request = reopen_request(out, stages)
    closed = {name for name in stages if out.child(name).exists(SUMMARY)}
    usable = {"ingest"} | (closed & set(LEARNT))
    for name in request.chosen:
        if name in closed and usable.issuperset(reads_of(name, request.config)):
            usable.add(name)
    again = tuple(name for name in request.chosen if name in usable - set(LEARNT))
    return dataclasses.replace(request, chosen=again)


def _read_values(by: By, path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: must be a readable text file, got {error}; fix {by}=") from error
    wanted: set[str] = set()
    for number, line in enumerate(lines, start=1):
        value = line.strip()
        if not value or value.startswith("#"):
            continue
        if not _RULES[by][0](value):
            raise ConfigError(
                f"{path}: line {number} must be {_RULES[by][1]}, got {value[:80]!r}; fix the line"
            )
        wanted.add(value.lower() if by == "hashes" else value)
    return wanted


def _find(
    out: Store, by: By, wanted: Collection[str]
) -> tuple[frozenset[tuple[str, str]], set[str]]:
    """Give (key, shard) of the samples that are meant, and the values that met one."""
    places: set[tuple[str, str]] = set()
    met: set[str] = set()
    for shard, value, key in _values(out, by):
        if value is not None and value in wanted:
            places.add((key, shard))
            met.add(value)
    return frozenset(places), met


def _with_repeats(out: Store, found: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Give (key, shard) of all rows that say what a found one does, links of a crawl too.

    A row that repeats another has its URL and caption under a key of its own.
    """
    ingested, keys = ShardSet(out.child("ingest")), {key for key, _ in found}
    meant = {
        (url, caption)
        for shard in sorted({shard for _, shard in found})
        for _, url, caption in _links(ingested, shard, keys, ())
        if url
    }
    urls = {url for url, _ in meant}
    return frozenset(
        (key, shard)
        for shard in finished_shards(ingested.store)  # helper shards too
        for key, url, caption in _links(ingested, shard, keys, urls)
        if key in keys or (url, caption) in meant
    )


def _links(
    ingested: ShardSet, shard: str, keys: Collection[str], urls: Collection[str]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield key, URL and caption of the rows with one of the keys or URLs."""
    table = ingested.table(shard, [KEY, "url", "caption"])
    has_key = pc.is_in(table[KEY], pa.array(sorted(keys), pa.string()))
    has_url = pc.is_in(table["url"], pa.array(sorted(urls), pa.string()))
    rows = table.filter(pc.or_(has_key, has_url))
    yield from zip(*(rows[name].to_pylist() for name in (KEY, "url", "caption")), strict=True)


def _values(out: Store, by: By) -> Iterator[tuple[str, str | None, str]]:
    """Yield (shard, value, key) of every row; a row has two hashes when its pixels are measured."""
    ingested, annotated = ShardSet(out.child("ingest")), ShardSet(out.child("annotate"))
    column = {"keys": KEY, "urls": "url", "hashes": "sha256"}[by]
    measured = set(annotated.shards()) if by == "hashes" else set[str]()
    for shard in ingested.shards():
        yield from _column(shard, ingested.table(shard, sorted({column, KEY})), column)
        if shard in measured and _PIXELS in annotated.schema(shard).names:
            yield from _column(shard, annotated.table(shard, [_PIXELS, KEY]), _PIXELS)


def _column(shard: str, table: pa.Table, column: str) -> Iterator[tuple[str, str | None, str]]:
    for value, key in zip(table[column].to_pylist(), table[KEY].to_pylist(), strict=True):
        yield shard, value, key


_RULES: Mapping[By, tuple[Callable[[str], bool], str]] = {
    "keys": (is_key, "a key of 20 hex characters"),
    "urls": (lambda text: "://" in text, "a URL"),
    "hashes": (
        lambda text: re.fullmatch("[0-9a-fA-F]{64}", text) is not None,
        "a sha256 of 64 hex characters",
    ),
}

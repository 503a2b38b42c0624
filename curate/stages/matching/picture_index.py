"""Hold the pictures of all evaluation sets, and find those that samples are copies of.

    equal bytes, equal pixels : a dictionary of digests
    PDQ                       : the sample's hash against the eight forms of every item
    descriptor, clip          : cosines of embeddings

A turned or mirrored copy has the plain hash of one of the item's forms, so the sample needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.schema import OK
from curate.stages.matching.benchmark_pictures import NUM_FORMS
from curate.stages.matching.cosine_search import search_cosine
from curate.stages.matching.hits import Hit

_PDQ_WORDS = 4  # of 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Say how near is a match; see `DecontaminateConfig`.

    Args:
        min_cosine: column of embeddings -> least cosine; others are not compared.
    """

    pdq_radius: int
    pdq_min_quality: int
    min_cosine: Mapping[str, float] = field(default_factory=dict[str, float])


class _Entry(NamedTuple):
    benchmark: str
    item: str


class PictureIndex:
    """Find samples among the pictures of evaluation sets.

    Args:
        tables: benchmark -> its rows, of BENCHMARK_SCHEMA.
        limits: how near is a match.
    """

    def __init__(self, tables: Mapping[str, pa.Table], limits: Limits) -> None:
        self._limits = limits
        names = [pa.array([name] * len(table), pa.string()) for name, table in tables.items()]
        rows = pa.concat_tables(
            table.append_column("benchmark", name)
            for table, name in zip(tables.values(), names, strict=True)
        )
        self._entries = [
            _Entry(benchmark, item)
            for benchmark, item in zip(
                rows["benchmark"].to_pylist(), rows["item"].to_pylist(), strict=True
            )
        ]
        self._by_digest = {name: _group(rows[name].to_pylist()) for name in ("bytes", "pixels")}
        self._owner, forms = _good_forms(rows, limits.pdq_min_quality)
        self._forms = forms
        self._vectors = {name: Vectors.of(rows[name]) for name in limits.min_cosine}

    def match(self, samples: pa.Table) -> Iterator[Hit]:
        """Yield all matches of samples, in any order.

        Args:
            samples: columns bytes, pixels (hex digests), hash (32 bytes), quality, and those of
                `Limits.min_cosine`; null where it was not measured.
        """
        for kind in ("bytes", "pixels"):
            yield from self._match_digests(samples[kind].to_pylist(), kind)
        if self._limits.pdq_radius >= 0:
            yield from self._match_hashes(samples)
        for kind, least in self._limits.min_cosine.items():
            yield from self._match_vectors(samples[kind], kind, least)

    def _match_digests(self, digests: Sequence[str | None], kind: str) -> Iterator[Hit]:
        for row, digest in enumerate(digests):
            for entry in self._by_digest[kind].get(digest or "", ()):
                yield self._hit(row, entry, kind)

    def _match_hashes(self, samples: pa.Table) -> Iterator[Hit]:
        quality = samples["quality"].fill_null(-1).to_numpy()
        rows = np.flatnonzero(quality >= self._limits.pdq_min_quality)
        queries = pack_words(samples["hash"].take(pa.array(rows)).to_pylist())
        found = _within(queries, self._forms, self._limits.pdq_radius)
        nearest: dict[tuple[int, int], float] = {}
        for query, form, distance in found:
            pair = int(rows[query]), int(self._owner[form])
            nearest[pair] = min(nearest.get(pair, np.inf), float(distance))
        for (row, entry), distance in nearest.items():
            yield self._hit(row, entry, "pdq", distance)

    def _match_vectors(self, column: pa.ChunkedArray, kind: str, least: float) -> Iterator[Hit]:
        samples, entries = Vectors.of(column), self._vectors[kind]
        if not len(samples.rows) or not len(entries.rows):
            return
        found = search_cosine(samples.values, entries.values, least)
        for query, entry, cosine in zip(found.query, found.entry, found.cosine, strict=True):
            distance = max(0.0, 1 - float(cosine))
            yield self._hit(int(samples.rows[query]), int(entries.rows[entry]), kind, distance)

    def _hit(self, row: int, entry: int, kind: str, distance: float = 0.0) -> Hit:
        benchmark, item = self._entries[entry]
        return Hit(row=row, benchmark=benchmark, item=item, kind=kind, distance=distance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """Hold the embeddings of those rows that have one: rows [N], values [N, D]."""

    rows: NDArray[np.int64]
    values: NDArray[np.float16]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Vectors:
        """Read a column of lists of numbers, all of one length."""
        rows = np.flatnonzero(column.is_valid().to_numpy())
        whole = column.take(pa.array(rows)).combine_chunks()
        values = np.asarray(whole.flatten(), np.float16)
        return cls(rows=rows, values=values.reshape(len(rows), -1) if len(rows) else _NO_VECTORS)


_NO_VECTORS = np.empty((0, 0), np.float16)


def pack_words(hashes: Sequence[bytes]) -> NDArray[np.uint64]:
    """Turn 256-bit hashes into words: [N, 4]; a distance does not mind the order of bytes."""
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, _PDQ_WORDS)


def _within(
    queries: NDArray[np.uint64], entries: NDArray[np.uint64], radius: int
) -> Iterator[tuple[int, int, int]]:
    for query, words in enumerate(queries):
        distances = np.bitwise_count(entries ^ words).sum(axis=1)
        for entry in np.flatnonzero(distances <= radius):
            yield query, int(entry), int(distances[entry])


def _group(digests: Sequence[str | None]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for entry, digest in enumerate(digests):
        if digest is not None:
            found.setdefault(digest, []).append(entry)
    return found


def _good_forms(rows: pa.Table, min_quality: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Give the forms of the items that may be compared, [8 M, 4], and each one's row, [8 M]."""
    quality = rows["quality"].fill_null(-1).to_numpy()
    is_ok = np.array([status == OK for status in rows["status"].to_pylist()], bool)
    good = np.flatnonzero(is_ok & (quality >= min_quality))
    forms: list[Any] = rows["forms"].take(pa.array(good)).to_pylist()
    words = pack_words([form for some in forms for form in some])
    return np.repeat(good, NUM_FORMS), words

"""Hold the pictures of all evaluation sets, and find those that samples are copies of.

    equal bytes, equal pixels : a dictionary of digests
    PDQ                       : the sample's hash against the eight forms of every item
    pHash and thumbnail       : likewise, where one of the two is too flat for PDQ
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
from curate.stages.duplicates.hash_words import pdq_words
from curate.stages.duplicates.thumbnails import measure_change
from curate.stages.matching.benchmark_pictures import NUM_FORMS, THUMBNAIL_BYTES
from curate.stages.matching.cosine_search import search_cosine
from curate.stages.matching.form_index import FormIndex
from curate.stages.matching.hits import Hit

TURNED_SHARE = 1 / 3
"""Of the change of thumbnails that a turned or mirrored form may show. Chosen by us: a drawing that
is turned is often another drawing. On two toy webs of 2,500 rows 13 true copies changed by .03 at
most, three strangers by .07 to .15, all of them by a turned form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Say how near is a match; see `DecontaminateConfig`.

    Args:
        min_cosine: column of embeddings -> least cosine; others are not compared.
    """

    pdq_radius: int
    pdq_min_quality: int
    phash_radius: int
    thumbnail_change: float
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
        names = [name for name, table in tables.items() for _ in range(len(table))]
        rows = pa.concat_tables(tables.values())
        self._entries = list(map(_Entry, names, rows["item"].to_pylist()))
        self._by_digest = {name: _group(rows[name].to_pylist()) for name in ("bytes", "pixels")}
        self._quality = rows["quality"].fill_null(-1).to_numpy()
        hashed = np.array([status == OK for status in rows["status"].to_pylist()], bool)
        rich = np.flatnonzero(hashed & (self._quality >= limits.pdq_min_quality))
        self._pdq = FormIndex(pdq_words(_forms(rows["forms"], rich)), np.repeat(rich, NUM_FORMS))
        known = np.flatnonzero(hashed)
        phashes = np.array(_forms(rows["phashes"], known), np.uint64)
        self._phash = FormIndex(phashes, np.repeat(known, NUM_FORMS))
        self._thumbnails = _to_pixels(_forms(rows["thumbnails"], known))
        self._vectors = {name: Vectors.of(rows[name]) for name in limits.min_cosine}

    def match(self, samples: pa.Table) -> Iterator[Hit]:
        """Yield all matches of samples, in any order.

        Args:
            samples: columns bytes and pixels (hex digests); hash (32 bytes) and quality for PDQ;
                phash and thumbnail for pHash; those of `Limits.min_cosine`; null where it was not
                measured.
        """
        for kind in ("bytes", "pixels"):
            yield from self._match_digests(samples[kind].to_pylist(), kind)
        if self._limits.pdq_radius >= 0:
            yield from self._match_pdq(samples)
        if self._limits.phash_radius >= 0:
            yield from self._match_looks(samples)
        for kind, least in self._limits.min_cosine.items():
            yield from self._match_vectors(samples[kind], kind, least)

    def _match_digests(self, digests: Sequence[str | None], kind: str) -> Iterator[Hit]:
        for row, digest in enumerate(digests):
            for entry in self._by_digest[kind].get(digest or "", ()):
                yield self._hit(row, entry, kind)

    def _match_pdq(self, samples: pa.Table) -> Iterator[Hit]:
        rows = np.flatnonzero(_quality_of(samples) >= self._limits.pdq_min_quality)
        queries = pdq_words(samples["hash"].take(pa.array(rows)))
        found = self._pdq.within(queries, self._limits.pdq_radius)
        for query, entry, distance in found.nearest():
            yield self._hit(int(rows[query]), entry, "pdq", distance)

    def _match_looks(self, samples: pa.Table) -> Iterator[Hit]:
        """Compare by pHash what PDQ does not, and verify by the thumbnails."""
        rows = np.flatnonzero(samples["phash"].is_valid().to_numpy())
        taken = samples.take(pa.array(rows))
        found = self._phash.within(taken["phash"].to_numpy(), self._limits.phash_radius)
        if self._limits.pdq_radius >= 0:
            quality = np.minimum(_quality_of(taken)[found.query], self._quality[found.entry])
            found = found.take(quality < self._limits.pdq_min_quality)
        thumbnails = _to_pixels(taken["thumbnail"].to_pylist())
        change = measure_change(thumbnails[found.query], self._thumbnails[found.form])
        most = np.where(found.form % NUM_FORMS == 0, 1.0, TURNED_SHARE)
        found = found.take(change <= np.float32(self._limits.thumbnail_change * most))
        for query, entry, distance in found.nearest():
            yield self._hit(int(rows[query]), entry, "phash", distance)

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


def _quality_of(samples: pa.Table) -> NDArray[np.int32]:
    """Give the PDQ quality of each sample, -1 where it was not measured."""
    return samples["quality"].fill_null(-1).to_numpy()


def _group(digests: Sequence[str | None]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for entry, digest in enumerate(digests):
        if digest is not None:
            found.setdefault(digest, []).append(entry)
    return found


def _forms(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> list[Any]:
    """Give the values of all forms of some pictures, picture after picture."""
    return [form for forms in column.take(pa.array(rows)).to_pylist() for form in forms]


def _to_pixels(thumbnails: Sequence[bytes]) -> NDArray[np.uint8]:
    """Read thumbnails: [N, 192]."""
    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES)

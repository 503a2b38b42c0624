"""Read what visits name straight into the arrays of one batch.

visits -> layout: shapes, text length -> each shard's records, in the order of the tar
       -> digests of those that are verified -> faults by place in the batch
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.errors import ShardError
from curate.core.latent_manifest import NULL_SHARD, TextFacts
from curate.core.record_reader import ArrayMember, read_records
from train.reading import TextShape, Wishes
from train.slot import Slot
from train.store import LatentStore
from train.visits import CaptionReads, LatentReads, Visits


@dataclass(frozen=True, slots=True, kw_only=True)
class TextArrays:
    """Hold one text column's part of a batch.

    Args:
        tokens: [B, T, D] float16, [B, T, D + 2] int8 or [B, T] int32; zeros behind the last token.
        lengths: [B], int64, real tokens.
        pooled: [B, P], float16.
    """

    tokens: NDArray[Any]
    lengths: NDArray[np.int64]
    pooled: NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Hold what was read.

    Args:
        latents: [B, 2C, h, w] moments or [B, C, h, w] latents, float16.
        texts: for each text column.
        features: name -> [B, ...].
    """

    latents: NDArray[np.float16]
    texts: tuple[TextArrays, ...]
    features: dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NullText:
    """Hold the null caption of one text column.

    Args:
        tokens: [T, ...], as the column stores them; T may be 0.
        pooled: [P], float16.
    """

    tokens: NDArray[Any]
    pooled: NDArray[np.float16]


class Gatherer:
    """Read batches.

    Args:
        stores: in the plan's order; they agree on their facts.
        wishes: what a batch has.
    """

    def __init__(self, stores: Sequence[LatentStore], wishes: Wishes) -> None:
        self._stores = stores
        self._wishes = wishes
        self._texts = stores[0].manifest.texts
        self._nulls = [
            load_null(stores[0], number, wishes.text) for number in range(len(self._texts))
        ]

    def gather(self, visits: Visits, slot: Slot) -> tuple[Gathered, dict[int, str]]:
        """Fill a slot.

        Returns:
            The arrays, and what is wrong with the records of some places.
        """
        faults: dict[int, str] = {}
        latents = self._read_latents(visits, slot, faults)
        texts = tuple(
            self._read_texts(number, visits, slot, faults) for number in range(len(self._texts))
        )
        features = {
            name: self._read_feature(name, visits, slot, faults) for name in self._wishes.features
        }
        return Gathered(latents=latents, texts=texts, features=features), faults

    def _read_latents(self, visits: Visits, slot: Slot, faults: dict[int, str]) -> NDArray[Any]:
        reads = [(one, one.shard.members[one.member]) for one in visits.latents]
        return self._read_arrays("latents", reads, visits, slot, faults)

    def _read_feature(
        self, name: str, visits: Visits, slot: Slot, faults: dict[int, str]
    ) -> NDArray[Any]:
        reads = [(one, self._stores[one.owner].feature(name, one.number)) for one in visits.latents]
        members = [(replace(one, shard=shard), shard.members[name]) for one, shard in reads]
        return self._read_arrays(f"feature.{name}", members, visits, slot, faults)

    def _read_arrays(
        self,
        what: str,
        reads: Sequence[tuple[LatentReads, ArrayMember]],
        visits: Visits,
        slot: Slot,
        faults: dict[int, str],
    ) -> NDArray[Any]:
        """Read arrays of one shape, and compare the digests of those that are verified."""
        member = _same_shape(what, reads)
        shape = (len(visits.keys), *member.shape)
        array = slot.array(what, shape, member.dtype)
        rows = slot.rows(what, shape, member.dtype)
        for one, found in reads:
            places = one.places.tolist()
            read_records(
                self._stores[one.owner].files, one.shard.tar, found.offsets[one.rows],
                [rows[i] for i in places], places, faults.__setitem__,
            )  # fmt: skip
            for number in np.flatnonzero(visits.verified[one.places]).tolist():
                place = places[number]
                if place not in faults and (
                    xxhash.xxh3_64_intdigest(rows[place]) != found.digests[one.rows[number]]
                ):
                    faults[place] = (
                        f"{self._stores[one.owner].url}/{one.shard.tar}: the {what} differ from "
                        "their digest"
                    )
        return array

    def _read_texts(
        self, number: int, visits: Visits, slot: Slot, faults: dict[int, str]
    ) -> TextArrays:
        facts = self._texts[number]
        text = self._lay_out(number, visits, slot)
        width = row_bytes(facts)
        tokens = slot.rows(f"tokens.{number}", text.tokens.shape, text.tokens.dtype)
        pooled = slot.rows(f"pooled.{number}", text.pooled.shape, np.float16)
        sizes = (text.lengths * width).tolist()
        for one in visits.texts[number]:
            store, places = self._stores[one.owner], one.places.tolist()
            buffers = [tokens[i][: sizes[i]] for i in places]
            offsets = one.tokens_at
            if facts.pooled_dim:  # the pooled vector mostly lies right behind: read together
                offsets = np.stack([offsets, one.pooled_at], axis=1).reshape(-1)
                buffers = [b for i, t in zip(places, buffers, strict=True) for b in (t, pooled[i])]
                places = [i for i in places for _ in range(2)]
            read_records(store.files, one.shard.tar, offsets, buffers, places, faults.__setitem__)
            self._check_captions(facts, one, text, visits, faults)
        return text

    def _lay_out(self, number: int, visits: Visits, slot: Slot) -> TextArrays:
        """Set the text's length, and fill in null captions and padding."""
        facts, null = self._texts[number], self._nulls[number]
        stored = visits.lengths[number]
        lengths = slot.array(f"lengths.{number}", stored.shape, np.int64)
        lengths[:] = np.where(stored < 0, len(null.tokens), stored)
        length = self._wishes.text.length(facts.max_tokens, int(lengths.max()))
        np.minimum(lengths, length, out=lengths)
        tokens = slot.array(
            f"tokens.{number}", (len(stored), length, *row_shape(facts)), dtype_of(facts)
        )
        pooled = slot.array(f"pooled.{number}", (len(stored), facts.pooled_dim), np.float16)
        for i in np.flatnonzero(stored < 0).tolist():
            tokens[i, : lengths[i]] = null.tokens[: lengths[i]]
            pooled[i] = null.pooled
        for i in np.flatnonzero(lengths < length).tolist():
            tokens[i, lengths[i] :] = 0
        return TextArrays(tokens=tokens, lengths=lengths, pooled=pooled)

    def _check_captions(
        self,
        facts: TextFacts,
        reads: CaptionReads,
        text: TextArrays,
        visits: Visits,
        faults: dict[int, str],
    ) -> None:
        store = self._stores[reads.owner]
        for number in np.flatnonzero(visits.verified[reads.places]).tolist():
            place = int(reads.places[number])
            if place not in faults and not _is_whole(store, facts, reads, number, text):
                faults[place] = f"{store.url}/{reads.shard.tar}: a caption differs from its digest"


def _same_shape(what: str, reads: Sequence[tuple[LatentReads, ArrayMember]]) -> ArrayMember:
    member = reads[0][1]
    for one, other in reads:
        if (other.shape, other.dtype) != (member.shape, member.dtype):
            raise ShardError(
                f"{one.shard.tar}: {what} of one bucket must have one shape, {member.shape}, got "
                f"{other.shape}; run encode again"
            )
    return member


def row_shape(facts: TextFacts) -> tuple[int, ...]:
    """Give the shape of one token as stored."""
    return {"float16": (facts.dim,), "int8": (facts.dim + 2,), "ids": ()}[facts.form]


def dtype_of(facts: TextFacts) -> np.dtype[Any]:
    """Give the type of stored tokens."""
    return np.dtype({"float16": np.float16, "int8": np.int8, "ids": np.int32}[facts.form])


def row_bytes(facts: TextFacts) -> int:
    """Give the size of one token as stored."""
    return int(np.prod(row_shape(facts), dtype=np.int64)) * dtype_of(facts).itemsize


def load_null(store: LatentStore, number: int, shape: TextShape) -> NullText:
    """Read a text column's null caption, or make one of zeros."""
    facts = store.manifest.texts[number]
    empty = np.empty((0, *row_shape(facts)), dtype_of(facts))
    if shape.null == "zeros":
        return NullText(tokens=empty, pooled=np.zeros(facts.pooled_dim, np.float16))
    shard = store.captions(number, NULL_SHARD)
    entry = shard.captions[0]
    tokens = np.empty((int(entry["num_tokens"]), *row_shape(facts)), dtype_of(facts))
    pooled = np.empty(facts.pooled_dim, np.float16)
    base = int(shard.base[0])
    _read_caption(
        store, shard.tar, base + int(entry["tokens_at"]), base + int(entry["pooled_at"]), tokens,
        pooled,
    )  # fmt: skip
    return NullText(tokens=tokens, pooled=pooled)


def _read_caption(
    store: LatentStore,
    tar: str,
    tokens_at: int,
    pooled_at: int,
    tokens: NDArray[Any],
    pooled: NDArray[np.float16],
) -> None:
    store.files.preadv(tar, tokens_at, [tokens.reshape(-1).view(np.uint8).data])
    if pooled.size:
        store.files.preadv(tar, pooled_at, [pooled.view(np.uint8).data])


def _is_whole(
    store: LatentStore, facts: TextFacts, reads: CaptionReads, number: int, text: TextArrays
) -> bool:
    """Compare a caption's digest; one that was cut is read again whole."""
    place, num_tokens = int(reads.places[number]), int(reads.num_tokens[number])
    tokens = text.tokens[place, :num_tokens]
    if len(tokens) < num_tokens:
        tokens = np.empty((num_tokens, *row_shape(facts)), dtype_of(facts))
        _read_caption(
            store, reads.shard.tar, int(reads.tokens_at[number]), int(reads.pooled_at[number]),
            tokens, np.empty(facts.pooled_dim, np.float16),
        )  # fmt: skip
    digest = xxhash.xxh3_64(tokens.tobytes())
    digest.update(text.pooled[place].tobytes())
    return digest.intdigest() == reads.digests[number]

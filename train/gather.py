"""Read what visits name straight into the arrays of one batch.

visits -> layout: shapes, text length -> ranges sorted by place in the tars -> preadv
       -> digests of the records that are verified -> faults by place in the batch
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.errors import ShardError
from curate.core.latent_manifest import NULL_SHARD, TextFacts
from curate.core.record_reader import Range, read_ranges
from train.reading import TextShape, Wishes
from train.slot import Slot
from train.store import LatentStore
from train.visits import Showing, Visit, show


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

    def gather(self, visits: Sequence[Visit], slot: Slot) -> tuple[Gathered, dict[int, str]]:
        """Fill a slot.

        Returns:
            The arrays, and what is wrong with the records of some places.
        """
        faults: dict[int, str] = {}
        latents, latent_rows = self._latents(visits, slot)
        texts = tuple(self._lay_out(number, visits, slot) for number in range(len(self._texts)))
        for owner, store in enumerate(self._stores):
            # By tar and row, so that neighbours are read together.
            sorted_places = sorted(
                (visit.tar, visit.row, i) for i, visit in enumerate(visits) if visit.owner == owner
            )
            places = [i for *_, i in sorted_places]
            if not places:
                continue
            read_ranges(
                store.files,
                [
                    (v.tar, v.member.offsets[v.row], latent_rows[i], i)
                    for i in places
                    for v in (visits[i],)
                ],
                faults.__setitem__,
            )
            for number, text in enumerate(texts):
                ranges = self._text_ranges(number, text, visits, places, slot)
                read_ranges(store.files, ranges, faults.__setitem__)
            self._check(store, visits, places, latent_rows, texts, faults)
        features = {
            name: self._feature(name, visits, slot, faults) for name in self._wishes.features
        }
        return Gathered(latents=latents, texts=texts, features=features), faults

    def _latents(
        self, visits: Sequence[Visit], slot: Slot
    ) -> tuple[NDArray[Any], list[memoryview]]:
        member = visits[0].member
        for visit in visits:
            same = visit.member is member or (
                visit.member.shape == member.shape and visit.member.dtype == member.dtype
            )
            if not same:
                raise ShardError(
                    f"{visit.tar}: latents of one bucket must have one shape, {member.shape}, got "
                    f"{visit.member.shape}; run encode again"
                )
        shape = (len(visits), *member.shape)
        return slot.array("latents", shape, member.dtype), slot.rows("latents", shape, member.dtype)

    def _lay_out(self, number: int, visits: Sequence[Visit], slot: Slot) -> TextArrays:
        """Set the text's length, and fill in null captions and padding."""
        facts, null = self._texts[number], self._nulls[number]
        lengths = slot.array(f"lengths.{number}", (len(visits),), np.int64)
        shown = [visit.showings[number] for visit in visits]
        lengths[:] = [showing.num_tokens if showing else len(null.tokens) for showing in shown]
        length = self._wishes.text.length(facts.max_tokens, int(lengths.max()))
        np.minimum(lengths, length, out=lengths)
        tokens = slot.array(
            f"tokens.{number}", (len(visits), length, *row_shape(facts)), dtype_of(facts)
        )
        pooled = slot.array(f"pooled.{number}", (len(visits), facts.pooled_dim), np.float16)
        for i, (showing, filled) in enumerate(zip(shown, lengths.tolist(), strict=True)):
            if showing is None:
                tokens[i, :filled] = null.tokens[:filled]
                pooled[i] = null.pooled
            if filled < length:
                tokens[i, filled:] = 0
        return TextArrays(tokens=tokens, lengths=lengths, pooled=pooled)

    def _text_ranges(
        self,
        number: int,
        text: TextArrays,
        visits: Sequence[Visit],
        places: Sequence[int],
        slot: Slot,
    ) -> list[Range]:
        facts = self._texts[number]
        width = row_bytes(facts)
        token_rows = slot.rows(f"tokens.{number}", text.tokens.shape, text.tokens.dtype)
        pooled_rows = slot.rows(f"pooled.{number}", text.pooled.shape, np.float16)
        lengths = text.lengths.tolist()
        ranges: list[Range] = []
        for i in places:
            showing = visits[i].showings[number]
            if showing is None:
                continue
            tar = showing.shard.tar
            ranges.append((tar, showing.tokens_at, token_rows[i][: lengths[i] * width], i))
            if facts.pooled_dim:
                ranges.append((tar, showing.pooled_at, pooled_rows[i], i))
        return ranges

    def _check(
        self,
        store: LatentStore,
        visits: Sequence[Visit],
        places: Sequence[int],
        latent_rows: Sequence[memoryview],
        texts: Sequence[TextArrays],
        faults: dict[int, str],
    ) -> None:
        for i in [i for i in places if visits[i].is_verified and i not in faults]:
            visit = visits[i]
            if xxhash.xxh3_64_intdigest(latent_rows[i]) != visit.member.digests[visit.row]:
                faults[i] = f"{store.url}/{visit.tar}: the latents differ from their digest"
            for facts, showing, text in zip(self._texts, visit.showings, texts, strict=True):
                if showing and not _is_whole(store, facts, showing, text, i):
                    faults[i] = (
                        f"{store.url}/{showing.shard.tar}: a caption differs from its digest"
                    )

    def _feature(
        self, name: str, visits: Sequence[Visit], slot: Slot, faults: dict[int, str]
    ) -> NDArray[Any]:
        shards = [self._stores[v.owner].feature(name, v.shard) for v in visits]
        member = shards[0].members[name]
        shape = (len(visits), *member.shape)
        array = slot.array(f"feature.{name}", shape, member.dtype)
        rows = slot.rows(f"feature.{name}", shape, member.dtype)
        for i, (visit, shard) in enumerate(zip(visits, shards, strict=True)):
            member = shard.members[name]
            one = shard.tar, member.offsets[visit.row], rows[i], i
            read_ranges(self._stores[visit.owner].files, [one], faults.__setitem__)
            is_due = visit.is_verified and i not in faults
            if is_due and xxhash.xxh3_64_intdigest(rows[i]) != member.digests[visit.row]:
                faults[i] = f"{shard.tar}: a feature differs from its digest"
        return array


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
    showing = show(shard, 0, shard.of(0)[0])
    tokens = np.empty((showing.num_tokens, *row_shape(facts)), dtype_of(facts))
    pooled = np.empty(facts.pooled_dim, np.float16)
    _read_caption(store, showing, tokens, pooled)
    return NullText(tokens=tokens, pooled=pooled)


def _read_caption(
    store: LatentStore, showing: Showing, tokens: NDArray[Any], pooled: NDArray[np.float16]
) -> None:
    tar = showing.shard.tar
    store.files.preadv(tar, showing.tokens_at, [tokens.reshape(-1).view(np.uint8).data])
    if pooled.size:
        store.files.preadv(tar, showing.pooled_at, [pooled.view(np.uint8).data])


def _is_whole(
    store: LatentStore, facts: TextFacts, showing: Showing, text: TextArrays, place: int
) -> bool:
    """Compare a caption's digest; one that was cut is read again whole."""
    num_tokens = showing.num_tokens
    tokens = text.tokens[place, :num_tokens]
    if len(tokens) < num_tokens:
        tokens = np.empty((num_tokens, *row_shape(facts)), dtype_of(facts))
        _read_caption(store, showing, tokens, np.empty(facts.pooled_dim, np.float16))
    digest = xxhash.xxh3_64(tokens.tobytes())
    digest.update(text.pooled[place].tobytes())
    return digest.intdigest() == showing.digest

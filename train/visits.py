"""Find what a planned batch will read: records, captions and coins, before a byte is read.

picks (store, shard, row, epoch of every place) -> grouped by shard, in the order of the tars
    -> keys -> names -> coins: dropout, caption, flip, verify
    -> offsets of latents, and of each text column's captions

Everything is looked up for all samples of a shard at once: an object for each sample would cost
more than reading it.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.core.latent_column import KEY_BYTES
from curate.core.record_reader import ArrayShard, CaptionShard
from curate.core.schema import shard_name
from train.draws import Draws, number_visits
from train.mix import CaptionChooser, CaptionMix, choose_captions
from train.store import OPEN_SHARDS, LatentStore

_VERIFIED_FRAC = 0.01  # Source: storage.md, section 8: "sampled (e.g. 1 %)"

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """Name the records of a batch, place by place; all [B], int64.

    Args:
        owners: numbers of the stores.
        shards: places in the store's list of shards.
        rows: in the shard.
        epochs: of the sample.
    """

    owners: Ints
    shards: Ints
    rows: Ints
    epochs: Ints

    def with_pick(self, place: int, shard: int, row: int) -> Picks:
        """Put another record of the same store in a place."""
        shards, rows = self.shards.copy(), self.rows.copy()
        shards[place], rows[place] = shard, row
        return replace(self, shards=shards, rows=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentReads:
    """Name the latents to read from one shard, by row.

    Args:
        owner: number of the store.
        number: place in the store's list of shards.
        shard: opened.
        member: of the latents, or "flipped".
        places: [N], in the batch.
        rows: [N], in the shard.
    """

    owner: int
    number: int
    shard: ArrayShard
    member: str
    places: Ints
    rows: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionReads:
    """Name the captions to read from one shard of a text column, by row.

    Args:
        owner: number of the store.
        shard: opened.
        places: [N], in the batch.
        rows: [N], in the shard.
        tokens_at: [N], uint64, offset of the tokens in the tar; likewise pooled_at.
        num_tokens: [N].
        digests: [N], uint64, xxh3-64 of tokens and pooled vector.
    """

    owner: int
    shard: CaptionShard
    places: Ints
    rows: Ints
    tokens_at: NDArray[np.uint64]
    pooled_at: NDArray[np.uint64]
    num_tokens: Ints
    digests: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """Say what is read for a batch.

    Args:
        picks: where it came from.
        keys: [B, 10], uint8.
        numbers: [B], uint64, key and epoch of each sample, which name its draws.
        flipped: [B], bool.
        verified: [B], bool, whose digests are compared.
        sources: of the captions; "" for none.
        latents: by shard.
        texts: for each text column, by shard.
        lengths: for each text column, [B], int64, tokens as stored; -1 for the null caption.
    """

    picks: Picks
    keys: NDArray[np.uint8]
    numbers: NDArray[np.uint64]
    flipped: NDArray[np.bool_]
    verified: NDArray[np.bool_]
    sources: list[str]
    latents: list[LatentReads]
    texts: list[list[CaptionReads]]
    lengths: list[Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Hold the places of a batch that lie in one shard, by row."""

    owner: int
    number: int
    places: Ints


class Visitor:
    """Turn picks into visits; safe to use from threads.

    Args:
        stores: in the plan's order.
        mix: which captions are drawn.
        seed: the run's seed.
        verify: "never", "sampled" or "always".
        with_flips: see `Wishes`.
    """

    def __init__(
        self,
        stores: Sequence[LatentStore],
        mix: CaptionMix,
        seed: int,
        *,
        verify: str,
        with_flips: bool,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stores = stores
        self._chooser = CaptionChooser(mix)
        self._dropout_frac = mix.dropout_frac
        self._verified_frac = {"never": 0.0, "sampled": _VERIFIED_FRAC, "always": 1.0}[verify]
        self._has_flips = [with_flips and s.manifest.latents.has_flipped for s in stores]
        self._num_texts = len(stores[0].manifest.texts)
        self._open = functools.lru_cache(maxsize=OPEN_SHARDS)(self._open_ranked)
        purposes = ("dropout", "caption", "flip", "verify")
        self._dropout, self._caption, self._flip, self._verify = (
            Draws(seed, purpose) for purpose in purposes
        )

    def visit(self, picks: Picks) -> Visits:
        """Toss the coins of a batch and look its records up."""
        groups = list(_group(picks.owners, picks.shards, picks.rows))
        keys = self._keys(picks, groups)
        numbers = number_visits(keys, picks.epochs)
        flipped = self._toss_flips(picks, numbers)
        wanted = self._toss_captions(numbers)
        texts, lengths = self._captions(picks, groups, wanted)
        return Visits(
            picks=picks,
            keys=keys,
            numbers=numbers,
            flipped=flipped,
            verified=self._verify.below(numbers, self._verified_frac),
            sources=[self._chooser.sources[w] if w >= 0 else "" for w in wanted.tolist()],
            latents=list(self._latents(picks, groups, flipped)),
            texts=texts,
            lengths=lengths,
        )

    def _keys(self, picks: Picks, groups: Sequence[_Group]) -> NDArray[np.uint8]:
        keys = np.empty((len(picks.rows), KEY_BYTES), np.uint8)
        for group in groups:
            shard = self._stores[group.owner].shard(group.number)
            keys[group.places] = shard.keys[picks.rows[group.places]]
        return keys

    def _toss_flips(self, picks: Picks, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not any(self._has_flips):
            return np.zeros(len(numbers), np.bool_)
        return np.array(self._has_flips)[picks.owners] & self._flip.below(numbers, 0.5)

    def _toss_captions(self, numbers: NDArray[np.uint64]) -> Ints:
        """Draw each sample's source: its place in the mix, -1 for the null caption; [B]."""
        if not self._num_texts:
            return np.full(len(numbers), -1)
        wanted = np.zeros(len(numbers), np.int64)
        if len(self._chooser.sources) > 1:
            wanted = self._chooser.draw(self._caption.uniform(numbers))
        wanted[self._dropout.below(numbers, self._dropout_frac)] = -1
        return wanted

    def _latents(
        self, picks: Picks, groups: Sequence[_Group], flipped: NDArray[np.bool_]
    ) -> Iterator[LatentReads]:
        for group in groups:
            store = self._stores[group.owner]
            shard, member = store.shard(group.number), store.manifest.latents.member
            mirrored = flipped[group.places]
            parts = {member: ~mirrored, "flipped": mirrored} if mirrored.any() else {member: None}
            for name, chosen in parts.items():
                places = group.places if chosen is None else group.places[chosen]
                if len(places):
                    yield LatentReads(
                        owner=group.owner, number=group.number, shard=shard, member=name,
                        places=places, rows=picks.rows[places],
                    )  # fmt: skip

    def _captions(
        self, picks: Picks, groups: Sequence[_Group], wanted: Ints
    ) -> tuple[list[list[CaptionReads]], list[Ints]]:
        """Choose the captions; `wanted` becomes the sources that are shown."""
        homes, rows = self._homes(picks, groups)
        texts: list[list[CaptionReads]] = []
        lengths: list[Ints] = []
        for text in range(self._num_texts):
            length = np.full(len(wanted), -1)
            reads = [
                found
                for group in homes
                if (found := self._choose(text, group, rows, wanted)) is not None
            ]
            for one in reads:
                length[one.places] = one.num_tokens
            texts.append(reads)
            lengths.append(length)
        return texts, lengths

    def _homes(self, picks: Picks, groups: Sequence[_Group]) -> tuple[Sequence[_Group], Ints]:
        """Find the shards and rows of the captions; `number` of a group is in a shard's name."""
        if not self._num_texts:
            return [], picks.rows
        shards, rows = picks.shards.copy(), picks.rows.copy()
        for group in groups:
            store, places = self._stores[group.owner], group.places
            if store.has_text[group.number]:
                shards[places] = group.number
                continue
            numbers = store.shard(group.number).numbers
            own = picks.rows[places]
            homes = [store.place_of(shard_name(int(n))) for n in numbers["home_shard"][own]]
            shards[places], rows[places] = homes, numbers["home_row"][own]
        if np.array_equal(shards, picks.shards):
            return groups, rows
        return list(_group(picks.owners, shards, rows)), rows

    def _choose(self, text: int, group: _Group, rows: Ints, wanted: Ints) -> CaptionReads | None:
        """Choose the captions of one shard; of the first column `wanted` is what is shown."""
        places, asked = group.places, wanted[group.places]
        if asked.min() < 0:
            places, asked = places[asked >= 0], asked[asked >= 0]
            if not len(places):
                return None
        shard, ranks = self._open(self._stores[group.owner], text, self._name(group))
        own = rows[places]
        first, end = shard.first[own], shard.first[own + 1]
        entry = _only_captions(shard, ranks, first, end, asked)
        if entry is None:
            entries, chosen, shown = _pick_captions(shard, ranks, first, end, asked)
            if text == 0:  # the other columns follow
                self._note(shown, asked)
                wanted[places] = asked = shown
            fits = (chosen >= 0) & (shown == asked)
            places, own, entry = places[fits], own[fits], entries[chosen[fits]]
        base = shard.base[own]
        return CaptionReads(
            owner=group.owner,
            shard=shard,
            places=places,
            rows=own,
            tokens_at=base + entry["tokens_at"],
            pooled_at=base + entry["pooled_at"],
            num_tokens=entry["num_tokens"].astype(np.int64),
            digests=entry["xxh3"],
        )

    def _name(self, group: _Group) -> str:
        return self._stores[group.owner].names[group.number]

    def _open_ranked(self, store: LatentStore, text: int, name: str) -> tuple[CaptionShard, Ints]:
        """Open a text column's shard; give the place of each of its sources in the mix."""
        shard = store.captions(text, name)
        return shard, np.array(self._chooser.rank(shard.sources), np.int64)

    def _note(self, shown: Ints, wanted: Ints) -> None:
        others = int(((shown >= 0) & (shown != wanted)).sum())
        without = int((shown < 0).sum())
        if others or without:
            with self._lock:
                self.counts += Counter(other_caption=others, without_caption=without)


def _only_captions(
    shard: CaptionShard,
    ranks: Ints,
    first: NDArray[np.uint32],
    end: NDArray[np.uint32],
    wanted: Ints,
) -> NDArray[Any] | None:
    """Give the captions of records that have one each, of the source that is wanted; else None."""
    if ((end - first) != 1).any():
        return None
    entries = shard.captions[first]
    return entries if (ranks[entries["source"]] == wanted).all() else None


def _pick_captions(
    shard: CaptionShard,
    ranks: Ints,
    first: NDArray[np.uint32],
    end: NDArray[np.uint32],
    wanted: Ints,
) -> tuple[NDArray[Any], Ints, Ints]:
    """Choose a caption of each record of a shard.

    Returns:
        The records' captions one after the other; which of them each record is shown with, -1 for
        none; and the place of its source in the mix, likewise.
    """
    counts = (end - first).astype(np.int64)
    starts = np.cumsum(counts) - counts
    owners = np.repeat(np.arange(len(counts)), counts)
    numbers = first[owners] + np.arange(len(owners)) - starts[owners]
    entries = shard.captions[numbers]
    found = ranks[entries["source"]]
    chosen = choose_captions(owners, found, wanted)
    shown = np.full(len(counts), -1)
    shown[chosen >= 0] = found[chosen[chosen >= 0]]
    return entries, chosen, shown


def _group(owners: Ints, shards: Ints, rows: Ints) -> Iterator[_Group]:
    """Cut a batch into the places of each shard, ordered by store, shard and row."""
    order = np.lexsort((rows, shards, owners))
    owner, shard = owners[order], shards[order]
    ends = np.flatnonzero((owner[1:] != owner[:-1]) | (shard[1:] != shard[:-1])) + 1
    for places in np.split(order, ends):
        yield _Group(owner=int(owners[places[0]]), number=int(shards[places[0]]), places=places)

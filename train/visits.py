"""Find what a planned batch will read: records, captions and coins, before a byte is read.

planned batch -> per sample: key, epoch -> record of latents, caption of each text column
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from curate.core.record_reader import ArrayMember, CaptionShard
from train.draws import Draws, draw_name
from train.mix import CaptionChooser, CaptionMix, choose_caption
from train.store import OPEN_SHARDS, LatentStore

_VERIFIED_FRAC = 0.01  # Source: storage.md, section 8: "sampled (e.g. 1 %)"


class Showing(NamedTuple):
    """Name the caption of one text column that a sample is shown with.

    Args:
        shard: of the text column.
        row: of the record in it.
        tokens_at: offset of the tokens in the tar, in bytes; likewise pooled_at.
        num_tokens: T.
        digest: xxh3-64 of tokens and pooled vector.
    """

    shard: CaptionShard
    row: int
    tokens_at: int
    pooled_at: int
    num_tokens: int
    digest: int


class Visit(NamedTuple):
    """Say what is read for one sample.

    Args:
        owner: number of the store.
        name: key and epoch, which name its draws.
        tar: of the latents.
        row: in its shard.
        shard: place in the manifest's list.
        member: of the latents, the mirrored ones where the coin said so.
        is_flipped: whether it did.
        source: of the caption; "" for none.
        showings: for each text column; None for the null caption.
        is_verified: digests are compared.
    """

    owner: int
    name: bytes
    tar: str
    row: int
    shard: int
    member: ArrayMember
    is_flipped: bool
    source: str
    showings: tuple[Showing | None, ...]
    is_verified: bool


class Visitor:
    """Turn planned samples into visits.

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

    def visit(self, owner: int, shard_number: int, row: int, epoch: int) -> Visit:
        """Toss a sample's coins and look up its records."""
        store = self._stores[owner]
        shard = store.shard(shard_number)
        name = draw_name(shard.key(row), epoch)
        flipped = self._has_flips[owner] and self._flip.uniform(name) < 0.5
        source, showings = self._choose(store, shard_number, row, name)
        return Visit(
            owner,
            name,
            shard.tar,
            row,
            shard_number,
            shard.members["flipped" if flipped else store.manifest.latents.member],
            flipped,
            source,
            showings,
            self._verified_frac > 0 and self._verify.uniform(name) < self._verified_frac,
        )

    def _choose(
        self, store: LatentStore, number: int, row: int, name: bytes
    ) -> tuple[str, tuple[Showing | None, ...]]:
        if not self._num_texts or (
            self._dropout_frac > 0 and self._dropout.uniform(name) < self._dropout_frac
        ):
            return "", (None,) * self._num_texts
        wanted = 0
        if len(self._chooser.sources) > 1:
            wanted = self._chooser.draw(self._caption.uniform(name))
        home = store.names[number]
        if not store.has_text[number]:
            home, row = store.home(number, row)
        showings: list[Showing | None] = []
        for text in range(self._num_texts):
            shard, ranks = self._open(store, text, home)
            captions = shard.of(row)
            own = [ranks[caption[3]] for caption in captions]
            chosen = choose_caption(own, wanted)
            if text == 0:  # the other columns follow
                if chosen < 0 or own[chosen] != wanted:
                    self._count("without_caption" if chosen < 0 else "other_caption")
                if chosen < 0:
                    return "", (None,) * self._num_texts
                wanted = own[chosen]
            fits = chosen >= 0 and own[chosen] == wanted
            showings.append(show(shard, row, captions[chosen]) if fits else None)
        return self._chooser.sources[wanted], tuple(showings)

    def _open_ranked(
        self, store: LatentStore, text: int, name: str
    ) -> tuple[CaptionShard, list[int]]:
        """Open a text column's shard; give the place of each of its sources in the mix."""
        shard = store.captions(text, name)
        return shard, self._chooser.rank(shard.sources)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def show(shard: CaptionShard, row: int, caption: tuple[int, int, int, int, int]) -> Showing:
    """Name a caption of a shard by its fields in the index."""
    base = shard.base[row]
    tokens_at, pooled_at, num_tokens, _, digest = caption
    return Showing(shard, row, base + tokens_at, base + pooled_at, num_tokens, digest)


def planned_rows(
    store: LatentStore, bucket: str, positions: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Give shard and row of samples of one store's bucket."""
    return store.buckets[bucket].locate(np.asarray(positions, np.int64))

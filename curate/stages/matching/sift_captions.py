"""Leave out the captions of dropped duplicates that are prompts of an evaluation set.

A keeper takes them over as alternates (dedup); only such a caption goes then, not the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from curate.stages.matching.benchmark_config import DROP, Actions
from curate.stages.matching.hits import Hit

Captions = Sequence[str] | None
"""Those of one sample; None where it has no list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """Hold what is left of each sample's captions, and how many went."""

    captions: Sequence[Captions]
    num_dropped: int


def sift_captions(
    captions: Sequence[Captions],
    match: Callable[[Sequence[str]], Iterable[Hit]],
    actions: Actions,
) -> Sifted:
    """Leave out the captions that meet a prompt in a way whose action is drop.

    Args:
        captions: of each sample.
        match: gives the hits of texts, by their place.
        actions: what follows from each kind.
    """
    texts = list(dict.fromkeys(chain.from_iterable(some or () for some in captions)))
    leaked = {texts[hit.row] for hit in match(texts) if actions.of(hit.kind) == DROP}
    kept = [
        None if some is None else [text for text in some if text not in leaked] for some in captions
    ]
    before = sum(len(some or ()) for some in captions)
    return Sifted(captions=kept, num_dropped=before - sum(len(some or ()) for some in kept))

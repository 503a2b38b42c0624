"""Hold the thresholds that captions are judged by; null switches a rule off."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from curate.core.errors import ConfigError

CutOff = Literal["reject", "trim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Bound what an accepted caption may be; which rule reads what: `rules.RULES`.

    Args:
        min_words: of a caption. Source: Conceptual 12M (Changpinyo et al. 2021, arXiv 2102.08981,
            section 2.2): 3 to 256 words; so for max_words.
        max_words: of a caption.
        cut_off: what becomes of a text that the token limit cut off: "reject" it, or "trim" it
            behind its last whole sentence (without one it is rejected).
        max_repeated_frac: share of repeated word 4-grams, 0..1. Chosen by us: a list of three alike
            objects ("a red circle and a red circle and a red circle") has 0.5, a loop over 0.8.
        max_compression: bytes over zlib-compressed bytes. Source: Whisper (Radford et al. 2022,
            arXiv 2212.04356, section 4.5): 2.4 is a repetition loop.
        max_looped_words: of a loop of four rounds or more. Chosen by us: a stutter that a sign may
            well have is shorter.
        max_looped_frac: share of all words that the loop has, 0..1. Chosen by us: a short text
            ("dog dog dog dog dog dog") that is little else.
        max_hedges: hedging phrases per sentence. Chosen by us: one in each sentence is a cautious
            model, more is one that does not see.
        min_letters: share of letters among visible characters, 0..1. Chosen by us: captions have
            0.9 and more, clocks and prices in them 0.6.
        max_script_mix: share of words in another script than the text's own, 0..1. Chosen by us: a
            foreign name in a sentence of six words stays below.
        languages: codes that captions may have; empty switches the rule off.
        min_language_score: how sure the identifier must be of another language, 0..1. Chosen by
            us: of 1,257 PartiPrompts of five words and more lid.176 calls 5 something else than
            English, one of them with 0.61 and none with more.
        max_pictures_frac: share of all samples that may have the same text, 0..1; it must be on
            more than `max_pictures` samples too. Chosen by us: a text on every hundredth picture
            says nothing of any.
        max_pictures: samples that may have the same text in any case. Chosen by us: in a small set
            a plain caption comes often.
        min_similarity: cosine of picture and caption, of as much of the start as the model reads.
        min_similarity_sentence: cosine of picture and best sentence. Scales differ between models,
            so both are the user's to choose.
        similarity_top_frac: keep this share of each source, in (0, 1], those whose best sentences
            are the most similar; what ties with the last of them is kept too.
        min_verified: share of the claims that the second model confirmed, 0..1.
    """

    min_words: int | None = 3
    max_words: int | None = 256
    cut_off: CutOff = "reject"
    max_repeated_frac: float | None = 0.6
    max_compression: float | None = 2.4
    max_looped_words: int | None = 12
    max_looped_frac: float | None = 0.65
    max_hedges: float | None = 1.0
    min_letters: float | None = 0.5
    max_script_mix: float | None = 0.15
    languages: list[str] = field(default_factory=list[str])
    min_language_score: float = 0.65
    max_pictures_frac: float | None = 0.01
    max_pictures: int = 100
    min_similarity: float | None = None
    min_similarity_sentence: float | None = None
    similarity_top_frac: float | None = None
    min_verified: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(
                    f"judge.rules.{name}: must be in [{low:g}, {high:g}], got {value:g}; "
                    "set it to null to switch the rule off"
                )
        if self.cut_off not in ("reject", "trim"):
            raise ConfigError(
                f"judge.rules.cut_off: must be reject or trim, got {self.cut_off!r}; choose one"
            )
        if self.similarity_top_frac == 0:
            raise ConfigError(
                "judge.rules.similarity_top_frac: must be > 0, got 0; write 0.9 for the best 90 %"
            )
        _check_order(self.min_words, self.max_words)


RANGES: Mapping[str, tuple[float, float]] = {
    "min_words": (0, 1e6),
    "max_words": (0, 1e6),
    "max_repeated_frac": (0, 1),
    "max_compression": (1, 1100),  # zlib shrinks to a thousandth at best
    "max_looped_words": (0, 1e6),
    "max_looped_frac": (0, 1),
    "max_hedges": (0, 1e6),
    "min_letters": (0, 1),
    "max_script_mix": (0, 1),
    "min_language_score": (0, 1),
    "max_pictures_frac": (0, 1),
    "max_pictures": (0, 1e12),
    "min_similarity": (-1, 1),
    "min_similarity_sentence": (-1, 1),
    "similarity_top_frac": (0, 1),
    "min_verified": (0, 1),
}
"""The range of each threshold that is a number, ends included."""


def override(thresholds: Thresholds, source: str, values: Mapping[str, float]) -> Thresholds:
    """Give the thresholds of one source, where some of its own replace the common ones.

    Raises:
        ConfigError: a name is not in `RANGES`, or a value outside of its range.
    """
    unknown = sorted(set(values) - set(RANGES))
    if unknown:
        raise ConfigError(
            f"judge.by_source.{source}: must name thresholds of judge.rules that are numbers, "
            f"got {unknown}; they are {', '.join(RANGES)}"
        )
    return dataclasses.replace(thresholds, **dict(values))


def _check_order(low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ConfigError(
            f"judge.rules.min_words: must be <= max_words, got {low:g} > {high:g}; swap them"
        )

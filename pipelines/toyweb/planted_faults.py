"""Hold the rules on captions against faults that are known: descriptions of scenes, some spoilt.

scenes -> what is true of each, in every style -> spoilt by a fault of the oracle, or left
       -> judged by their text under a run's own thresholds -> what was found, and what is bad
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from curate.captioners.captioner import FinishReason
from curate.captioners.rules import Judgement, judge_texts
from curate.captioners.thresholds import Thresholds
from curate.core.schema import OK
from curate.core.seed import make_rng
from pipelines.toyweb.oracle_mistakes import FAULTS, Fault, spoil
from pipelines.toyweb.oracle_words import STYLES
from pipelines.toyweb.scene import random_scene
from pipelines.toyweb.truth import FoundScore

# What a text alone cannot show: a stock text is one among many texts, and another language a fault
# only where languages were asked for.
_UNSEEN: frozenset[Fault] = frozenset(("stock", "language"))
_STRIPPED: Fault = "boilerplate"  # taken off, and no fault of what remains
EVERY = "*"  # stands for sources without thresholds of their own, as in judge


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedText:
    """Hold a true text and what became of it."""

    truth: str
    fault: Fault | None
    spoilt: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedScore:
    """Count the spoilt texts that were found, and the stock openings that were taken off."""

    rejected: FoundScore
    num_opened: int
    num_stripped: int


def judge_planted(seed: int, num_scenes: int, limits: Mapping[str, Thresholds]) -> PlantedScore:
    """Judge true descriptions of scenes and spoilt ones.

    Args:
        seed: of the scenes and of which words are spoilt.
        num_scenes: each is described in every style, once without and once with each fault.
        limits: source -> thresholds, `EVERY` for all others; as judge's tasks have them.
    """
    judged: list[tuple[PlantedText, Judgement]] = []
    for style in STYLES:
        planted = list(_plant(seed, num_scenes, style))
        texts = [one.spoilt for one in planted]
        ends = [one.finish_reason for one in planted]
        own = limits.get(style, limits[EVERY])
        judged += zip(planted, judge_texts(texts, [""] * len(texts), ends, own), strict=True)
    is_bad = [one.fault not in (None, _STRIPPED) for one, _ in judged]
    is_rejected = [judgement.status != OK for _, judgement in judged]
    opened = [(one.truth, found.text) for one, found in judged if one.fault == _STRIPPED]
    return PlantedScore(
        rejected=FoundScore(
            num_true=sum(is_bad),
            num_found=sum(is_rejected),
            num_right=sum(bad and found for bad, found in zip(is_bad, is_rejected, strict=True)),
        ),
        num_opened=len(opened),
        num_stripped=sum(truth.lower() == text.lower() for truth, text in opened),
    )


def _plant(seed: int, num_scenes: int, style: str) -> Iterator[PlantedText]:
    """Yield each scene's description in one style, as it is and with each fault."""
    kinds: tuple[Fault | None, ...] = (None, *(one for one in FAULTS if one not in _UNSEEN))
    for number in range(num_scenes):
        rng = make_rng(seed, "planted faults", style, number)
        scene = random_scene(rng)
        truth = STYLES[style](scene.objects, scene.background)
        for fault in kinds:
            spoilt, end = spoil(truth, fault, rng)
            yield PlantedText(truth=truth, fault=fault, spoilt=spoilt, finish_reason=end)

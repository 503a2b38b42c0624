"""Measure a captioner on held-out samples: how likely their captions are, and what it writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.teaching import Teacher
from curate.captioners.vlm import VlmCaptioner
from curate.core.batches import batched


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Hold a held-out sample: what is asked, and the captions that would be right."""

    request: CaptionRequest
    answers: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Hold what was measured.

    Args:
        loss: mean -log p of an answer token, its end included; natural logarithm.
        exact: share of captions that are one of the right ones, character by character.
        bleu: corpus BLEU-4 against the right ones, words in lower case, 0..1.
        cut_off: share of captions that did not end by themselves.
        num_samples: that were measured.
    """

    loss: float
    exact: float
    bleu: float
    cut_off: float
    num_samples: int


def measure(captioner: VlmCaptioner, held: Sequence[Held], batch_size: int) -> Quality:
    """Measure greedily written captions, asked for as the stage recaption does."""
    teacher = Teacher(captioner)
    attempts = captioner.caption([one.request for one in held], Sampling())
    texts = [attempt.text_raw.strip() for attempt in attempts]
    right = [[teacher.read(answer).strip() for answer in one.answers] for one in held]
    exact = [text in answers for text, answers in zip(texts, right, strict=True)]
    return Quality(
        loss=_rounded(_mean_loss(teacher, held, batch_size)),
        exact=_rounded(sum(exact) / len(held)),
        bleu=_rounded(_bleu(texts, right)),
        cut_off=_rounded(sum(a.finish_reason == "length" for a in attempts) / len(held)),
        num_samples=len(held),
    )


@torch.no_grad()
def _mean_loss(teacher: Teacher, held: Sequence[Held], batch_size: int) -> float:
    total, count = 0.0, 0
    for batch in batched(held, batch_size):
        lesson = teacher.encode([one.request for one in batch], [one.answers[0] for one in batch])
        total += float(lesson.loss_sum())
        count += lesson.num_tokens
    return total / count


def _bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Give corpus BLEU-4.

    Source: Papineni et al. 2002; counts of zero are smoothed by 0.1 (Chen and Cherry 2014, method
    1), for a captioner that has learnt nothing shares no 4-gram.
    """
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    return float(
        corpus_bleu(  # pyright: ignore[reportArgumentType]
            [[text.lower().split() for text in texts] for texts in references],
            [text.lower().split() for text in texts],
            smoothing_function=SmoothingFunction().method1,
        )
    )


def _rounded(value: float) -> float:
    """Keep six digits; the rest differs between machines."""
    return float(f"{value:.6g}") if math.isfinite(value) else value

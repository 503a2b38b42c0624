"""Turn evidence into numbers: the table of metrics, one function each.

A number carries its interval, its N, its method in words and the digest of the network it rests
on, so that two results can be compared or refused. `value` None means "not measured", and `note`
says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.core.errors import DataError
from curate.core.seed import make_rng
from eval.clip_alignment import measure_alignment
from eval.compositional import PictureScore, score_picture, summarise
from eval.evidence import Evidence
from eval.features import Features
from eval.fid import correct_bias, frechet_distance, principal_axes
from eval.kid import kernel_distance
from eval.statistics import Array, measure_moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """Hold one measured number.

    Args:
        name: "color.f1", "frechet_distance[<extractor>]", ...
        variant: whose pictures: a model variant or a control.
        value: None when it was not measured; `note` says why.
        low: lower end of the 95 % interval; None without one.
        high: upper end.
        n: trials behind the value.
        method: how value and interval came about, in words.
        extractor: sha256 of the network's files; "" where no network is used.
        note: anything a reader must know beside the value.
    """

    name: str
    variant: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    method: str
    extractor: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """Hold everything that is compared, and how.

    Args:
        variants: the models' pictures first, then the controls.
        reference: [M, D] features of real pictures; M may be 0.
        held_out: [K, D] features of other real pictures: what a perfect model scores at this N.
        extractor: name of the image-text model.
        extractor_digest: sha256 of its files.
        seed: the run's seed.
        num_resamples: bootstrap resamples of rates.
        frechet_resamples: bootstrap resamples of the Frechet distance.
        frechet_dims: leading axes of the reference kept for it; 0 keeps all dimensions.
        allow_small: give the Frechet distance also for fewer than 2 D pictures.
    """

    variants: Sequence[Evidence]
    reference: Features
    held_out: Features
    extractor: str
    extractor_digest: str
    seed: int
    num_resamples: int
    frechet_resamples: int
    frechet_dims: int
    allow_small: bool


def measure_compositional(study: Study) -> Iterator[Number]:
    """Score what a reader sees in the pictures against what the prompts name."""
    for evidence in study.variants:
        scores = score_evidence(evidence)
        if not scores:
            continue
        rng = make_rng(study.seed, "evaluate", "compositional", evidence.variant)
        rates = summarise(scores, evidence.prompts, rng, study.num_resamples)
        for name, rate in rates.items():
            yield Number(
                name=name,
                variant=evidence.variant,
                value=rate.value,
                low=rate.interval.low,
                high=rate.interval.high,
                n=rate.n,
                method=f"exact reader; {rate.interval.method}",
            )


def score_evidence(evidence: Evidence) -> list[PictureScore]:
    """Score every picture of a variant; empty without a reader or without known scenes."""
    if evidence.expected is None or evidence.readings is None:
        return []
    pairs = zip(evidence.expected, evidence.readings, strict=True)
    return [score_picture(expected, reading) for expected, reading in pairs]


def measure_similarity(study: Study) -> Iterator[Number]:
    """Average the cosine of pictures and prompts, and give the share of prompts that were cut."""
    for evidence in study.variants:
        alignment = measure_alignment(
            evidence.images, evidence.texts, evidence.prompts, evidence.is_truncated
        )
        yield Number(
            name=f"clip_similarity[{study.extractor}]",
            variant=evidence.variant,
            value=alignment.mean,
            low=_finite(alignment.interval.low),
            high=_finite(alignment.interval.high),
            n=len(evidence.prompts),
            method=f"raw cosine; {alignment.interval.method}",
            extractor=study.extractor_digest,
            note=f"truncated prompts: {alignment.truncated_frac:.1%}",
        )


def measure_frechet(study: Study) -> Iterator[Number]:
    """Compare features with those of real pictures as two Gaussians."""
    if not len(study.reference):
        return
    reference, axes = study.reference.astype(np.float64), None
    label, dims = study.extractor, study.reference.shape[1]
    if 0 < study.frechet_dims < dims:
        dims = study.frechet_dims
        axes, label = principal_axes(reference, dims), f"{label},pca{dims}"
        reference = reference @ axes
    for variant, features in picture_sets(study):
        values = features.astype(np.float64)
        base = Number(
            name=f"frechet_distance[{label}]",
            variant=variant,
            value=None,
            n=len(values),
            method=f"Gaussians in {dims} dimensions; reference N={len(reference)}",
            extractor=study.extractor_digest,
        )
        yield from _frechet_numbers(
            base, values if axes is None else values @ axes, reference, study
        )


def _frechet_numbers(
    base: Number, values: Array, reference: Array, study: Study
) -> Iterator[Number]:
    try:
        value = frechet_distance(values, reference, allow_small=study.allow_small)
    except DataError as error:
        yield replace(base, note=str(error))
        return
    note = "biased upwards at this N; compare only at equal N"
    yield replace(base, value=value, note=note)
    if min(len(values), len(reference)) < 2 * values.shape[1]:
        return  # allowed by the config, but no interval is valid here
    rng = make_rng(study.seed, "evaluate", "frechet", base.variant)
    corrected = correct_bias(values, measure_moments(reference), rng, study.frechet_resamples)
    yield replace(
        base,
        name=base.name.replace("frechet_distance", "frechet_distance_corrected"),
        value=corrected.value,
        low=corrected.interval.low,
        high=corrected.interval.high,
        method=f"{base.method}; {corrected.interval.method}",
        note="bias of finite N taken off",
    )


def measure_kernel(study: Study) -> Iterator[Number]:
    """Compare features with those of real pictures by the cubic kernel."""
    if not len(study.reference):
        return
    for variant, features in picture_sets(study):
        base = Number(
            name=f"kernel_distance[{study.extractor}]",
            variant=variant,
            value=None,
            n=len(features),
            method=f"(x.y + 1)^3 on unit features; reference N={len(study.reference)}",
            extractor=study.extractor_digest,
        )
        try:
            distance = kernel_distance(features, study.reference, gamma=1.0)
        except DataError as error:
            yield replace(base, note=str(error))
            continue
        yield replace(
            base,
            value=distance.value,
            low=distance.interval.low,
            high=distance.interval.high,
            method=f"unbiased, all pairs; {base.method}; {distance.interval.method}",
            note="may be below zero",
        )
        yield replace(
            base,
            name=f"kernel_distance_biased[{study.extractor}]",
            value=distance.biased,
            method=f"biased V-statistic; {base.method}",
            note="for comparison with other tools",
        )


METRICS: Mapping[str, Callable[[Study], Iterator[Number]]] = {
    "compositional": measure_compositional,
    "clip_similarity": measure_similarity,
    "frechet_distance": measure_frechet,
    "kernel_distance": measure_kernel,
}


def picture_sets(study: Study) -> Iterator[tuple[str, Features]]:
    """Yield the sets of pictures that set-wise metrics compare with the reference.

    Real pictures held out of the reference come first, as "real": the score to aim for.
    """
    if len(study.held_out):
        yield "real", study.held_out
    for evidence in study.variants:
        if evidence.own_pictures:
            yield evidence.variant, evidence.images


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Measure how well pictures fit their prompts by the cosine of image and text embeddings.

Raw cosine, no factor 100 or 2.5, no clamp, no prefix: the conventions differ by tool, so the
report prints this one. A text tower cuts long prompts; the share that was cut stands beside the
number, because a score of cut prompts is not a score of the prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.intervals import Interval, cluster_error, mean_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Hold mean similarity, its standard error and interval.

    Args:
        similarities: [N] float64, cosine of each picture with its prompt, in [-1, 1].
        truncated_frac: share of prompts the text tower cut.
    """

    similarities: npt.NDArray[np.float64]
    mean: float
    standard_error: float
    interval: Interval
    truncated_frac: float


def measure_alignment(
    images: npt.ArrayLike,
    texts: npt.ArrayLike,
    prompts: Sequence[str],
    is_truncated: Sequence[bool],
) -> Alignment:
    """Measure the mean cosine of pictures and prompts.

    Args:
        images: [N, D], L2-normalised.
        texts: [N, D], L2-normalised, the prompt of each picture.
        prompts: [N], the unit of resampling: pictures of one prompt are not independent.
        is_truncated: [N], whether the text tower cut the prompt.
    """
    similarities = (np.asarray(images, np.float64) * np.asarray(texts, np.float64)).sum(axis=1)
    return Alignment(
        similarities=similarities,
        mean=float(similarities.mean()),
        standard_error=cluster_error(similarities, prompts),
        interval=mean_interval(similarities, prompts),
        truncated_frac=float(np.mean(is_truncated)),
    )


def shuffle_pictures(prompts: Sequence[str], rng: np.random.Generator) -> list[int] | None:
    """Give each prompt the picture of another prompt: the floor of every prompt-wise score.

    Args:
        prompts: [N], equal texts count as one prompt.
        rng: draws the order.

    Returns:
        [N] index of the picture each position gets, a permutation; None when one prompt holds
        more than half of the pictures, so that no such permutation exists.
    """
    names = sorted(set(prompts))
    rng.shuffle(names)
    rank = {name: place for place, name in enumerate(names)}
    order = sorted(range(len(prompts)), key=lambda index: (rank[prompts[index]], index))
    largest = max(list(prompts).count(name) for name in names)
    if 2 * largest > len(prompts):
        return None
    permutation = [0] * len(prompts)
    for place, index in enumerate(order):
        permutation[index] = order[(place + largest) % len(order)]
    return permutation

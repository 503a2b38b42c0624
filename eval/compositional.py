"""Score pictures against the objects their prompts name, from what a reader saw in them.

An object is a mapping with the keys shape, color, size, place. Scores are micro-averaged over all
pictures: an expected object that was read is a hit, one that was not is a miss, a read object that
was not expected is a false alarm. Recall alone would reward clutter (coloured noise has every
colour somewhere), so precision, recall and F1 are always given together.

Clutter, what a reader sees but cannot name, counts as false alarms. An unreadable picture has no
hits: all it should show is missed, and all that is in it is a false alarm, no fewer than were
expected. Without that floor a model that draws noise half of the time would keep the precision of
its good half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eval.intervals import Array, Interval, bootstrap_rate, sum_by_group, wilson_interval

ObjectRecord = Mapping[str, str]

# What has to agree for an object to be found; "place" goes with colour because a place alone is
# hit by chance on a crowded picture.
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "color": ("color",),
    "object": ("shape",),
    "color_object": ("color", "shape"),
    "position": ("color", "place"),
}
_WHOLE_OBJECT = ("shape", "color", "size", "place")


class Reading(NamedTuple):
    """Say what a reader saw in a picture.

    Args:
        readable: whether anything can be said about the picture.
        objects: the objects seen.
        background: name of the background; None when unknown.
        clutter: places that show something which is no object.
    """

    readable: bool
    objects: Sequence[ObjectRecord]
    background: str | None
    clutter: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Say what a prompt asks for; `background` None when the prompt names none."""

    objects: Sequence[ObjectRecord]
    background: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Count hits, false alarms and misses of one attribute in one picture."""

    hits: int
    false_alarms: int
    misses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureScore:
    """Hold all that is scored of one picture; `background` None when none was asked for."""

    readable: bool
    matches: Mapping[str, Matches]
    count: bool
    background: bool | None
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Hold one rate of a set of pictures, its interval and the number of its trials.

    Args:
        value: in [0, 1].
        n: pictures; of a precision the objects read, of a recall those expected.
    """

    value: float
    interval: Interval
    n: int


def score_picture(expected: Expected, reading: Reading) -> PictureScore:
    """Score one reading against what its prompt asks for."""
    wants_background = expected.background is not None
    background = reading.readable and reading.background == expected.background
    clean = reading.readable and not reading.clutter
    same = _tally(expected.objects, _WHOLE_OBJECT) == _tally(reading.objects, _WHOLE_OBJECT)
    return PictureScore(
        readable=reading.readable,
        matches={
            name: _match(expected.objects, reading, keys) for name, keys in ATTRIBUTES.items()
        },
        count=clean and len(reading.objects) == len(expected.objects),
        background=background if wants_background else None,
        exact=clean and same and (background or not wants_background),
    )


def summarise(
    scores: Sequence[PictureScore],
    prompts: Sequence[str],
    rng: np.random.Generator,
    num_resamples: int = 1000,
) -> dict[str, Rate]:
    """Average the scores of a set of pictures.

    Args:
        scores: one a picture, at least one.
        prompts: the prompt of each picture, the unit of resampling.
        rng: draws the bootstrap.
        num_resamples: bootstrap resamples; chosen by us: 1,000 steadies the second digit.

    Returns:
        Name -> rate: "<attribute>.precision|recall|f1", "count.accuracy", "background.accuracy"
        (where asked for), "exact_scene", "unreadable".
    """
    rates: dict[str, Rate] = {}
    for name in ATTRIBUTES:
        rates |= _attribute_rates(name, scores, prompts, rng, num_resamples)
    flags = {
        "count.accuracy": [float(score.count) for score in scores],
        "exact_scene": [float(score.exact) for score in scores],
        "unreadable": [float(not score.readable) for score in scores],
    }
    for name, values in flags.items():
        rates[name] = _share(np.array(values), prompts, rng, num_resamples)
    asked = [index for index, score in enumerate(scores) if score.background is not None]
    if asked:
        values = np.array([float(bool(scores[index].background)) for index in asked])
        groups = [prompts[index] for index in asked]
        rates["background.accuracy"] = _share(values, groups, rng, num_resamples)
    return rates


def _match(expected: Sequence[ObjectRecord], reading: Reading, keys: tuple[str, ...]) -> Matches:
    if not reading.readable:
        alarms = max(len(reading.objects) + reading.clutter, len(expected))
        return Matches(hits=0, false_alarms=alarms, misses=len(expected))
    hits = (_tally(expected, keys) & _tally(reading.objects, keys)).total()
    alarms = len(reading.objects) + reading.clutter - hits
    return Matches(hits=hits, false_alarms=alarms, misses=len(expected) - hits)


def _tally(objects: Sequence[ObjectRecord], keys: tuple[str, ...]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(item[key] for key in keys) for item in objects)


def _attribute_rates(
    name: str,
    scores: Sequence[PictureScore],
    prompts: Sequence[str],
    rng: np.random.Generator,
    num_resamples: int,
) -> dict[str, Rate]:
    matches = [score.matches[name] for score in scores]
    counts = np.array([[m.hits, m.false_alarms, m.misses] for m in matches], dtype=np.float64)
    sums = sum_by_group(counts, prompts)  # [G, 3]
    hits, false_alarms, misses = sums.sum(axis=0)
    trials = {
        "precision": hits + false_alarms,
        "recall": hits + misses,
        "f1": len(scores),
    }
    weights = {"precision": (1.0, 0.0), "recall": (0.0, 1.0), "f1": (0.5, 0.5)}
    rates: dict[str, Rate] = {}
    for measure, (alarm_weight, miss_weight) in weights.items():

        def statistic(totals: Array, a: float = alarm_weight, b: float = miss_weight) -> Array:
            bottom = totals[..., 0] + a * totals[..., 1] + b * totals[..., 2]
            return totals[..., 0] / np.maximum(bottom, 1e-9)  # nothing asked, nothing read: 0

        rates[f"{name}.{measure}"] = Rate(
            value=float(statistic(sums.sum(axis=0))),
            interval=bootstrap_rate(sums, statistic, rng, num_resamples),
            n=int(trials[measure]),
        )
    return rates


def _share(
    values: Array, prompts: Sequence[str], rng: np.random.Generator, num_resamples: int
) -> Rate:
    value, n = float(values.mean()), len(values)
    if len(set(prompts)) == n:  # one picture a prompt: the trials are independent
        return Rate(value=value, interval=wilson_interval(value, n), n=n)
    sums = sum_by_group(np.stack([values, np.ones(n)], axis=1), prompts)

    def statistic(totals: Array) -> Array:
        return totals[..., 0] / totals[..., 1]

    return Rate(value=value, interval=bootstrap_rate(sums, statistic, rng, num_resamples), n=n)

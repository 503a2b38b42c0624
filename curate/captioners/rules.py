"""Judge measured captions: which rules fire, in a fixed order; the first names the status.

    columns of `caption_measures` (+ language, pictures, similarity, verified) -> RULES -> reasons

A rule reads columns and thresholds alone, so that other thresholds cost seconds. What was not
measured fires no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.captioners.caption_measures import RawCaptions, measure_captions
from curate.captioners.captioner import CUT_OFF
from curate.captioners.leaks import split_prompt
from curate.captioners.thresholds import Thresholds
from curate.core.schema import OK

Columns = Mapping[str, NDArray[Any]]
"""Column name -> values of N attempts; of numbers NaN is null."""

# Chosen by us: below this a text is one repeated phrase at most, and zlib's 11-byte frame and
# 4-grams of a handful of words say nothing.
MIN_WORDS_FOR_REPETITION = 12
# Chosen by us: of fewer words, lid.176 is wrong too often; it was trained on sentences.
MIN_WORDS_FOR_LANGUAGE = 5


class Rule(NamedTuple):
    """Name a reason, and tell of N attempts which it rejects."""

    name: str
    fires: Callable[[Columns, Thresholds], NDArray[np.bool_]]


def _is_empty(columns: Columns, _: Thresholds) -> NDArray[np.bool_]:
    return columns["words"] == 0


def _is_garbled(columns: Columns, limits: Thresholds) -> NDArray[np.bool_]:
    return (columns["words"] > 0) & _below(columns["letters"], limits.min_letters)


def _repeats(columns: Columns, limits: Thresholds) -> NDArray[np.bool_]:
    words, looped = columns["words"], columns["looped"]
    many = _above(columns["repeated_frac"], limits.max_repeated_frac)
    many |= _above(columns["compression"], limits.max_compression)
    loops = _above(looped, limits.max_looped_words)
    loops |= _above(looped / np.maximum(words, 1), limits.max_looped_frac)
    return (many & (words >= MIN_WORDS_FOR_REPETITION)) | loops


def _is_too_short(columns: Columns, limits: Thresholds) -> NDArray[np.bool_]:
    return (columns["words"] > 0) & _below(columns["words"], limits.min_words)


def _is_other_language(columns: Columns, limits: Thresholds) -> NDArray[np.bool_]:
    if not limits.languages:
        return np.zeros(len(columns["words"]), bool)
    is_known = columns["language"] != ""
    is_other = ~np.isin(columns["language"], limits.languages)
    is_sure = ~_below(columns["language_score"], limits.min_language_score)
    return is_known & is_other & is_sure & (columns["words"] >= MIN_WORDS_FOR_LANGUAGE)


def _is_stock(columns: Columns, limits: Thresholds) -> NDArray[np.bool_]:
    # Who knows how many samples there are has raised `max_pictures` to their share.
    most = None if limits.max_pictures_frac is None else limits.max_pictures
    return _above(columns["pictures"], most)


def _is_dissimilar(columns: Columns, limits: Thresholds) -> NDArray[np.bool_]:
    whole = _below(columns["similarity"], limits.min_similarity)
    return whole | _below(columns["similarity_sentence"], limits.min_similarity_sentence)


RULES: Sequence[Rule] = (
    Rule("captioner_error", lambda columns, _: columns["failed"]),
    Rule("empty", _is_empty),
    Rule("refusal", lambda columns, _: columns["refusal"]),
    Rule("leak", lambda columns, _: columns["leak"]),
    Rule("garbled", _is_garbled),
    Rule("repetition", _repeats),
    Rule("cut_off", lambda columns, _: columns["cut_off"]),
    Rule("too_short", _is_too_short),
    Rule("too_long", lambda columns, limits: _above(columns["words"], limits.max_words)),
    Rule("hedging", lambda columns, limits: _above(columns["hedges"], limits.max_hedges)),
    Rule("script", lambda columns, limits: _above(columns["script_mix"], limits.max_script_mix)),
    Rule("language", _is_other_language),
    Rule("stock", _is_stock),
    Rule("similarity", _is_dissimilar),
    Rule("verified", lambda columns, limits: _below(columns["verified"], limits.min_verified)),
    Rule("parent", lambda columns, _: columns["parent_rejected"]),
)
"""All rules, in the order in which they name the status."""

_UNMEASURED: Mapping[str, Any] = {
    "failed": False,
    "language": "",
    "language_score": np.nan,
    "pictures": np.nan,
    "similarity": np.nan,
    "similarity_sentence": np.nan,
    "verified": np.nan,
    "parent_rejected": False,
}
"""What stands for columns that a caller has not."""


def find_reasons(measures: pa.Table, more: Columns, limits: Thresholds) -> NDArray[np.bool_]:
    """Tell which rule rejects which attempt: [N, rules], in the order of `RULES`.

    Args:
        measures: of N attempts, as `measure_captions` gives them.
        more: further columns by name, each [N]; see `_UNMEASURED`.
        limits: the thresholds.
    """
    num_rows = len(measures)
    columns = {name: np.full(num_rows, value) for name, value in _UNMEASURED.items()}
    columns |= {name: measures[name].to_numpy() for name in measures.column_names if name != "text"}
    columns |= more
    fired = [rule.fires(columns, limits).astype(bool) for rule in RULES]
    reasons = np.stack(fired, axis=1)
    reasons[columns["failed"].astype(bool), 1:] = False  # an error message is no caption
    return reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Hold a clean text, "ok" or the first reason of its rejection, and all reasons."""

    text: str
    status: str
    reasons: tuple[str, ...]


def judge_text(
    text_raw: str,
    *,
    prompt: str = "",
    finish_reason: str = "stop",
    limits: Thresholds | None = None,
) -> Judgement:
    """Judge one caption by its text alone; see `judge_texts`."""
    return judge_texts([text_raw], [prompt], [finish_reason], limits)[0]


def judge_texts(
    texts_raw: Sequence[str],
    prompts: Sequence[str],
    finish_reasons: Sequence[str],
    limits: Thresholds | None = None,
) -> list[Judgement]:
    """Judge captions by their texts alone, as the stage judge does before it knows other shards.

    Args:
        texts_raw: what the model wrote; any script, any length.
        prompts: the instruction of each, without what a sample brings to it; "" checks nothing.
        finish_reasons: as `CaptionAttempt` has them.
        limits: the thresholds; None takes the defaults.
    """
    limits = limits or Thresholds()
    raw = RawCaptions(
        texts=pa.array([_storable(text) for text in texts_raw], pa.string()),
        is_cut_off=pa.array([reason in CUT_OFF for reason in finish_reasons], pa.bool_()),
        prompts=[split_prompt(prompt) for prompt in prompts],
    )
    measures = measure_captions(raw, trim=limits.cut_off == "trim")
    failed = np.array([reason == "error" for reason in finish_reasons], bool)
    fired = find_reasons(measures, {"failed": failed}, limits)
    return [
        Judgement(text=text, status=reasons[0] if reasons else OK, reasons=reasons)
        for text, reasons in zip(
            measures["text"].to_pylist(), map(name_reasons, fired), strict=True
        )
    ]


def name_reasons(fired: NDArray[np.bool_]) -> tuple[str, ...]:
    """Name the rules that rejected one attempt: [rules] -> their names, in order."""
    return tuple(rule.name for rule, is_one in zip(RULES, fired, strict=True) if is_one)


def _storable(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 cannot write."""
    return text.encode("utf-8", "replace").decode()


def _below(values: NDArray[Any], limit: float | None) -> NDArray[np.bool_]:
    """Tell which values are below a limit; null is not, and without a limit none is."""
    return np.zeros(len(values), bool) if limit is None else values < limit


def _above(values: NDArray[Any], limit: float | None) -> NDArray[np.bool_]:
    return np.zeros(len(values), bool) if limit is None else values > limit

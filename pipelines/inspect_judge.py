"""Tell the verdict on one caption, with every measure beside its threshold, for `curate why`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curate.core.schema import OK

_MAX_TEXT = 400
_EVERY = "*"  # stands for sources without thresholds of their own, as in judge
# Columns of judge, each with the thresholds that bound it from below and above.
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "words": ("min_words", "max_words"),
    "letters": ("min_letters", ""),
    "repeated_frac": ("", "max_repeated_frac"),
    "compression": ("", "max_compression"),
    "looped": ("", "max_looped_words"),
    "hedges": ("", "max_hedges"),
    "script_mix": ("", "max_script_mix"),
    "pictures": ("", "max_pictures"),
    "similarity": ("min_similarity", ""),
    "similarity_sentence": ("min_similarity_sentence", ""),
    "verified": ("min_verified", ""),
}


def tell_judgement(row: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str]:
    """Say what became of a caption and why.

    Args:
        row: of judge's table.
        params: of the task that judged it: its marker's.
    """
    verdict = OK if row["status"] == OK else f"rejected for {', '.join(row['reasons'])}"
    yield f"{row['source']} {row['number']}, {verdict}: {_cut(row['text'] or '')}"
    made_of = f", made from {row['parent']}" if row["parent"] else ""
    opening = ", a stock opening stripped" if row["boilerplate"] else ""
    yield f"  attempt {row['attempt']}{made_of}{opening}"
    limits = params.get("limits", {})
    own = limits.get(row["source"], limits.get(_EVERY, {}))
    yield f"  {', '.join(_tell_measures(row, own))}"


def _tell_measures(row: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[str]:
    """Write "words 12 (3 to 256)" for each measure that is there."""
    for name, (low, high) in _BOUNDS.items():
        if row[name] is not None:
            yield f"{name} {row[name]:.4g}{_tell_bounds(limits.get(low), limits.get(high))}"
    if row["language"]:
        known = limits.get("languages") or []
        wanted = f" (of {', '.join(known)})" if known else ""
        yield f"language {row['language']} {row['language_score']:.2f}{wanted}"


def _tell_bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" ({low:g} to {high:g})"
    if low is not None:
        return f" (>= {low:.4g})"
    return "" if high is None else f" (<= {high:.4g})"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."

"""`curate why` tells the verdict on each caption with measures and thresholds."""

from __future__ import annotations

from typing import Any

from curate.captioners.thresholds import Thresholds
from curate.stages.judging.config import limits_to_json
from curate.stages.judging.verdicts import JUDGE_SCHEMA
from pipelines.inspect_judge import tell_judgement

ROW: dict[str, Any] = {
    **dict.fromkeys(JUDGE_SCHEMA.names),
    "status": "leak", "reasons": ["leak", "too_long"], "attempt": "a" * 20, "parent": "b" * 20,
    "source": "medium", "number": 1, "text": "A red house", "words": 3, "boilerplate": True,
    "repeated_frac": 0.25, "looped": 0, "compression": 1.23456, "hedges": 0.5, "letters": 1.0,
    "script_mix": 0.0, "language": "en", "language_score": 0.5, "pictures": 2, "verified": 0.75,
}  # fmt: skip
PARAMS = {
    "limits": limits_to_json(
        {
            "*": Thresholds(),
            "medium": Thresholds(max_words=2, min_words=1, languages=["en"], max_hedges=None),
        }
    )
}


def test_a_rejected_caption_is_told_with_measures_and_limits_of_its_source() -> None:
    first, second, third = tell_judgement(ROW, PARAMS)
    assert first == "medium 1, rejected for leak, too_long: A red house"
    assert second == f"  attempt {'a' * 20}, made from {'b' * 20}, a stock opening stripped"
    assert third == (
        "  words 3 (1 to 2), letters 1 (>= 0.5), repeated_frac 0.25 (<= 0.6), "
        "compression 1.235 (<= 2.4), looped 0 (<= 12), hedges 0.5, script_mix 0 (<= 0.15), "
        "pictures 2 (<= 100), verified 0.75, language en 0.50 (of en)"
    )


def test_an_accepted_caption_says_so_and_a_long_one_is_cut() -> None:
    row = {**ROW, "status": "ok", "reasons": [], "source": "short", "parent": "", "text": "x" * 999}
    first, second, third = tell_judgement({**row, "boilerplate": False}, PARAMS)
    assert first.startswith("short 1, ok: xxx")
    assert len(first) < 450
    assert second == f"  attempt {'a' * 20}"
    assert "words 3 (3 to 256)" in third

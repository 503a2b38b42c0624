"""A benchmark's items and summary count samples once, whatever they are met by."""

from __future__ import annotations

from typing import Any

from curate.stages.matching.benchmark_config import Actions
from curate.stages.matching.hits import Hit, decide
from curate.stages.matching.items import BenchmarkItem, KindCounts, sum_up

ITEMS = [
    BenchmarkItem(name="a", is_prompt=False),
    BenchmarkItem(name="b", is_prompt=False, status="unreadable"),
    BenchmarkItem(name="a", is_prompt=True),  # a prompt may have a picture's name
    BenchmarkItem(name="c", is_prompt=True, status="no_words"),
    BenchmarkItem(name="d", is_prompt=True),
]


def hit(item: str, kind: str, distance: float = 0.0, benchmark: str = "mine") -> dict[str, Any]:
    return {"benchmark": benchmark, "item": item, "kind": kind, "distance": distance}


SAMPLES = [
    ("k1", [hit("a", "pdq", 9.0), hit("b", "pdq", 3.0), hit("a", "ngram", 0.25)]),
    ("k2", [hit("a", "pdq", 4.0), hit("a", "exact"), hit("d", "exact")]),
    ("k3", [hit("d", "ngram", 0.5)]),
    ("k4", [hit("a", "bytes", benchmark="other")]),
]


def test_a_sample_counts_once_in_the_summary_and_once_for_each_kind() -> None:
    _, summary = sum_up("mine", ITEMS, SAMPLES, Actions())
    assert (summary.pictures, summary.unreadable, summary.pictures_met) == (2, 1, 2)
    assert (summary.prompts, summary.wordless, summary.prompts_met) == (3, 1, 2)
    assert (summary.samples, summary.dropped) == (3, 2)  # k3 is flagged
    assert summary.kinds == {
        "pdq": KindCounts(items=2, samples=2, dropped=2),
        "exact": KindCounts(items=2, samples=1, dropped=1),
        "ngram": KindCounts(items=2, samples=2, dropped=0),
    }


def test_a_sample_that_is_dropped_in_two_ways_is_dropped_once() -> None:
    _, summary = sum_up("mine", ITEMS, [SAMPLES[1]], Actions())
    assert (summary.samples, summary.dropped) == (1, 1)


def test_an_item_names_its_strongest_evidence_and_who_gave_it() -> None:
    rows, _ = sum_up("mine", ITEMS, SAMPLES, Actions())
    told = [
        (row["item"], row["is_prompt"], row["samples"], row["dropped"], row.get("kind"),
         row.get("distance"), row.get("sample"))
        for row in rows
    ]  # fmt: skip
    assert told == [
        ("a", False, 2, 2, "pdq", 4.0, "k2"),
        ("b", False, 1, 1, "pdq", 3.0, "k1"),
        ("a", True, 2, 1, "exact", 0.0, "k2"),
        ("c", True, 0, 0, None, None, None),
        ("d", True, 2, 1, "exact", 0.0, "k2"),
    ]
    assert [row["is_met"] for row in rows] == [True, True, True, False, True]


def test_what_drops_decides_though_something_stronger_is_flagged() -> None:
    hits = [Hit(row=0, benchmark="mine", item=item, kind=kind)
            for item, kind in (("a", "pixels"), ("b", "pdq"), ("c", "clip"))]  # fmt: skip
    verdict = decide(hits, Actions(pixels="flag"))
    assert (verdict["keep"], verdict["reason"]) == (False, "contaminated_picture")
    assert (verdict["kind"], verdict["item"]) == ("pdq", "b")
    assert [told["item"] for told in verdict["hits"]] == ["a", "b", "c"]
    flagged = decide(hits, Actions(pixels="flag", pdq="flag", clip="flag"))
    assert "keep" not in flagged and flagged["item"] == "a"

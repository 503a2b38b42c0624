"""The most common texts are found in bounded memory."""

from __future__ import annotations

import pyarrow as pa
import pytest

from curate.core import top_counter
from curate.core.top_counter import TopCounter


def test_common_texts_survive_when_rare_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_counter, "MAX_COUNTED", 100)
    counter = TopCounter()
    for part in range(20):
        rare = [f"rare{part}-{row}" for row in range(60)]
        counter.add(pa.chunked_array([["common"] * 5 + rare + [None]]))
    assert counter.most_common(1) == [("common", 100)]
    assert len(counter.most_common()) <= 100


def test_equals_come_in_the_order_of_the_texts_and_null_does_not_count() -> None:
    counter = TopCounter()
    counter.add(pa.chunked_array([["b", "a", None, "c"], ["c"]]))
    assert counter.most_common() == [("c", 2), ("a", 1), ("b", 1)]

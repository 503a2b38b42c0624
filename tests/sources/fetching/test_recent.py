"""What was used lately stays, and no more than was granted."""

from __future__ import annotations

from curate.sources.fetching.recent import Recent


def test_what_was_not_used_for_longest_is_forgotten_first() -> None:
    recent = Recent[str, int](3)
    for number, name in enumerate("abc"):
        recent.put(name, number)
    assert recent.get("a") == 0
    recent.put("d", 3)
    assert [recent.get(name) for name in "abcd"] == [0, None, 2, 3]


def test_weights_are_summed_and_a_new_value_replaces_the_old_weight() -> None:
    recent = Recent[str, str](10)
    recent.put("a", "small", 4)
    recent.put("a", "large", 9)
    recent.put("b", "x", 1)
    assert (recent.get("a"), recent.get("b")) == ("large", "x")
    recent.put("c", "huge", 99)
    assert [recent.get(name) for name in "abc"] == [None, None, "huge"]
    recent.put("d", "x", 1)
    assert [recent.get(name) for name in "cd"] == [None, "x"]

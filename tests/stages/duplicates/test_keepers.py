"""Keepers: rules in order, nulls last, ties to the smaller key, mistakes in one line."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from curate.core.errors import ConfigError, StageError
from curate.stages.duplicates.keepers import (
    KEEPER_COLUMNS,
    KeeperPolicy,
    check_measured,
    rank_samples,
)

TYPES = {
    "num_pixels": pa.int64(),
    "clip.similarity": pa.float32(),
    "aesthetic.score": pa.float32(),
    "caption_text.words": pa.int32(),
    "license": pa.string(),
    "source": pa.string(),
}


def rank(policy: KeeperPolicy, **columns: list[Any]) -> list[str]:
    """Order samples a, b, c, ... by columns that are named by their rule."""
    num = len(next(iter(columns.values())))
    data = {
        KEEPER_COLUMNS[rule]: pa.array(values, TYPES[KEEPER_COLUMNS[rule]])
        for rule, values in columns.items()
    }
    facts = pa.table({"key": [chr(ord("a") + n) for n in range(num)], **data})
    order = rank_samples(facts, policy)
    backwards = rank_samples(facts.take(list(range(num))[::-1]), policy)
    assert (num - 1 - backwards).tolist() == order.tolist()  # rows have no order of their own
    return facts["key"].take(pa.array(order)).to_pylist()


@pytest.mark.parametrize("rule", ["resolution", "similarity", "aesthetic", "caption_words"])
def test_a_larger_number_is_better_and_none_is_last(rule: str) -> None:
    policy = KeeperPolicy(rules=[rule])
    assert rank(policy, **{rule: [2, None, 9, 0, 2]}) == ["c", "a", "e", "d", "b"]


def test_what_is_no_number_comes_last_as_a_null_does() -> None:
    policy = KeeperPolicy(rules=["similarity"])
    assert rank(policy, similarity=[math.nan, None, -1.0, math.nan]) == ["c", "a", "b", "d"]


def test_a_later_rule_decides_where_the_earlier_ones_tie() -> None:
    columns = {"resolution": [5, 5, 5, 9], "similarity": [0.1, 0.3, 0.3, None]}
    ranked = rank(KeeperPolicy(rules=["resolution", "similarity"]), **columns)
    assert ranked == ["d", "b", "c", "a"]
    ranked = rank(KeeperPolicy(rules=["similarity", "resolution"]), **columns)
    assert ranked == ["b", "c", "a", "d"]


def test_without_rules_the_smaller_key_is_better() -> None:
    assert rank(KeeperPolicy(rules=[]), resolution=[1, 2, 3]) == ["a", "b", "c"]


def test_a_stated_licence_is_better_than_none() -> None:
    policy = KeeperPolicy(rules=["licence"])
    assert rank(policy, licence=[None, "", " ", "x", "CC0"]) == ["d", "e", "a", "b", "c"]


def test_named_licences_come_first_in_their_order() -> None:
    policy = KeeperPolicy(rules=["licence"], licences=["cc0", "by-sa"])
    by_sa = "https://creativecommons.org/licenses/by-sa/4.0/"
    by = "https://creativecommons.org/licenses/by/4.0/"
    ranked = rank(policy, licence=["other", None, by_sa, " CC0 ", by])
    assert ranked == ["d", "c", "a", "e", "b"]


def test_a_licence_is_named_in_any_case_and_as_a_whole() -> None:
    policy = KeeperPolicy(rules=["licence"], licences=[" CC0 ", "By"])
    urls = [f"https://creativecommons.org/licenses/{name}/4.0/" for name in ("by-nd", "BY", "cc0")]
    assert rank(policy, licence=[*urls, "by-sa", "by", "Cc0"]) == ["c", "f", "b", "e", "a", "d"]


def test_a_source_is_not_named_by_the_end_of_another_host() -> None:
    policy = KeeperPolicy(rules=["source"], sources=["own.org"])
    sources = ["down.org", "own.organic", "x.own.org", "own.org"]
    assert rank(policy, source=sources) == ["c", "d", "a", "b"]


def test_named_sources_come_first_in_their_order_with_all_below_them() -> None:
    policy = KeeperPolicy(rules=["source"], sources=["own", "wikimedia.org"])
    sources = [
        "x.com",
        "wikimedia.org",
        None,
        "own/1.png",
        "own#3",
        "upload.wikimedia.org",
        "owner",
    ]
    assert rank(policy, source=sources) == ["d", "e", "b", "f", "a", "c", "g"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"rules": ["resolution", "size"]},
            "dedup.keeper: must be among resolution, similarity, aesthetic, caption_words, "
            "licence, source, got 'size'; fix the name",
        ),
        (
            {"rules": ["resolution", "resolution"]},
            "dedup.keeper: names a rule once, got resolution twice; drop one",
        ),
        (
            {"rules": ["resolution"], "licences": ["cc0"]},
            "dedup.keeper: must have licence where dedup.keeper_licences is set, "
            "got resolution; add it",
        ),
        (
            {"rules": ["source"]},
            "dedup.keeper: source and dedup.keeper_sources need each other, "
            "got source and 0 names; add one",
        ),
        (
            {"rules": [], "sources": ["own"]},
            "dedup.keeper: source and dedup.keeper_sources need each other, "
            "got none and 1 names; add one",
        ),
    ],
)
def test_a_policy_that_says_nothing_clear_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        KeeperPolicy(**given)
    assert str(refused.value) == message


def test_a_column_that_nobody_measured_is_named() -> None:
    message = (
        "dedup.keeper: aesthetic reads column aesthetic.score, which was not measured; "
        "add aesthetic to annotate.annotators or leave aesthetic out"
    )
    policy = KeeperPolicy(rules=["resolution", "aesthetic"])
    with pytest.raises(StageError) as refused:
        check_measured(policy, ["num_pixels", "clip.similarity"])
    assert str(refused.value) == message
    with pytest.raises(StageError) as refused:
        rank(policy, resolution=[1])
    assert str(refused.value) == message


def test_a_policy_names_the_columns_it_reads() -> None:
    assert KeeperPolicy(rules=["licence", "resolution"]).columns() == ["license", "num_pixels"]
    assert list(KEEPER_COLUMNS.values()) == list(TYPES)

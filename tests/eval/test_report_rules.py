"""A rule's part of the page counts, ranks and bounds what it shows."""

from __future__ import annotations

import numpy as np

from eval.gallery import Gallery
from eval.report_rules import (
    GroupChange,
    NearSample,
    RuleFacts,
    format_score,
    view_groups,
    view_pictures,
    view_rules,
)

EMPTY = Gallery(uris={}, captions={})


def test_the_groups_that_lose_most_of_their_share_come_first():
    groups = [
        GroupChange(name="en", before=80, after=80),
        GroupChange(name="de", before=15, after=5),
        GroupChange(name="fr", before=5, after=0),
    ]
    table = view_groups("language", groups)
    assert [row.name for row in table.rows] == ["de", "fr", "en"]
    first = table.rows[0]
    assert (first.before, round(first.passed, 3)) == (15, 0.333)
    assert (first.share_before, round(first.share_after, 3)) == (0.15, 0.059)


def test_many_groups_are_cut_and_counted():
    groups = [GroupChange(name=f"{i:02}", before=10, after=i) for i in range(10)]
    table = view_groups("host", groups)
    assert [row.name for row in table.rows] == ["00", "01", "02", "03", "04", "05"]
    assert table.num_hidden == 4


def test_where_nothing_is_lost_or_there_is_one_group_no_table_is_shown():
    same = [GroupChange(name=name, before=3, after=3) for name in "ab"]
    assert view_groups("host", same).rows == ()
    assert view_groups("host", [GroupChange(name="a", before=3, after=0)]).rows == ()


def test_a_rule_that_drops_everything_has_shares_of_none():
    groups = [GroupChange(name=name, before=2, after=0) for name in "ab"]
    assert [row.share_after for row in view_groups("host", groups).rows] == [0, 0]


def test_the_unmeasured_count_as_failing_first():
    facts = RuleFacts(name="similarity", column="clip.similarity")
    counts = {"similarity": 4, "unmeasured.similarity": 3, "aspect": 9}
    (view,) = view_rules([facts], counts)
    assert view.num_first == 7 and view.drops
    assert not view_rules([facts], {})[0].drops


def test_thresholds_beyond_the_chart_are_told():
    counts = np.ones(4, int)
    facts = RuleFacts(
        name="a", column="b", thresholds=[0.5, 9.0], edges=np.linspace(0, 1, 5),
        kept=counts, dropped=counts,
    )  # fmt: skip
    (view,) = view_rules([facts], {})
    assert view.beyond == [9.0]
    assert view.svg.startswith("<svg")


def test_a_rule_without_a_number_has_no_chart_and_pictures_at_random():
    facts = RuleFacts(name="where", column="a, b", limits=["a > b"])
    (view,) = view_rules([facts], {})
    assert view.svg == "" and view.beyond == []
    pictures = view_pictures(facts, ["x"], ["y"], EMPTY)
    assert not pictures.is_nearest
    assert (len(pictures.dropped), len(pictures.kept)) == (1, 1)
    assert view_pictures(facts, [], ["y"], EMPTY).kept == []


def test_the_nearest_say_whether_another_rule_decides():
    facts = RuleFacts(
        name="a",
        column="b",
        near_dropped=[NearSample(key="x", score=0.29984, is_decided=True)],
        near_kept=[NearSample(key="y", score=3, is_decided=False)],
    )
    pictures = view_pictures(facts, (), (), EMPTY)
    assert (pictures.dropped[0].detail, pictures.dropped[0].mark) == ("0.2998", "")
    assert (pictures.kept[0].detail, pictures.kept[0].mark) == ("3", "another drops it")


def test_many_thresholds_are_cut():
    facts = RuleFacts(name="a", column="b", limits=[f">= {i}" for i in range(176)])
    (view,) = view_rules([facts], {})
    assert (len(view.limits), view.num_hidden_limits) == (6, 170)


def test_scores_keep_the_digits_that_tell():
    assert format_score(0.29984) == "0.2998"
    assert format_score(12345.6) == "12,346"
    assert format_score(-0.5) == "\u22120.5"
    assert format_score(48.0) == "48"

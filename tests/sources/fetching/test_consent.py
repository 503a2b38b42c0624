"""Opt-outs in headers and tdmrep.json are found in every form, and only those that address us."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from curate.sources.fetching.consent import find_opt_out, tdm_reserved
from curate.sources.fetching.robots import parse_tdm

DISALLOWED = frozenset(("noai", "noimageai", "noml", "noindex", "noimageindex"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "tags",
    [
        ["noai"],
        ["noimageai"],
        ["noml"],
        ["noindex"],
        ["noimageindex"],
        ["none"],
        ["NoAI"],
        ["  noai  "],
        ["nosnippet, NoAI"],
        ["nofollow,noai"],
        ["nofollow; noai"],
        ["all", "noai"],
        ["noarchive", "latentmill: noimageai"],
        ["latentmill: noai"],
        ["LatentMill: NONE"],
        ["latentmill:noai"],
        ["*: noai"],
        ["otherbot: noindex, latentmill: noai"],
        ["otherbot: noindex, nofollow, latentmill: nosnippet, noai"],
        ["noai, otherbot: noindex"],
        ["max-image-preview: large, noai"],
        ["max-snippet:-1, max-image-preview:large, max-video-preview:-1, noimageindex"],
        ["unavailable_after: 25 Jun 2010 15:00:00 PST"],
        ["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"],
        ["unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT"],
        ["unavailable_after: Friday, 25-Jun-10 15:00:00 UTC"],
        ["unavailable_after: Fri, 25 Jun 2030 15:00:00 GMT, noai"],
        ["unavailable_after: 2010-06-25T15:00:00+02:00"],
        ["unavailable_after: 2010-06-25"],
        ["unavailable_after: 25-Aug-2010 15:00:00 EST"],
        ["unavailable_after: 31 Dec 2025 23:59:59 UTC"],
        ["unavailable_after: 1 Jan 2026 08:59:59 JST"],
        ["unavailable_after: 31 Dec 2025 16:00:00 -0800"],
        ["UNAVAILABLE_AFTER: Wed, 01 Jan 2020 00:00:00 GMT"],
        ["latentmill: unavailable_after: 25 Jun 2010 15:00:00 PST"],
        ["otherbot: noai, latentmill: unavailable_after: Fri, 25 Jun 2010 15:00:00 PST"],
        ["unavailable_after: some day"],
    ],
)
def test_an_opt_out_is_found(tags: list[str]) -> None:
    assert find_opt_out(tags, DISALLOWED, "latentmill", NOW)


@pytest.mark.parametrize(
    "tags",
    [
        [],
        [""],
        [", ,"],
        ["all"],
        ["index, follow"],
        ["nofollow"],
        ["nosnippet, noarchive, notranslate"],
        ["noaiornot"],
        ["otherbot: noai"],
        ["otherbot: noindex, noai"],
        ["otherbot: none", "googlebot: noai"],
        ["latentmillion: noai"],
        ["latentmill: nofollow, otherbot: noai"],
        ["max-image-preview: none"],
        ["max-snippet: 0"],
        ["unavailable_after: 25 Jun 2030 15:00:00 PST"],
        ["unavailable_after: Fri, 25 Jun 2030 15:00:00 GMT"],
        ["unavailable_after: 2030-06-25T15:00:00Z"],
        ["unavailable_after: 31 Dec 2025 16:00:01 PST"],
        ["otherbot: unavailable_after: 25 Jun 2010 15:00:00 PST"],
    ],
)
def test_what_does_not_address_us_is_no_opt_out(tags: list[str]) -> None:
    assert find_opt_out(tags, DISALLOWED, "latentmill", NOW) == ""


def test_only_the_configured_directives_count() -> None:
    assert find_opt_out(["noindex, noai"], frozenset(["noai"]), "x", NOW) == "noai"
    assert find_opt_out(["none"], frozenset(["noai"]), "x", NOW) == ""
    assert find_opt_out(["none, noai"], frozenset(), "x", NOW) == ""
    past = ["unavailable_after: 25 Jun 2010 15:00:00 PST"]
    assert find_opt_out(past, frozenset(["noai"]), "x", NOW) == ""


def test_the_tdm_header_overrides_the_file() -> None:
    assert [tdm_reserved(values, by_file=False) for values in ([], ["1"], ["0"], [" 1 "])] == [
        False,
        True,
        False,
        True,
    ]
    assert [tdm_reserved(values, by_file=True) for values in ([], ["1"], ["0"], ["yes"])] == [
        True,
        True,
        False,
        True,
    ]
    assert tdm_reserved(["0", "1"], by_file=False)


RULES = b"""[
    {"location": "/", "tdm-reservation": 1},
    {"location": "/free/", "tdm-reservation": 0},
    {"location": "/free/*.png$", "tdm-reservation": 1, "tdm-policy": "https://a.test/p.json"},
    {"location": "/free/", "tdm-reservation": 0}
]"""


@pytest.mark.parametrize(
    ("path", "is_reserved"),
    [
        ("/a.jpg", True),
        ("/free/a.jpg", False),
        ("/free/a.png", True),
        ("/free/b/a.png", True),
        ("/free/a.png?x", False),
    ],
)
def test_the_longest_location_of_a_tdm_file_decides(path: str, is_reserved: bool) -> None:
    assert parse_tdm(RULES).reserves(path) is is_reserved


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/a*c", "/abbc/d", True),
        ("/a*c$", "/abcc", True),
        ("/a*c$", "/abcd", False),
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/ab*b$", "/ab", False),
        ("*.gif", "/x/y.gif", True),
        ("", "/x", True),
        ("/**/x", "/a/x", True),
    ],
)
def test_patterns_fit_as_in_robots_txt(pattern: str, path: str, fits: bool) -> None:
    rules = f'[{{"location": "{pattern}", "tdm-reservation": 1}}]'.encode()
    assert parse_tdm(rules).reserves(path) is fits


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b"[1, null]", b'[{"location": 3}]', b"\xff\xfe", b"[" * 100_000],
)
def test_a_broken_tdm_file_reserves_nothing(body: bytes) -> None:
    assert not parse_tdm(body).reserves("/a.jpg")

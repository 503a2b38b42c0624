"""Every failure has a sentence, and what is worth another try is told from what is not."""

from __future__ import annotations

from typing import get_args

from curate.sources.fetching.hosts import UNREACHABLE
from curate.sources.fetching.img2dataset import STATUS_BY_TEXT
from curate.sources.statuses import FAILURES, Again, failure_of, is_retried, is_transient


def test_every_failure_has_one_sentence_and_a_known_patience() -> None:
    for status, failure in FAILURES.items():
        assert failure.sentence.endswith(".") and failure.sentence.count(". ") == 0, status
        assert failure.again in get_args(Again)


def test_http_codes_fall_to_their_family_unless_they_are_listed() -> None:
    assert failure_of("http_404") is FAILURES["http_404"]
    assert failure_of("http_418") is FAILURES["http_4xx"]
    assert failure_of("http_502") is FAILURES["http_5xx"]
    assert failure_of("http_304") is FAILURES["http_3xx"]
    assert [failure_of(name) for name in ("ok", "http_999", "http_4xx0", "")] == [None] * 4


def test_only_what_may_pass_is_transient_and_only_what_passes_soon_is_retried() -> None:
    now = ("timeout", "connect", "http_429", "http_500", "http_503", "short_body", "dns_busy")
    later = ("deadline", "host_down", "robots_unreachable", "dns", "tls", "lost")
    never = ("http_404", "http_410", "robots", "opted_out", "private_address", "bad_url",
             "not_image", "too_large", "too_many_bytes", "redirect_loop", "ok")  # fmt: skip
    assert all(is_transient(name) and is_retried(name) for name in now)
    assert all(is_transient(name) and not is_retried(name) for name in later)
    assert not any(is_transient(name) or is_retried(name) for name in never)


def test_other_tables_name_only_statuses_of_this_one() -> None:
    named = {*UNREACHABLE, *(status for _, status in STATUS_BY_TEXT)}
    assert {name for name in named if failure_of(name) is None} == set()
    assert all(is_transient(name) for name in UNREACHABLE)

"""The table of failures says what each status means, and names hosts, never URLs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from eval.report_ingest import Meaning, measure_ingest

COLUMNS = [
    ("url", pa.string()), ("format", pa.string()), ("frames", pa.int32()),
    *((name, pa.int32()) for name in ("width", "height", "original_width", "original_height")),
]  # fmt: skip
MEANINGS = {
    "timeout": Meaning(sentence="Silent.", is_fetched_again=True),
    "opted_out": Meaning(sentence="Reserved.", is_fetched_again=False),
}


def test_failures_come_with_meaning_share_and_hosts(make_shards: Any, toy: Any):
    urls = [
        ("timeout", "https://user:secret@A.example:8080/private?token=1"),
        ("timeout", "http://a.example"),
        ("timeout", "http://[2001:db8::1]/x"),
        ("opted_out", "no url at all"),
        ("http_418", None),
        *(("ok", f"http://good.example/{i}") for i in range(5)),
    ]
    rows = [
        {"key": toy.key(str(i)), "status": status, "url": url}
        for i, (status, url) in enumerate(urls)
    ]
    facts = measure_ingest(make_shards("ingest", rows, COLUMNS), MEANINGS)
    assert (facts.num_rows, facts.num_failed) == (10, 5)
    timeout, *others = facts.failures
    assert (timeout.status, timeout.sentence, timeout.num, timeout.share) == (
        "timeout", "Silent.", 3, 0.3,
    )  # fmt: skip
    assert timeout.is_fetched_again
    assert timeout.hosts == [("a.example", 2), ("[2001:db8::1]", 1)]
    assert [(row.status, row.sentence, row.hosts) for row in others] == [
        ("http_418", "", []),
        ("opted_out", "Reserved.", []),
    ]
    assert not others[1].is_fetched_again


def test_at_most_five_hosts_are_named(make_shards: Any, toy: Any):
    rows = [
        {"key": toy.key(f"{host}-{i}"), "status": "dns", "url": f"http://h{host}.example/{i}"}
        for host in range(8)
        for i in range(host + 1)
    ]
    (row,) = measure_ingest(make_shards("ingest", rows, COLUMNS), {}).failures
    assert row.hosts == [(f"h{host}.example", host + 1) for host in (7, 6, 5, 4, 3)]
    assert row.has_more_hosts


def test_formats_animations_and_resized_pictures_are_counted(make_shards: Any, toy: Any):
    def row(name: str, format_: str, frames: int, side: int, original: int, status: str = "ok"):
        sides = {"width": side, "height": side, "original_width": original}
        return {
            "key": toy.key(name), "status": status, "format": format_, "frames": frames,
            **sides, "original_height": original,
        }  # fmt: skip

    rows = [
        row("a", "jpg", 1, 100, 100),
        row("b", "jpg", 1, 100, 300),
        row("c", "webp", 12, 100, 100),
        row("d", "png", 3, 100, 300, status="too_many_frames"),
    ]
    facts = measure_ingest(make_shards("ingest", rows, COLUMNS), {})
    assert facts.formats == [("jpg", 2), ("webp", 1)]
    assert (facts.num_animated, facts.num_resized) == (1, 1)


def test_a_table_of_keys_alone_is_counted(make_shards: Any, toy: Any):
    facts = measure_ingest(make_shards("ingest", [{"key": toy.key("a")}]), {})
    assert (facts.num_rows, facts.num_failed, facts.formats) == (1, 0, [])


def test_pictures_that_annotate_could_not_decode_are_among_the_failures(
    make_shards: Any, toy: Any
) -> None:
    rows = [{"key": toy.key(name), "status": "ok", "url": "http://h.test/a.jpg"} for name in "abc"]
    statuses = ("ok", "truncated", "ok")
    later = [{**row, "status": status} for row, status in zip(rows, statuses, strict=True)]
    facts = measure_ingest(
        make_shards("ingest", rows, COLUMNS), {}, make_shards("annotate", later, [])
    )
    (failure,) = facts.failures
    assert (failure.status, failure.num, failure.hosts) == ("truncated", 1, [("h.test", 1)])

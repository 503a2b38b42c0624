"""img2dataset as the fetcher: the same names for the same failures, nothing but web addresses."""

from __future__ import annotations

from pathlib import Path

from benchmarks.hostile_server import after_head, redirect, reply, serve
from curate.sources.config import IngestConfig
from curate.sources.fetching.fetchers import make_fetcher

PICTURE = b"\xff\xd8\xff" + bytes(1000)


def test_outcomes_have_the_names_of_the_own_fetcher(tmp_path: Path) -> None:
    routes = {
        "/good": reply(PICTURE),
        "/gone": reply(b"", 410),
        "/loop": redirect("/loop"),
        "/tag": reply(PICTURE, 200, ("X-Robots-Tag", "noml")),
        "/short": after_head(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"abc"),
    }
    config = IngestConfig(fetcher="img2dataset", allow_private=True, timeout_s=2.0, num_threads=4)
    with serve(routes) as server:
        urls = dict(
            enumerate([*map(server.url, routes), "file:///etc/hostname", "http://a@b.test/"])
        )
        with make_fetcher(config).fetch_all(urls, tmp_path) as outcome:
            found = [outcome(row) for row in urls]
    assert [outcome.status for outcome in found] == [
        "ok", "http_410", "redirect_loop", "opted_out", "short_body", "bad_url", "bad_url",
    ]  # fmt: skip
    assert found[0].data == PICTURE

"""The fetcher against a real hostile server on loopback: limits hold, consent and pace are kept.

Names are resolved by a function of the test; the server stands on loopback, so most tests allow
private addresses; those about addresses do not.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile_server import (
    Routes,
    Server,
    after_head,
    drip,
    redirect,
    reply,
    serve,
    stream,
)
from curate.core.errors import ConfigError, StageError
from curate.sources.config import IngestConfig
from curate.sources.fetching.fetcher import Fetched
from curate.sources.fetching.fetchers import make_fetcher
from curate.sources.fetching.vetted_fetcher import VettedFetcher

PICTURE = b"\xff\xd8\xff" + bytes(1000)
HEAD = b"HTTP/1.1 200 OK\r\n"
GZIP_HEAD = HEAD + b"Content-Encoding: gzip\r\n\r\n"
EMPTY_BLOCKS = gzip.compress(b"")[:10] + bytes.fromhex("000000ffff") * 120_000
"""A gzip header and stored deflate blocks of no bytes: 600 kB that hold nothing, without end."""


def config(**changes: Any) -> IngestConfig:
    """Make a config for tests: everything allowed on loopback, nothing waited for long."""
    quick: dict[str, Any] = {
        "allow_private": True, "timeout_s": 1.0, "deadline_s": 3.0, "retries": 0, "backoff_s": 0.01,
    }  # fmt: skip
    return IngestConfig(**(quick | changes))


def loopback(name: str) -> Sequence[str]:
    if name.endswith(".missing.test"):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return ["127.0.0.1"]


def fetch(
    urls: Sequence[str], folder: Path, fetcher: VettedFetcher | None = None, **changes: Any
) -> list[Fetched]:
    """Fetch URLs in row order."""
    fetcher = fetcher or VettedFetcher(config(**changes), loopback)
    with fetcher.fetch_all(dict(enumerate(urls)), folder) as outcome:
        return [outcome(row) for row in range(len(urls))]


def statuses(outcomes: Sequence[Fetched]) -> list[str]:
    return [outcome.status for outcome in outcomes]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(request.param) as served:
        yield served


def routes(**paths: Any) -> Any:
    """Give the `server` fixture its routes; `x_y` stands for /x_y."""
    return pytest.mark.parametrize(
        "server", [{f"/{k}": v for k, v in paths.items()}], indirect=True
    )


@routes(a=reply(PICTURE), b=reply(PICTURE + b"b"), c=reply(PICTURE, length=-1))
def test_bytes_arrive_as_they_were_sent_in_row_order(server: Server, tmp_path: Path) -> None:
    outcomes = fetch([server.url(path) for path in ("/b", "/a", "/c", "/none")], tmp_path)
    assert [outcome.data for outcome in outcomes] == [PICTURE + b"b", PICTURE, PICTURE, None]
    assert statuses(outcomes) == ["ok", "ok", "ok", "http_404"]


@routes(a=reply(PICTURE))
def test_the_request_says_honestly_who_asks(server: Server, tmp_path: Path) -> None:
    fetch([server.url("/a")], tmp_path, user_agent_url="https://a.test/bot")
    assert [request.path for request in server.requests] == [
        "/robots.txt", "/.well-known/tdmrep.json", "/a",
    ]  # fmt: skip
    for request in server.requests:
        assert request.headers["user-agent"].startswith("latentmill/")
        assert request.headers["user-agent"].endswith("(+https://a.test/bot)")
        assert request.headers["accept-encoding"] == "identity"
        assert "cookie" not in request.headers


# --- where it may go


@routes(a=reply(PICTURE))
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0177.0.0.1", "127.1", "0x7f.0.0.1", "[::ffff:127.0.0.1]",
             "localhost", "pics.test", "pics.test."],
)  # fmt: skip
def test_no_spelling_of_loopback_is_connected_to(server: Server, tmp_path: Path, host: str) -> None:
    outcomes = fetch([server.url("/a", host)], tmp_path, allow_private=False)
    assert statuses(outcomes) == ["private_address"]
    assert server.requests == []


@routes(a=reply(PICTURE))
def test_a_host_with_one_private_address_among_public_ones_is_refused(
    server: Server, tmp_path: Path
) -> None:
    fetcher = VettedFetcher(config(allow_private=False), lambda name: ["8.8.8.8", "127.0.0.1"])
    outcomes = fetch([server.url("/a", "pics.test")], tmp_path, fetcher)
    assert statuses(outcomes) == ["private_address"]
    assert server.requests == []


@routes(a=reply(PICTURE))
def test_a_name_that_is_rebound_gains_nothing(server: Server, tmp_path: Path) -> None:
    """The first answer is public and cannot be reached; the second would be our own server."""
    asked: list[str] = []

    def rebind(name: str) -> Sequence[str]:
        asked.append(name)
        return ["2001:4860:4860::8888" if len(asked) == 1 else "127.0.0.1"]

    fetcher = VettedFetcher(
        config(allow_private=False, retries=1, dns_ttl_s=0.0, timeout_s=0.2), rebind
    )
    outcomes = fetch([server.url("/a", "pics.test")], tmp_path, fetcher)
    assert statuses(outcomes) == ["private_address"]
    assert asked == ["pics.test", "pics.test"]
    assert server.requests == []


@routes(
    loop=redirect("/loop"), ping=redirect("/pong"), pong=redirect("/ping"),
    local=redirect("http://127.0.0.1:1/admin.jpg"), decimal=redirect("http://2130706433/"),
    cloud=redirect("http://169.254.169.254/latest/meta-data/"), six=redirect("//[::1]/x"),
    file=redirect("file:///etc/hostname"), ssh=redirect("http://b.test:22/"),
    good=redirect("http://b.test/a", 308), a=reply(PICTURE), nowhere=reply(b"", 302),
    one=redirect("/two"), two=redirect("/three"), three=redirect("/a"),
)  # fmt: skip
def test_redirects_are_followed_by_hand_and_vetted(server: Server, tmp_path: Path) -> None:
    """Through a proxy, as the toy web is fetched: the proxy resolves names, literals are vetted."""
    paths = ("loop", "ping", "local", "decimal", "cloud", "six", "file", "ssh", "good", "nowhere")
    outcomes = fetch(
        [f"http://pics.test/{path}" for path in paths], tmp_path,
        allow_private=False, proxy=server.url(""),
    )  # fmt: skip
    assert dict(zip(paths, statuses(outcomes), strict=True)) == {
        "loop": "redirect_loop", "ping": "redirect_loop", "local": "private_address",
        "decimal": "private_address", "cloud": "private_address", "six": "private_address",
        "file": "bad_redirect", "ssh": "bad_redirect", "good": "ok", "nowhere": "http_302",
    }  # fmt: skip
    limited = fetch([server.url("/one")] * 2, tmp_path, max_redirects=3)
    assert statuses(limited) == ["ok", "ok"]
    assert statuses(fetch([server.url("/one")], tmp_path, max_redirects=2)) == ["redirect_loop"]


def test_names_that_do_not_resolve_and_ports_nobody_listens_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    urls = ["http://x.missing.test/a", f"http://pics.test:{port}/a"]
    assert statuses(fetch(urls, tmp_path)) == ["dns", "connect"]
    no_name = "http://a..b.test/x"  # the system's resolver refuses it without asking anybody
    assert statuses(fetch([no_name], tmp_path, VettedFetcher(config()))) == ["dns"]


@routes(a=reply(PICTURE))
def test_plain_http_on_a_tls_url_is_a_tls_failure(server: Server, tmp_path: Path) -> None:
    assert statuses(fetch([server.url("/a").replace("http:", "https:")], tmp_path)) == ["tls"]


def test_a_proxy_that_is_away_stops_the_run(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StageError, match=r"ingest\.proxy: must take connections"):
        fetch(["http://pics.test/a"], tmp_path, proxy=f"http://127.0.0.1:{port}")


def test_the_threads_that_look_names_up_end_with_their_task(tmp_path: Path) -> None:
    """An error's traceback holds the connector; one that waits to be told must cost no thread."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as free:
        proxy = f"http://proxy.test:{free.getsockname()[1]}"
    errors: list[pytest.ExceptionInfo[StageError]] = []
    for _ in range(3):
        with pytest.raises(StageError) as caught:
            fetch(["http://pics.test/a"], tmp_path, proxy=proxy)
        errors.append(caught)
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(timeout=1)
    assert [thread.name for thread in left if thread.is_alive()] == []
    assert len(errors) == 3


@routes(a=reply(PICTURE))
def test_a_name_is_looked_up_once_for_many_rows_and_tasks(server: Server, tmp_path: Path) -> None:
    asked: list[str] = []

    def count(name: str) -> Sequence[str]:
        asked.append(name)
        return ["127.0.0.1"]

    fetcher = VettedFetcher(config(), count)
    for _ in range(2):
        assert (
            statuses(fetch([server.url("/a", "pics.test")] * 20, tmp_path, fetcher)) == ["ok"] * 20
        )
    assert asked == ["pics.test"]


# --- limits that hold


@routes(
    body=after_head(HEAD + b"Content-Length: 1000\r\n\r\n", drip(b"x", 0.05)),
    head=after_head(HEAD, drip(b"X-A: b\r\n", 0.05)),
    silent=after_head(b"", drip(b"", 10)),
    stuck=after_head(HEAD + b"Content-Length: 10\r\n\r\nabc", drip(b"", 10)),
    early=after_head(b"", drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)),
)  # fmt: skip
def test_a_drip_ends_at_the_deadline_and_silence_before(server: Server, tmp_path: Path) -> None:
    paths = ("/body", "/head", "/early", "/silent", "/stuck")
    urls = [server.url(path) for path in paths]
    start = time.monotonic()
    outcomes = fetch(
        urls, tmp_path, deadline_s=0.8, timeout_s=0.3, respect_robots=False, respect_tdm=False,
        host_failures=99,
    )  # fmt: skip
    assert statuses(outcomes) == ["deadline"] * 3 + ["timeout"] * 2
    assert time.monotonic() - start < 1.8


@routes(
    announced=reply(b"", length=10**9),
    exact=reply(bytes(5000)),
    over=reply(bytes(5001)),
    chunked=stream(2**20, chunked=True),
    unbounded=reply(bytes(6000), length=-1),
    bomb=reply(gzip.compress(bytes(50_000_000), 1), 200, ("Content-Encoding", "gzip")),
    packed=reply(gzip.compress(PICTURE), 200, ("Content-Encoding", "GZIP")),
    cut=reply(gzip.compress(PICTURE)[:-5], 200, ("Content-Encoding", "gzip")),
    broken=reply(b"not gzip at all", 200, ("Content-Encoding", "gzip")),
    brotli=reply(PICTURE, 200, ("Content-Encoding", "br")),
    tail=after_head(GZIP_HEAD + gzip.compress(PICTURE), drip(b"x", 0.05)),
    hollow=after_head(GZIP_HEAD, EMPTY_BLOCKS),
    short=after_head(HEAD + b"Content-Length: 1000\r\nConnection: close\r\n\r\nabc", b""),
    lying=after_head(HEAD + b"Content-Length: 3\r\n\r\nabcdef", b""),
    junk=after_head(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b""),
    flood=after_head(HEAD, b"".join(b"X-%d: a\r\n" % i for i in range(100_000)) + b"\r\n"),
    longline=after_head(HEAD, b"X: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    odd=reply(b"", 999),
    nothing=reply(b"", 204),
)  # fmt: skip
def test_every_broken_body_and_head_has_its_name(server: Server, tmp_path: Path) -> None:
    expected = {
        "announced": "too_many_bytes", "exact": "ok", "over": "too_many_bytes",
        "chunked": "too_many_bytes", "unbounded": "too_many_bytes", "bomb": "too_many_bytes",
        "packed": "ok", "cut": "short_body", "broken": "bad_encoding", "brotli": "bad_encoding",
        "tail": "ok", "hollow": "too_many_bytes", "short": "short_body", "lying": "bad_response",
        "junk": "bad_response", "flood": "bad_response", "longline": "bad_response",
        "odd": "bad_response", "nothing": "http_204",
    }  # fmt: skip
    outcomes = fetch([server.url(f"/{path}") for path in expected], tmp_path, max_bytes=5000)
    assert dict(zip(expected, statuses(outcomes), strict=True)) == expected
    by_path = dict(zip(expected, outcomes, strict=True))
    assert by_path["packed"].data == by_path["tail"].data == PICTURE


@routes(a=reply(PICTURE))
def test_bodies_beyond_the_memory_wait_in_files_that_are_removed(
    server: Server, tmp_path: Path
) -> None:
    fetcher = VettedFetcher(config(memory_bytes=2500), loopback)
    with fetcher.fetch_all({row: server.url("/a") for row in range(12)}, tmp_path) as outcome:
        deadline = time.monotonic() + 5
        while len(list(tmp_path.glob("*.body"))) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(tmp_path.glob("*.body"))) == 10
        assert all(outcome(row).data == PICTURE for row in range(12))
    assert list(tmp_path.iterdir()) == []


_MEASURE = """
import resource, sys, tempfile, pathlib
from curate.sources.config import IngestConfig
from curate.sources.fetching.vetted_fetcher import VettedFetcher

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

fetcher = VettedFetcher(IngestConfig(allow_private=True, deadline_s=60))
with tempfile.TemporaryDirectory() as folder:
    for urls in (sys.argv[1:2], sys.argv[2:]):
        before = peak()
        with fetcher.fetch_all(dict(enumerate(urls)), pathlib.Path(folder)) as outcome:
            print(*(outcome(row).status for row in range(len(urls))), peak() - before)
"""


@routes(
    small=reply(PICTURE),
    chunked=stream(300 * 2**20, chunked=True),
    announced=stream(300 * 2**20, chunked=False),
)
def test_a_300_mb_body_adds_less_than_64_mb(server: Server) -> None:
    urls = [server.url(path) for path in ("/small", "/chunked", "/announced")]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *urls], capture_output=True, text=True, timeout=60
    )
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first[0] == "ok"
    assert second[:2] == ["too_many_bytes"] * 2
    assert float(second[2]) < 64


# --- pace and patience


def test_requests_of_a_host_keep_its_crawl_delay(tmp_path: Path) -> None:
    robots = reply(b"User-agent: *\nCrawl-delay: 5\n")
    with serve({"/robots.txt": robots, "/a": reply(PICTURE)}) as server:
        outcomes = fetch([server.url("/a")] * 6, tmp_path, max_host_delay_s=0.05)
        times = server.asked("/a")
    assert statuses(outcomes) == ["ok"] * 6
    assert all(after - before >= 0.045 for before, after in pairwise(times))


def test_no_more_requests_at_once_than_a_host_is_granted(tmp_path: Path) -> None:
    async def slow(writer: Any) -> None:
        await asyncio.sleep(0.1)
        writer.write(reply(PICTURE, length=-1))

    with serve({"/a": slow}) as server:
        outcomes = fetch(
            [server.url("/a")] * 8, tmp_path, host_concurrency=2, respect_robots=False,
            respect_tdm=False,
        )  # fmt: skip
        times = server.asked("/a")
    assert statuses(outcomes) == ["ok"] * 8
    assert times[7] - times[0] >= 0.28  # three more rounds of two


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(tmp_path: Path, form: str) -> None:
    """One answer of 429, then pictures; the date's resolution is a second, so it is two away."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    patience = ("Retry-After", "1" if form == "seconds" else date)
    first = [reply(b"", 429, patience)]

    async def answer(writer: Any) -> None:
        writer.write(first.pop() if first else reply(PICTURE, length=-1))

    with serve({"/a": answer}) as server:
        outcomes = fetch([server.url("/a")], tmp_path, retries=1)
        times = server.asked("/a")
    assert statuses(outcomes) == ["ok"]
    assert times[1] - times[0] >= 0.9


@routes(a=reply(b"", 429, ("Retry-After", "3600")), b=reply(b"", 503, ("Retry-After", "never")))
def test_a_host_that_wants_too_much_patience_is_left_for_a_later_run(
    server: Server, tmp_path: Path
) -> None:
    start = time.monotonic()
    outcomes = fetch([server.url("/a")], tmp_path, retries=3, max_retry_after_s=0.1)
    assert statuses(outcomes) == ["http_429"]
    assert len(server.asked("/a")) == 1
    assert statuses(fetch([server.url("/b")], tmp_path, retries=2)) == ["http_503"]
    assert len(server.asked("/b")) == 3
    assert time.monotonic() - start < 2


def test_failures_of_the_moment_are_tried_again_and_others_are_not(tmp_path: Path) -> None:
    answers: Mapping[str, list[bytes]] = {
        "/busy": [reply(b"", 500), reply(b"", 502), reply(PICTURE)],
        "/cut": [HEAD + b"Content-Length: 9\r\n\r\nabc", reply(PICTURE)],
        "/gone": [reply(b"", 410), reply(PICTURE)],
    }

    def one_by_one(path: str) -> Any:
        left = list(answers[path])

        async def answer(writer: Any) -> None:
            writer.write(left.pop(0))

        return answer

    with serve({path: one_by_one(path) for path in answers}) as server:
        outcomes = fetch([server.url(path) for path in answers], tmp_path, retries=2)
    assert statuses(outcomes) == ["ok", "ok", "http_410"]


@pytest.mark.parametrize("num_threads", [1, 16])
def test_a_host_that_is_down_is_given_up_alike_at_any_concurrency(
    tmp_path: Path, num_threads: int
) -> None:
    with serve({"/a": after_head(b"", drip(b"", 10)), "/b": reply(PICTURE)}) as server:
        urls = [server.url("/a", "down.test")] * 7 + [server.url("/b", "up.test")]
        fetcher = VettedFetcher(
            config(
                num_threads=num_threads, host_failures=3, timeout_s=0.2, respect_robots=False,
                respect_tdm=False,
            ),
            loopback,
        )  # fmt: skip
        expected = ["timeout"] * 3 + ["host_down"] * 4 + ["ok"]
        assert statuses(fetch(urls, tmp_path, fetcher)) == expected
        asked = len(server.asked("/a"))
        start = time.monotonic()
        assert statuses(fetch(urls, tmp_path, fetcher)) == expected  # the next task
        assert len(server.asked("/a")) == asked
        assert time.monotonic() - start < 0.2


# --- consent


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (reply(b"User-agent: *\nDisallow: /p/\n"), "robots"),
        (reply(b"User-agent: latentmill\nDisallow: /\n\nUser-agent: *\nAllow: /\n"), "robots"),
        (reply(b"User-agent: otherbot\nDisallow: /\n"), "ok"),
        (reply(b"User-agent: *\nDisallow: /\nAllow: /p/a\n"), "ok"),
        (reply(b"User-agent: *\nDisallow: /*.jpg$\n"), "robots"),
        (reply(b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /p\r\n"), "robots"),
        (reply(b"<html>no robots here</html>"), "ok"),
        (reply(bytes(range(256)) * 100), "ok"),
        (reply(b"#" * 512_000 + b"\nUser-agent: *\nDisallow: /\n"), "ok"),
        (reply(b"", 404), "ok"),
        (reply(b"", 403), "ok"),
        (reply(b"", 500), "robots_unreachable"),
        (reply(b"", 503), "robots_unreachable"),
        (reply(b"", 429), "robots_unreachable"),
        (after_head(b"", drip(b"", 10)), "robots_unreachable"),
        (
            after_head(HEAD + b"Content-Length: 9999\r\n\r\n", drip(b"#", 0.05)),
            "robots_unreachable",
        ),
        (
            after_head(GZIP_HEAD + gzip.compress(b"User-agent: *\nDisallow: /p"), drip(b"x", 0.05)),
            "robots",
        ),
        (redirect("/r1"), "robots"),
        (redirect("/robots.txt"), "ok"),
        (redirect("http://127.0.0.1/robots.txt"), "private_address"),
    ],
)
def test_robots_txt_is_obeyed_as_rfc_9309_says(tmp_path: Path, answer: Any, status: str) -> None:
    hops = {f"/r{i}": redirect(f"/r{i + 1}") for i in range(1, 5)}
    rules = {"/r5": reply(b"User-agent: *\nDisallow: /p\n")}
    paths: Routes = {"/robots.txt": answer, "/p/a.jpg": reply(PICTURE), **hops, **rules}
    with serve(paths) as server:
        outcomes = fetch(
            ["http://pics.test/p/a.jpg"], tmp_path, allow_private=False, proxy=server.url(""),
            timeout_s=0.3, deadline_s=0.6,
        )  # fmt: skip
        assert statuses(outcomes) == [status]
        assert len(server.asked("/p/a.jpg")) == (status == "ok")


def test_compressed_bytes_of_a_robots_txt_are_limited_too(tmp_path: Path) -> None:
    robots = after_head(GZIP_HEAD, EMPTY_BLOCKS)
    with serve({"/robots.txt": robots, "/a": reply(PICTURE)}) as server:
        (outcome,) = fetch([server.url("/a")], tmp_path)
    assert outcome.status == "robots_unreachable"
    assert outcome.error == "robots.txt: more than 512000 bytes"


@routes(a=reply(PICTURE))
def test_robots_txt_is_asked_once_per_host_and_worker_and_not_at_all_if_unwanted(
    server: Server, tmp_path: Path
) -> None:
    fetcher = VettedFetcher(config(), loopback)
    for _ in range(2):
        urls = [server.url("/a", host) for host in ("x.test", "y.test") for _ in range(10)]
        assert statuses(fetch(urls, tmp_path, fetcher)) == ["ok"] * 20
    assert len(server.asked("/robots.txt")) == 2
    fetch([server.url("/a")], tmp_path, respect_robots=False, respect_tdm=False)
    assert len(server.asked("/robots.txt")) == 2


TDM = b'[{"location": "/", "tdm-reservation": 1}, {"location": "/open", "tdm-reservation": 0}]'


def test_opt_outs_are_seen_before_the_body_is_read(tmp_path: Path) -> None:
    """The bodies never come: a fetcher that waited for one would end in "timeout"."""
    endless = HEAD + b"Content-Length: 1000\r\n%s\r\n\r\n"
    headers = {
        "/tag": b"X-Robots-Tag: noai",
        "/case": b"x-robots-tag: NOIMAGEAI",
        "/several": b"X-Robots-Tag: otherbot: noai\r\nX-Robots-Tag: none",
        "/tdm": b"TDM-Reservation: 1",
    }
    paths: Routes = {
        path: after_head(endless % header, drip(b"", 10)) for path, header in headers.items()
    }
    hop = reply(b"", 302, ("Location", "/fine"), ("X-Robots-Tag", "noai"))
    missing = reply(b"", 404, ("X-Robots-Tag", "noindex"))
    with serve({**paths, "/hop": hop, "/missing": missing, "/fine": reply(PICTURE)}) as server:
        urls = [server.url(path) for path in [*headers, "/hop", "/missing", "/fine"]]
        outcomes = fetch(urls, tmp_path)
    assert statuses(outcomes) == ["opted_out"] * 5 + ["http_404", "ok"]
    assert outcomes[2].error == "X-Robots-Tag: none"


def test_a_tdm_file_reserves_paths_and_a_header_overrides_it(tmp_path: Path) -> None:
    free = reply(PICTURE, 200, ("tdm-reservation", "0"))
    paths: Routes = {
        "/.well-known/tdmrep.json": reply(TDM), "/a": reply(PICTURE), "/open/a": reply(PICTURE),
        "/free": free,
    }  # fmt: skip
    with serve(paths) as server:
        urls = [server.url(path) for path in ("/a", "/open/a", "/free")]
        assert statuses(fetch(urls, tmp_path)) == ["opted_out", "ok", "ok"]
        assert statuses(fetch(urls, tmp_path, respect_tdm=False)) == ["ok", "ok", "ok"]


# --- the object


@routes(slow=after_head(b"", drip(b"", 10)))
def test_leaving_early_ends_the_download_at_once(server: Server, tmp_path: Path) -> None:
    fetcher = VettedFetcher(config(timeout_s=30, deadline_s=30), loopback)
    with fetcher.fetch_all({0: server.url("/slow")}, tmp_path):
        deadline = time.monotonic() + 5
        while not server.asked("/slow") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.asked("/slow")
        start = time.monotonic()
    assert time.monotonic() - start < 1


@routes(a=reply(PICTURE), b=reply(b"", 500), c=redirect("/a"), d=reply(b"", length=10**9))
def test_outcomes_are_the_same_at_any_concurrency(server: Server, tmp_path: Path) -> None:
    urls = [server.url(path) for path in ("/a", "/b", "/c", "/d", "/e")] * 8
    assert fetch(urls, tmp_path, num_threads=1) == fetch(urls, tmp_path, num_threads=32)


def test_img2dataset_is_refused_where_private_addresses_are() -> None:
    with pytest.raises(ConfigError, match=r"needs ingest\.allow_private=true"):
        IngestConfig(fetcher="img2dataset")
    with pytest.raises(ConfigError, match="must be one of vetted, img2dataset"):
        IngestConfig(fetcher="wget")
    assert isinstance(make_fetcher(IngestConfig()), VettedFetcher)

import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from pipelines.toyweb.plants import Row
from pipelines.toyweb.server import Served, serve
from pipelines.toyweb.site import Site, build_site


@pytest.fixture(scope="module")
def site() -> Site:
    return build_site(3, 200, "train")


@pytest.fixture
def served(site: Site) -> Iterator[Served]:
    with serve(site) as served:
        yield served


def row_of(site: Site, plant: str) -> Row:
    return next(row for row in site.rows if row.plant == plant)


def opener(served: Served) -> urllib.request.OpenerDirector:
    proxy = urllib.request.ProxyHandler({"http": served.proxy_url})
    return urllib.request.build_opener(proxy)


def get(served: Served, url: str) -> bytes:
    with opener(served).open(url, timeout=10) as response:
        return response.read()


def test_a_proxy_client_gets_the_pictures(site: Site, served: Served):
    for plant in ("clean", "png_as_jpeg", "slow_drip"):
        row = row_of(site, plant)
        assert get(served, row.url) == site.fetch(row.url).body


def test_a_host_header_is_enough(site: Site, served: Served):
    row = row_of(site, "clean")
    host, _, path = row.url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", f"/{path}", headers={"Host": host})
    assert connection.getresponse().read() == site.fetch(row.url).body
    connection.close()


def test_one_connection_serves_many_requests(site: Site, served: Served):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    for row in [row for row in site.rows if row.plant == "clean"][:5]:
        connection.request("GET", row.url)
        assert connection.getresponse().read() == site.fetch(row.url).body
    connection.request("HEAD", row_of(site, "clean").url)
    response = connection.getresponse()
    assert response.status == 200
    assert response.read() == b""
    connection.close()


def test_redirects_are_followed_across_hosts(site: Site, served: Served):
    assert len(get(served, row_of(site, "redirect").url)) > 500


@pytest.mark.parametrize(
    ("plant", "status"),
    [("not_found", 404), ("server_error", 500), ("redirect_loop", 302), ("redirect_private", 502)],
)
def test_failures_are_http_errors(site: Site, served: Served, plant: str, status: int):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(served, row_of(site, plant).url)
    assert caught.value.code == status
    caught.value.close()


def test_a_short_body_is_seen_by_the_client(site: Site, served: Served):
    with pytest.raises(http.client.IncompleteRead):
        get(served, row_of(site, "short_body").url)


def test_opt_out_headers_are_sent(site: Site, served: Served):
    with opener(served).open(row_of(site, "opt_out").url, timeout=10) as response:
        assert response.headers["X-Robots-Tag"] or response.headers["TDM-Reservation"]


def test_requests_are_counted_by_url(site: Site, served: Served):
    url = row_of(site, "clean").url
    get(served, url)
    get(served, url)
    assert served.requests[url] == 2


def test_leaving_ends_threads_and_closes_idle_connections(site: Site):
    before = set(threading.enumerate())
    with serve(site) as served:
        idle = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        idle.request("GET", row_of(site, "clean").url)
        idle.getresponse().read()
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert set(threading.enumerate()) == before
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=2)


def test_a_client_that_leaves_does_not_hurt_the_next(site: Site, served: Served):
    url = row_of(site, "slow_drip").url
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as client:
        client.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.recv(10)
    assert get(served, row_of(site, "clean").url)

"""Serve a toy site on a loopback port, as an HTTP proxy and by Host header.

URLs of the toy web name virtual hosts that no resolver knows. A client that takes this server as
its HTTP proxy asks for them by absolute URL, so the port never enters a URL and tables stay stable.
Every other host is answered with 502: nothing leaves the machine.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

from pipelines.toyweb.site import Response, Site

logger = logging.getLogger(__name__)

# Chosen by us: slow enough to test a reader's patience, short enough for a demo.
DRIP_S = 2.0
DRIP_CHUNKS = 10
IDLE_TIMEOUT_S = 30.0  # of a kept-alive connection


@dataclass(frozen=True, slots=True)
class Served:
    """Tell a client where the site is; `requests` counts the asked URLs and grows while served."""

    port: int
    requests: Counter[str]

    @property
    def proxy_url(self) -> str:
        """Give the value for `http_proxy`."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serve(site: Site) -> Generator[Served]:
    """Serve a site on a free port of 127.0.0.1 until the block ends.

    Leaving the block closes the socket and all connections and joins all threads.
    """
    server = _Server(site)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="toyweb", daemon=True)
    thread.start()
    try:
        yield Served(server.server_address[1], server.requests)
    finally:
        server.stop()
        thread.join()


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = False  # server_close() joins the threads of all connections
    request_queue_size = 256

    def __init__(self, site: Site) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.site = site
        self.requests: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def count(self, url: str) -> None:
        with self._lock:
            self.requests[url] += 1

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exception(), OSError):  # the client is gone
            logger.debug("%s closed the connection", client_address)
        else:
            logger.exception("request of %s failed", client_address)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        with self._lock:
            waiting = list(self._open)
        for connection in waiting:  # wakes threads that wait on kept-alive connections
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "toyweb"
    timeout = IDLE_TIMEOUT_S
    wbufsize = -1  # one write for headers and body
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        logger.debug(format, *args)

    @property
    def _owner(self) -> _Server:
        return cast(_Server, self.server)

    def _answer(self, *, with_body: bool) -> None:
        url = self.path
        if not url.startswith("http://"):
            url = f"http://{self.headers.get('Host', '')}{self.path}"
        self._owner.count(url)
        response = self._owner.site.fetch(url)
        try:
            self._send(response, with_body=with_body)
        except OSError:  # the client has left
            self.close_connection = True

    def _send(self, response: Response, *, with_body: bool) -> None:
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if not with_body:
            return
        if response.behaviour == "drip":
            self._drip(response.body)
        elif response.behaviour == "short":
            self.wfile.write(response.body[: len(response.body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(response.body)

    def _drip(self, body: bytes) -> None:
        step = len(body) // DRIP_CHUNKS + 1
        for start in range(0, len(body), step):
            if self._owner.stopping.wait(DRIP_S / DRIP_CHUNKS):
                self.close_connection = True
                return
            self.wfile.write(body[start : start + step])
            self.wfile.flush()

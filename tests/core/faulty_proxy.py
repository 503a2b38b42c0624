"""Stand between a client and an HTTP server on loopback and break what a plan says.

client -> FaultyProxy -> server; `plan(number, method, path)` names the fault of each request:

    ""        pass it on
    "reset"   close the connection, pass nothing on
    "stall"   stay silent, pass nothing on
    "lost"    pass it on, close instead of answering
    "deaf"    pass it on without its condition (If-None-Match)
    "cut"     close in the middle of the answer's body
    "500"     answer InternalError; likewise 403, 404, 412 and 503 as in `_CODES`
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Plan = Callable[[int, str, str], str]

_CODES = {
    "403": "AccessDenied",
    "404": "NoSuchUpload",
    "412": "PreconditionFailed",
    "500": "InternalError",
    "503": "SlowDown",
}
_HOP_HEADERS = ("connection", "expect", "transfer-encoding", "content-length")


class FaultyProxy(ThreadingHTTPServer):
    """Pass requests on to a port, but for the faults of the plan.

    Args:
        port: of the server behind.
        plan: asked once per request; requests are numbered from 1.
    """

    daemon_threads = True

    def __init__(self, port: int, plan: Plan = lambda number, method, path: "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port
        self.plan = plan
        self.faults: Counter[str] = Counter()
        self.requests: list[str] = []
        self.stopping = threading.Event()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Give the address that clients use."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def restart(self, plan: Plan | None = None) -> None:
        """Count requests from 1 again, with another plan if one is given."""
        with self._lock:
            self.plan = plan or self.plan
            self.faults.clear()
            self.requests.clear()
            self._numbers = itertools.count(1)

    def next_fault(self, method: str, path: str) -> str:
        """Choose the fault of one request and count it."""
        with self._lock:
            fault = self.plan(next(self._numbers), method, path)
            self.faults[fault or "none"] += 1
            self.requests.append(f"{method} {path}")
        return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: a client that hangs up early is part of the tests."""


@contextlib.contextmanager
def serve_proxy(port: int) -> Iterator[FaultyProxy]:
    """Run a proxy in a thread until the block ends."""
    proxy = FaultyProxy(port)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def first(count: int, fault: str, method: str = "", part: str = "") -> Plan:
    """Break the first `count` requests of a method whose path holds a text."""
    left = itertools.count()

    def plan(number: int, verb: str, path: str) -> str:
        matches = verb.startswith(method) and part in path
        return fault if matches and next(left) < count else ""

    return plan


def each_once(fault: str) -> Plan:
    """Break the first request of every method and path."""
    seen: set[tuple[str, str]] = set()

    def plan(number: int, method: str, path: str) -> str:
        is_new = (method, path) not in seen
        seen.add((method, path))
        return fault if is_new else ""

    return plan


def every(step: int, *faults: str) -> Plan:
    """Break every `step`-th request, with the faults in turn."""
    return lambda number, method, path: (
        "" if number % step else faults[(number // step - 1) % len(faults)]
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def do_GET(self) -> None:
        """Break the request or pass it on; the same for every method."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(self.command, self.path)
        if fault == "stall":
            self.server.stopping.wait(60)
        if fault in ("reset", "stall"):
            self._hang_up()
        elif fault in _CODES:
            text = f"<Error><Code>{_CODES[fault]}</Code><Message>planned</Message></Error>"
            self._answer(int(fault), {}, b"" if self.command == "HEAD" else text.encode())
        else:
            self._pass_on(body, fault)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _pass_on(self, body: bytes, fault: str) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_HEADERS}
        if fault == "deaf":
            headers = {k: v for k, v in headers.items() if k.lower() != "if-none-match"}
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        ) as behind:
            behind.request(self.command, self.path, body, headers)
            answer = behind.getresponse()
            data = answer.read()
        if fault == "lost":
            self._hang_up()
            return
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_HEADERS}
        length = int(answer.getheader("Content-Length") or len(data))
        self._answer(answer.status, kept, data, length, cut=fault == "cut")

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes,
        length: int | None = None,
        cut: bool = False,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.wfile.flush()
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        """Stay quiet."""

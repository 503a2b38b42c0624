"""Serve what hostile, broken and picky hosts serve, on loopback: for tests and benchmarks.

A route is a path's answer: bytes that are sent as they are, or a coroutine that writes them. The
server also answers as a proxy (absolute URIs), by path alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
Routes = Mapping[str, Answer]

_TLS_HANDSHAKE = b"\x16"  # Source: RFC 8446, section 5.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Hold one request as it came: monotonic time, path, Host header, all headers in lower case."""

    at_s: float
    path: str
    host: str
    headers: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Server:
    """Tell where the server is and what it was asked."""

    port: int
    requests: list[Request] = field(default_factory=list[Request])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def asked(self, path: str) -> list[float]:
        """Give the times at which a path was asked for."""
        return [request.at_s for request in self.requests if request.path == path]


def reply(
    body: bytes = b"", status: int = 200, *headers: tuple[str, str], length: int | None = None
) -> bytes:
    """Make an answer; `length` is what Content-Length claims, -1 leaves it out and closes."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
    if length == -1:
        lines.append("Connection: close")
    else:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(place: str, status: int = 302) -> bytes:
    """Make an answer that sends its reader elsewhere."""
    return reply(b"", status, ("Location", place))


def drip(data: bytes, pause_s: float, repeat: int = 1000) -> Answer:
    """Send a piece again and again, each in time for a reader that only watches the silence."""

    async def write(writer: asyncio.StreamWriter) -> None:
        for _ in range(repeat):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return write


def after_head(head: bytes, rest: Answer) -> Answer:
    """Send a head at once and the rest as its own answer does."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        if isinstance(rest, bytes):
            writer.write(rest)
        else:
            await rest(writer)

    return write


def stream(num_bytes: int, *, chunked: bool) -> Answer:
    """Send a body of zeros, with or without announcing its length."""
    piece = bytes(2**16)
    framed = b"10000\r\n" + piece + b"\r\n" if chunked else piece
    head = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        if chunked
        else f"HTTP/1.1 200 OK\r\nContent-Length: {num_bytes}\r\n\r\n".encode()
    )
    end = b"0\r\n\r\n" if chunked else b""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(num_bytes // len(piece)):
            writer.write(framed)
            await writer.drain()
        writer.write(end)

    return write


@contextmanager
def serve(routes: Routes) -> Generator[Server]:
    """Serve until the block ends; paths without a route are 404."""
    loop = asyncio.new_event_loop()
    server = Server(port=0)
    ready = threading.Event()
    stopping: list[asyncio.Event] = []

    async def run() -> None:
        stopping.append(asyncio.Event())
        listener = await asyncio.start_server(
            lambda reader, writer: _talk(reader, writer, routes, server), "127.0.0.1", 0
        )
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await stopping[0].wait()
        listener.close()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=work, name="hostile", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopping[0].set)
        thread.join()


async def _talk(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: Routes, server: Server
) -> None:
    """Answer the requests of one connection."""
    try:
        while head := await _read_head(reader):
            if head.startswith(_TLS_HANDSHAKE):
                writer.write(reply(b"", 400, length=-1))
                break
            request = _parse(head)
            server.requests.append(request)
            answer = routes.get(request.path, reply(b"not found", 404))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer.partition(b"\r\n\r\n")[0]:
                    break
            else:
                await answer(writer)
                await writer.drain()
                break
    except OSError:
        return  # the client has left
    except asyncio.CancelledError:
        return  # the server stops
    finally:
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        first = await reader.readexactly(1)
        return first if first == _TLS_HANDSHAKE else first + await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    target = urlsplit(first.split(" ")[1])
    path = target.path + (f"?{target.query}" if target.query else "")
    return Request(at_s=time.monotonic(), path=path, host=headers.get("host", ""), headers=headers)

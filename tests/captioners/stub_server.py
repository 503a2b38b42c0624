"""A chat server on loopback that can misbehave in every way that real ones were seen to.

It speaks HTTP by hand, on sockets of its own, so that it can break it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came in: path, headers by small name, JSON, and how many came before."""

    path: str
    headers: Mapping[str, str]
    fields: Mapping[str, Any]
    number: int

    @property
    def prompt(self) -> str:
        content = self.fields["messages"][0]["content"]
        return content if isinstance(content, str) else content[-1]["text"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes out.

    Args:
        status: of HTTP.
        body: as it is.
        headers: further ones.
        length: that is announced; None is the truth.
        raw: bytes in place of a whole HTTP answer.
        then: "close"; "reset" the connection; "hang" until the client goes; "drip" spaces for ever.
        gather: wait until so many requests are under way.
        after: wait until so many requests have come in.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    raw: bytes | None = None
    then: str = "keep"
    gather: int = 0
    after: int = 0


def completion(text: object, *, gather: int = 0, after: int = 0, **choice: object) -> Reply:
    """A good answer, but for what `choice` changes."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "stub-7b",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            | choice
        ],
        "usage": {"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79},
    }
    return Reply(body=json.dumps(answer).encode(), gather=gather, after=after)


class StubServer:
    """Answer requests by a function, and remember them."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._answer = answer
        self._under_way = 0
        self._arrived = asyncio.Condition()
        self._connections: set[asyncio.StreamWriter] = set()
        self.url = ""

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while (asked := await self._read(reader)) is not None:
                if await self._reply(asked, writer) != "keep":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._connections.discard(writer)

    async def _read(self, reader: asyncio.StreamReader) -> Asked | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(
            path=first.split(" ")[1],
            headers=headers,
            fields=json.loads(body or b"{}"),
            number=len(self.asked),
        )
        self.asked.append(asked)
        return asked

    async def _reply(self, asked: Asked, writer: asyncio.StreamWriter) -> str:
        reply = self._answer(asked)
        async with self._arrived:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            self._arrived.notify_all()
            await self._arrived.wait_for(
                lambda: self.most_at_once >= reply.gather and len(self.asked) >= reply.after
            )
        try:
            writer.write(_spell(reply) if reply.raw is None else reply.raw)
            await writer.drain()
            await _linger(reply.then, writer)
        finally:
            self._under_way -= 1
        return reply.then

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self.connect, "127.0.0.1", 0, limit=2**26)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        started.set()
        await stop.wait()
        server.close()
        connected = asyncio.all_tasks() - {asyncio.current_task()}
        for task in connected:
            task.cancel()
        await asyncio.gather(*connected, return_exceptions=True)
        await server.wait_closed()


def _spell(reply: Reply) -> bytes:
    length = len(reply.body) if reply.length is None else reply.length
    headers = {"Content-Type": "application/json", "Content-Length": length, **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body


async def _linger(then: str, writer: asyncio.StreamWriter) -> None:
    """Go on as `Reply.then` says; the client ends what has no end."""
    if then == "reset":
        linger_never = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger_never
        )
        writer.transport.abort()
    while then in ("hang", "drip") and not writer.is_closing():
        if then == "drip":
            writer.write(b" ")
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def serve_chat(answer: Callable[[Asked], Reply]) -> Iterator[StubServer]:
    """Serve until the block ends; every connection and the thread end with it."""
    started = threading.Event()
    stub = StubServer(answer)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(stub.serve(started, stop),))
    thread.start()
    try:
        assert started.wait(10)
        yield stub
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

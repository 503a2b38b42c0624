"""Make one HTTP exchange: ask, give the headers, read the body; name every way it can fail.

Nothing is followed, retried or decided here. A body is read raw, in chunks, against a limit.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from curate.core.errors import SampleError, StageError
from curate.sources.fetching.bodies import Body, Inflater
from curate.sources.fetching.fetch_config import FetchConfig
from curate.sources.fetching.resolver import (
    DnsCache,
    RefusedAddress,
    Resolve,
    VettingResolver,
    make_connector,
)

_READ_BYTES = 2**18  # chosen by us: what an event loop reads from a socket at once
_OUT_OF_MEANS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Clock:
    """Count down the seconds that one URL may still take on the network."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Let the time run while the block does.

        Raises:
            SampleError: "deadline".
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(max(self.left, 0.0)):
                yield
        except TimeoutError as error:
            raise SampleError("deadline", "not finished in time") from error
        finally:
            self.left -= loop.time() - start


class Exchange:
    """Hold the session of one event loop.

    Args:
        session: aiohttp's; knows no redirects, cookies, environment or automatic decompression.
        config: proxy and limits.
    """

    def __init__(self, session: aiohttp.ClientSession, config: FetchConfig) -> None:
        self._session, self._config = session, config

    @asynccontextmanager
    async def ask(self, url: URL, clock: Clock) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Ask for a URL; the block has the headers and may read the body.

        Args:
            url: checked (`targets.py`).
            clock: runs until the block ends.

        Raises:
            SampleError: how it failed.
            StageError: the proxy cannot be reached, or this process is out of sockets.
        """
        async with clock.running():
            try:
                async with self._session.get(url, allow_redirects=False) as response:
                    yield response
            except (aiohttp.ClientError, TimeoutError, ssl.SSLError) as error:
                raise self._name(error) from error
            except http_exceptions.HttpProcessingError as error:
                raise SampleError("bad_response", "the answer is no proper HTTP") from error

    async def read(self, response: aiohttp.ClientResponse, body: Body) -> None:
        """Read a whole body, decoded; one that announces too many bytes is not begun.

        Raises:
            SampleError: "too_many_bytes", "bad_encoding", "short_body".
        """
        body.check_size(response.content_length or 0)
        async for piece in _pieces(response, self._config.max_bytes):
            body.write(piece)

    async def read_start(self, response: aiohttp.ClientResponse, num_bytes: int) -> bytes:
        """Read the first bytes of a small file and leave the rest.

        Raises:
            SampleError: "bad_encoding", "short_body"; "too_many_bytes" are compressed ones that
                hold fewer.
        """
        start = bytearray()
        async for piece in _pieces(response, num_bytes):
            start += piece
            if len(start) >= num_bytes:
                break
        return bytes(start[:num_bytes])

    def _name(self, error: Exception) -> SampleError:
        """Name a failure of the network; the text holds nothing that changes from run to run."""
        match error:
            case aiohttp.ClientConnectorDNSError():
                return _name_dns(error.os_error)
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
                return SampleError("tls", "TLS handshake failed")
            case aiohttp.ClientProxyConnectionError():
                raise StageError(
                    f"ingest.proxy: must take connections, got none at {self._config.proxy}; "
                    "start it and run the same line"
                ) from error
            case aiohttp.ClientConnectorError(os_error=RefusedAddress() as refused):
                return SampleError("private_address", f"host resolves to a {refused.strerror}")
            case aiohttp.ClientConnectorError(os_error=cause) if cause.errno in _OUT_OF_MEANS:
                raise StageError(
                    f"ingest.num_threads: must leave sockets to spare, got {cause.strerror}; "
                    "lower it, or raise the limit of open files"
                ) from error
            case aiohttp.ClientConnectorError():
                return SampleError("connect", "no connection")
            case TimeoutError():
                return SampleError("timeout", f"silent for {self._config.timeout_s:g} s")
            case aiohttp.ClientPayloadError():
                return SampleError("short_body", "the body ended early")
            case aiohttp.ClientHttpProxyError():
                return SampleError("connect", f"the proxy answers HTTP {error.status}")
            case aiohttp.ClientResponseError():
                return SampleError("bad_response", "the answer is no proper HTTP")
            case aiohttp.InvalidURL():
                return SampleError("bad_url", "the URL cannot be requested")
            case ssl.SSLError():
                return SampleError("tls", "TLS connection failed")
            case _:
                return SampleError("connect", "the connection was closed before an answer")


@asynccontextmanager
async def open_exchange(
    config: FetchConfig, lookup: Resolve, cache: DnsCache
) -> AsyncGenerator[Exchange]:
    """Open the session of one event loop and close it after the block.

    Args:
        config: limits, proxy, who we are.
        lookup: what asks the system for a name.
        cache: names looked up so far.
    """
    # Behind a proxy all connections go to it, wherever the user has it.
    is_free = config.allow_private or bool(config.proxy)
    resolver = VettingResolver(lookup, cache, allow_private=is_free)
    session = aiohttp.ClientSession(
        connector=make_connector(resolver),
        headers=_headers(config),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # Inflater does it within bounds
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=config.timeout_s, sock_read=config.timeout_s
        ),
        proxy=config.proxy or None,
        read_bufsize=_READ_BYTES,
    )
    try:
        async with session:
            yield Exchange(session, config)
    finally:
        await resolver.close()  # aiohttp closes only a resolver that it made


async def _pieces(response: aiohttp.ClientResponse, max_bytes: int) -> AsyncGenerator[bytes]:
    """Yield a body as it comes, its Content-Encoding undone, in pieces of bounded size.

    Args:
        response: to read from.
        max_bytes: of a compressed body, before it is undone.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    inflater = Inflater(encoding, max_bytes) if encoding not in ("", "identity") else None
    while chunk := await response.content.readany():
        if inflater is None:
            yield chunk
            continue
        for piece in inflater.feed(chunk):
            yield piece
        if inflater.has_ended:
            return
    if inflater is not None:
        raise SampleError("short_body", "compressed data without end")


def _headers(config: FetchConfig) -> dict[str, str]:
    agent = f"{config.user_agent}/{version('latentmill')}"
    agent += f" (+{config.user_agent_url})" if config.user_agent_url else ""
    # No format is named: hosts would convert the original to it.
    return {"User-Agent": agent, "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}


def _name_dns(error: OSError) -> SampleError:
    import socket

    if error.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM):
        return SampleError("dns_busy", "the resolver gave no answer")
    return SampleError("dns", "the name does not resolve")

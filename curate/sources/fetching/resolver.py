"""Resolve names once, vet every address, and let sockets go nowhere else.

    name -> cache | resolve() -> every address vetted -> aiohttp -> socket gate -> connection

The connection goes to an address that was vetted, never to a name that is looked up again, so a
name whose answer changes between check and use (DNS rebinding) gains nothing. aiohttp asks no
resolver for literal addresses; the gate sees those too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from curate.core.errors import SampleError
from curate.sources.fetching.addresses import address_of, kind_of_address
from curate.sources.fetching.recent import Recent

Resolve = Callable[[str], Sequence[str]]
"""Look a name up: blocking, name -> addresses as text; raises `OSError`."""

_NUM_THREADS = 16  # chosen by us: lookups at once; getaddrinfo blocks for a whole round trip
_MOST_NAMES = 100_000  # chosen by us: about 50 MB in all
_KEEP_ALIVE_S = 1.0
"""How long an idle connection is kept; chosen by us: tables name a new host with nearly every row,
and hundreds of idle sockets a second would soon be more than a process may have."""
_TRY_AGAIN = frozenset((socket.EAI_AGAIN, socket.EAI_SYSTEM))


class RefusedAddress(OSError):
    """Report an address that must not be connected to."""


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[str, ...]
    expires: float  # on the monotonic clock


class DnsCache:
    """Keep answers, failures too, for a while; shared by the tasks of one worker.

    Args:
        ttl_s: how long; getaddrinfo tells no TTL of its own.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._answers = Recent[str, _Answer](_MOST_NAMES)

    def get(self, name: str) -> tuple[str, ...] | None:
        """Give a fresh answer, () for a name that does not exist, None when there is none."""
        answer = self._answers.get(name)
        return answer.addresses if answer and answer.expires > time.monotonic() else None

    def put(self, name: str, addresses: Sequence[str]) -> None:
        self._answers.put(name, _Answer(tuple(addresses), time.monotonic() + self._ttl_s))


class VettingResolver(AbstractResolver):
    """Give aiohttp the addresses of a name, all of them public.

    Args:
        lookup: what asks the system.
        cache: answers so far.
        allow_private: skip the vetting.

    Close it after use: it has threads.
    """

    def __init__(self, lookup: Resolve, cache: DnsCache, *, allow_private: bool) -> None:
        self._lookup, self._cache, self.allow_private = lookup, cache, allow_private
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="dns")
        self._asked: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give all addresses of a host, or fail if one of them is not public.

        Raises:
            SampleError: "private_address".
            OSError: the name does not resolve, or (`EAI_AGAIN`) nobody could say.
        """
        addresses = await self._find(host.rstrip(".").lower())
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        for text in addresses:
            kind = kind_of_address(address_of(text))
            if kind and not self.allow_private:
                raise SampleError("private_address", f"host resolves to a {kind} address")
        return [_result(host, text, port) for text in addresses]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _find(self, name: str) -> tuple[str, ...]:
        known = self._cache.get(name)
        if known is not None:
            return known
        asked = self._asked.get(name)
        if asked is None:
            asked = asyncio.ensure_future(self._ask(name))
            self._asked[name] = asked
            asked.add_done_callback(lambda done: self._forget(name, done))
        return await asyncio.shield(asked)  # one impatient caller must not end it for the others

    async def _ask(self, name: str) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        try:
            found = tuple(await loop.run_in_executor(self._threads, self._lookup, name))
        except UnicodeError:  # no name of the DNS
            found = ()
        except socket.gaierror as error:
            if error.errno in _TRY_AGAIN:
                raise
            found = ()
        self._cache.put(name, found)
        return found

    def _forget(self, name: str, done: asyncio.Future[tuple[str, ...]]) -> None:
        del self._asked[name]
        with contextlib.suppress(asyncio.CancelledError):
            done.exception()  # all who wait may have left


def resolve_host(name: str) -> list[str]:
    """Ask the system's resolver.

    Raises:
        OSError: it has no answer.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def open_public_socket(info: Any) -> socket.socket:
    """Make the socket for one address; the last gate before a connection.

    Args:
        info: family, type, protocol, canonical name and socket address, as getaddrinfo orders them.

    Raises:
        RefusedAddress: the address is not public.
    """
    family, kind, protocol, _, address = info
    refusal = kind_of_address(address_of(str(address[0])))
    if refusal:
        raise RefusedAddress(errno.EACCES, f"{refusal} address")
    return socket.socket(family, kind, protocol)


def make_connector(resolver: VettingResolver) -> aiohttp.TCPConnector:
    """Make the connector of one session, as strict as its resolver; whoever made that closes it."""
    return aiohttp.TCPConnector(
        limit=0,  # hosts.py holds the limits: a wait for a turn must not count as the host's
        keepalive_timeout=_KEEP_ALIVE_S,
        use_dns_cache=False,
        resolver=resolver,
        socket_factory=None if resolver.allow_private else open_public_socket,
    )


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=flags
    )

"""Ask a chat server: one request at a time here, many of them at once by who calls.

    body -> POST -> status -> bounded body -> ServerAnswer; a failure waits and asks again

Nothing of the environment steers where a request goes: no proxy variables, no cookies, and no
redirect is followed, so that key and pictures reach the address in the user's file or none.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from curate.captioners.server_answer import ServerAnswer, read_answer
from curate.captioners.server_faults import (
    TRANSPORT_FAULTS,
    ServerFault,
    excerpt,
    fault_of_status,
    fault_of_transport,
)
from curate.captioners.server_retry import RetryPolicy
from curate.models.server_settings import ServerSettings

logger = logging.getLogger(__name__)

# Chosen by us: 100,000 tokens of six bytes each, with their probabilities a few times more.
MAX_ANSWER_BYTES = 8 * 2**20
_MAX_ERROR_BYTES = 4096  # of an error page, of which the message is kept
_CONNECT_S = 30.0  # chosen by us: a host that is off does not take `timeout_s`


class ChatClient:
    """Hold the connections to one server within one event loop.

    Args:
        session: aiohttp's, with the key in its headers.
        settings: of the server.
        policy: of waiting.
        key: of the server, to be taken out of faults; "" for none.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: ServerSettings,
        policy: RetryPolicy,
        key: str,
    ) -> None:
        self._session = session
        self._settings = settings
        self._policy = policy
        self._key = key

    async def ask(self, body: bytes, *names: str | int) -> ServerAnswer:
        """Ask until there is an answer or no use in asking again.

        Args:
            body: JSON of the request.
            names: of the request, for its waits.

        Raises:
            ServerFault: the last try's.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return await self._try(body)
            except ServerFault as fault:
                if tries >= min(fault.max_tries, self._settings.max_tries):
                    raise
                wait_s = self._policy.wait_s(tries, fault.retry_after_s, *names)
                logger.info("%s; asked again in %.1f s", fault.said, wait_s)
            await self._policy.sleep(wait_s)

    async def _try(self, body: bytes) -> ServerAnswer:
        try:
            url = self._settings.ask_url
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                if response.status != 200:
                    page = await response.content.read(_MAX_ERROR_BYTES)
                    raise fault_of_status(
                        response.status, response.headers, self._without_key(page)
                    )
                return self._understand(await self._read(response))
        except TRANSPORT_FAULTS as error:
            raise fault_of_transport(error, self._settings.timeout_s) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":  # none was allowed, and a small one can hold gigabytes
            raise ServerFault(f"an answer in Content-Encoding {excerpt(encoding, 20)!r}")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise ServerFault(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return bytes(body)

    def _understand(self, body: bytes) -> ServerAnswer:
        try:
            return read_answer(body)
        except ServerFault:
            return read_answer(self._without_key(body))  # fails again, with nothing to hide

    def _without_key(self, body: bytes) -> bytes:
        """Take out the key: a server may repeat it, and what is seen of a fault is kept."""
        return body.replace(self._key.encode(), b"***") if self._key else body


@asynccontextmanager
async def open_chat(
    settings: ServerSettings, policy: RetryPolicy, key: str
) -> AsyncGenerator[ChatClient]:
    """Open the connections of one event loop and close them after the block."""
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.concurrency),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=_CONNECT_S),
        trust_env=False,
    ) as session:
        yield ChatClient(session, settings, policy, key)

"""A name is as private as the worst of its addresses, the first time and every time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from curate.core.errors import SampleError
from curate.sources.fetching.resolver import DnsCache, VettingResolver


def resolve(addresses: Sequence[str], times: int = 1, *, allow_private: bool = False) -> list[str]:
    """Resolve one name some times; give the last answer's addresses."""

    async def play() -> list[str]:
        resolver = VettingResolver(lambda _: addresses, DnsCache(60.0), allow_private=allow_private)
        try:
            for _ in range(times - 1):
                with pytest.raises(SampleError):
                    await resolver.resolve("host.test", 80)
            return [result["host"] for result in await resolver.resolve("host.test", 80)]
        finally:
            await resolver.close()

    return asyncio.run(play())


@pytest.mark.parametrize("private", ["10.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_private_address_among_public_ones_refuses_the_name(private: str, place: int) -> None:
    addresses = ["93.184.215.14", "2606:4700::1111"]
    addresses.insert(place, private)
    with pytest.raises(SampleError) as caught:
        resolve(addresses, times=2)  # the second answer comes from the cache
    assert caught.value.status == "private_address"
    assert resolve(addresses, allow_private=True) == addresses


def test_public_addresses_are_given_in_order() -> None:
    assert resolve(["93.184.215.14", "2606:4700::1111"]) == ["93.184.215.14", "2606:4700::1111"]


def test_a_name_without_addresses_does_not_exist() -> None:
    with pytest.raises(socket.gaierror):
        resolve([])

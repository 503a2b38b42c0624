"""Requests wait while memory is short and the reader is busy, and never while the reader waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path

from curate.sources.config import IngestConfig
from curate.sources.fetching.bodies import Spool
from curate.sources.fetching.hosts import Turns
from curate.sources.fetching.recent import Recent
from curate.sources.fetching.room import Room


def result(is_here: bool) -> Future[str]:
    future: Future[str] = Future()
    if is_here:
        future.set_result("a body")
    return future


async def settle() -> None:
    for _ in range(5):  # more turns of the loop than any wake-up takes
        await asyncio.sleep(0)


def ask(spool: Spool, *wants: Future[str]) -> list[bool | None]:
    """Ask for room, let the reader want one row after the other; give the answer after each."""

    async def play() -> list[bool | None]:
        room = Room(spool, asyncio.get_running_loop())
        room.want(wants[0])
        asked = [asyncio.create_task(room.wait()) for _ in range(3)]
        found: list[bool | None] = []
        for wanted in wants:
            room.want(wanted)
            await settle()
            assert len({task.done() for task in asked}) == 1
            found.append(asked[0].result() if asked[0].done() else None)
        for task in asked:
            task.cancel()
        return found

    return asyncio.run(play())


def full_spool(folder: Path) -> Spool:
    spool = Spool(folder, 100)
    assert spool.take(51)
    return spool


def test_there_is_room_while_half_of_the_memory_is_free(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    assert spool.take(50)
    assert ask(spool, result(is_here=True)) == [False]


def test_requests_wait_until_the_reader_waits(tmp_path: Path) -> None:
    wants = [result(is_here=True), result(is_here=True), result(is_here=False)]
    assert ask(full_spool(tmp_path), *wants) == [None, None, True]


def test_requests_wait_until_memory_is_free(tmp_path: Path) -> None:
    spool = full_spool(tmp_path)

    async def play() -> bool:
        room = Room(spool, asyncio.get_running_loop())
        room.want(result(is_here=True))
        asked = asyncio.create_task(room.wait())
        await settle()
        assert not asked.done()
        spool.give(51)
        room.want(result(is_here=True))
        return await asyncio.wait_for(asked, 5)

    assert asyncio.run(play())


def test_nothing_waits_before_the_reader_wants_anything(tmp_path: Path) -> None:
    spool = full_spool(tmp_path)

    async def play() -> bool:
        return await Room(spool, asyncio.get_running_loop()).wait()

    assert asyncio.run(play()) is False


def test_a_reader_may_want_what_it_has_once_the_loop_has_ended(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    room = Room(full_spool(tmp_path), loop)
    loop.close()
    room.want(result(is_here=True))


def test_requests_that_waited_for_room_keep_their_hosts_pace() -> None:
    pace = 0.05

    async def play() -> list[float]:
        loop, freed = asyncio.get_running_loop(), asyncio.Event()
        starts: list[float] = []

        async def room() -> bool:
            return not freed.is_set() and await freed.wait()

        turns = Turns(Recent(10), IngestConfig(host_concurrency=3, host_delay_s=pace), room)

        async def ask() -> None:
            async with turns.turn("host.test"):
                starts.append(loop.time())

        asked = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(3 * pace)  # all three have had their time and wait for room
        freed.set()
        await asyncio.gather(*asked)
        return starts

    first, second, third = asyncio.run(play())
    assert min(second - first, third - second) >= 0.9 * pace

"""Work ahead of a consumer in threads: results in order, a bounded number of them waiting.

For work that releases the interpreter (decoding, resizing, networks), so that it runs while the
consumer does its own. With equal items the results are equal whatever the number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def map_ahead(
    function: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    *,
    ahead: int,
    threads: int = 1,
    weigh: Callable[[ItemT], int] | None = None,
    budget: int = 0,
) -> Generator[ResultT]:
    """Yield `function(item)` in order, some of them begun before they are asked for.

    Args:
        function: run in another thread; what it raises is raised here, in its item's place.
        items: drawn in this thread, when their turn to begin has come.
        ahead: items begun and not yet asked for, at most; >= 1.
        threads: that run the function.
        weigh: gives an item's weight; None if only the number counts.
        budget: weight of the items that are begun, at most; one is always begun.
    """
    source = iter(items)
    waiting: deque[tuple[Future[ResultT], int]] = deque()
    weight = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        try:
            while True:
                while len(waiting) < ahead and (not waiting or not weigh or weight < budget):
                    item = next(source, _END)
                    if isinstance(item, _End):
                        break
                    cost = weigh(item) if weigh else 0
                    weight += cost
                    waiting.append((pool.submit(function, item), cost))
                if not waiting:
                    return
                future, cost = waiting.popleft()
                result = future.result()
                weight -= cost
                yield result
        finally:
            for future, _ in waiting:
                future.cancel()


class _End:
    """Mark the end of the items, which may be None themselves."""


_END = _End()

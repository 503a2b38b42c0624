"""Remember what was used lately, within bounds: a crawl meets more hosts than memory holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Recent(Generic[KeyT, ValueT]):
    """Map keys to values and forget those that were not used for longest.

    Args:
        most: sum of the weights that are kept.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._items: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()

    def get(self, key: KeyT) -> ValueT | None:
        """Give a value, which is then the last to be forgotten."""
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item[0]

    def put(self, key: KeyT, value: ValueT, weight: int = 1) -> None:
        """Set a value; it stays at least until the next one is put."""
        self._left += self._items.pop(key)[1] if key in self._items else 0
        self._items[key] = value, weight
        self._left -= weight
        while self._left < 0 and len(self._items) > 1:
            _, (_, freed) = self._items.popitem(last=False)
            self._left += freed

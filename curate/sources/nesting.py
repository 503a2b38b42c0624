"""Bound how deeply a stranger's JSON may be nested.

Python's parser goes as deep as its caller's stack leaves room, so it takes in a plan what it
refuses in a worker; and whatever walks or writes the value later runs into the same end.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 100
"""Lists and objects around a value; chosen by us: a tenth of Python's limit of calls, and several
times what real metadata has."""


def nests_too_deeply(value: Any) -> bool:
    """Say whether a value of JSON has more than `MAX_DEPTH` lists and objects in each other."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (dict, list))
        ]
    return bool(level)

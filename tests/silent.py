"""A progress that reports nothing, for tests that run stages."""

from __future__ import annotations


class Silent:
    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: object) -> None: ...

    def finish(self) -> None: ...

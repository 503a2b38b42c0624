"""Point at the line of a list that is no entry."""

from __future__ import annotations

_MOST_CHARACTERS = 20  # chosen by us: enough to find it, too little to publish the list in a log


class LineError(Exception):
    """Say what a line must be.

    Args:
        line: counted from 1.
        rule: what it must be.
        value: what it is, cut short.
    """

    def __init__(self, line: int, rule: str, value: str) -> None:
        super().__init__(f"line {line}: {rule}")
        self.line = line
        self.rule = rule
        self.value = value

    @classmethod
    def at(cls, line: int, rule: str | Exception, text: str) -> LineError:
        """Quote the beginning of the line."""
        plain = text.strip()
        cut = plain if len(plain) <= _MOST_CHARACTERS else f"{plain[:_MOST_CHARACTERS]}..."
        return cls(line, str(rule), f"{cut!r} ({len(plain)} characters)")

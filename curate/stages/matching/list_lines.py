"""Point at the line of a list that is no entry, or no text."""

from __future__ import annotations

from pathlib import Path

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


def find_bad_byte(path: Path) -> tuple[int, int]:
    """Find the first byte of a file that is no UTF-8: its line, counted from 1, and the byte.

    Decoders read ahead and do not know the line; none may be the first byte of a file that has
    changed: (1, 0).
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return number, line[error.start]
    return 1, 0

"""Tell errors of the disk, which every task would meet, from errors of one shard.

A full disk, a quota or a read-only folder stops the run with one line instead of a quarantine for
each shard.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator, Iterable

from curate.core.errors import StoreError

_HOPELESS = {
    errno.ENOSPC: "has no space left; free some",
    errno.EDQUOT: "is over its quota; free some space",
    errno.EROFS: "is read-only; make it writable",
}
_FORBIDDEN = {
    errno.EACCES: "may not be written; change its permissions",
    errno.EPERM: "may not be written; change its permissions",
}


@contextlib.contextmanager
def naming_hopeless(place: str, *, writing: bool = False) -> Generator[None]:
    """Turn errors that would meet every task (full disk, no permission) into one clear line.

    Args:
        place: the folder, for the message.
        writing: whether the block only writes to it, so that a missing permission is the folder's.

    Raises:
        StoreError: instead of such an OSError; others pass as they are.
    """
    hopeless = {**_HOPELESS, **(_FORBIDDEN if writing else {})}
    try:
        yield
    except OSError as error:
        number = error.errno or _errno_in_text(error, hopeless)
        if number not in hopeless:
            raise
        rule, remedy = hopeless[number].split("; ")
        said = os.strerror(number) + (f": {error.filename}" if error.filename else "")
        raise StoreError(
            f"{place}: must be writable, got a folder that {rule} ({said}); "
            f"{remedy} and run the same line again"
        ) from error


def _errno_in_text(error: OSError, known: Iterable[int]) -> int | None:
    """Read `[errno 28]` out of arrow's message: its OSError may carry no number."""
    text = str(error)
    return next((number for number in known if f"errno {number}]" in text), None)

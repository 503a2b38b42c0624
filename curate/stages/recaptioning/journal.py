"""Remember every attempt ever made for a shard, so that none is made twice.

    recaption/journal/NNNNN.jsonl: one line an attempt, appended batch by batch, never rewritten

A kill costs the batch that was not answered yet. A line that a kill cut short counts as never
written; of two lines for one attempt the later one holds (its scores were measured anew). Only a
takedown rewrites a journal (`forget`).

On a disk every batch is appended and synced. An object store takes only whole objects, so there a
batch goes into a spool on this machine first, which survives a kill as a task's scratch folder
does, and the object is replaced when the spool has grown to an eighth of it and at the end.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from curate.core.append_only import append_lines, read_lines
from curate.core.store import LocalStore, Store
from curate.stages.recaptioning.rows import CAPTION_SCHEMA, CAPTIONER_ERROR, Line

logger = logging.getLogger(__name__)

FOLDER = "journal"
# Chosen by us: an eighth keeps all that is ever uploaded below nine times the journal; 64 attempts
# are a window.
_SPOOL_SHARE, _SPOOL_FLOOR = 8, 64
_OWN = ("scorer", "seconds")  # that a line has beside the table's columns
_NAMES = frozenset((*CAPTION_SCHEMA.names, *_OWN))


class Journal:
    """Hold the attempts of one shard.

    Args:
        stage: the stage's folder.
        shard: its name.
        spool: a folder of this machine that survives kills; used where `stage` is remote.
    """

    def __init__(self, stage: Store, shard: str, spool: Path) -> None:
        self._store = stage.child(FOLDER)
        self._name = f"{shard}.jsonl"
        self._spool = None if isinstance(self._store, LocalStore) else LocalStore(spool)
        self._num_spooled = 0  # lines
        self._num_pushed = 0

    def read(self) -> dict[str, Line]:
        """Give the attempts that were answered: attempt -> line.

        One on which the captioner failed is left out: it is asked for again.
        """
        lines = list(read_lines(self._store, self._name))
        self._num_pushed = len(lines)
        if self._spool:
            lines += read_lines(self._spool, self._name)
        known = [line for line in lines if line.keys() >= _NAMES]
        if len(known) < len(lines):
            logger.warning(
                "%s/%s: %d lines are of another version and are asked for again",
                self._store.url, self._name, len(lines) - len(known),
            )  # fmt: skip
        found = {line["attempt"]: line for line in known}
        return {key: line for key, line in found.items() if line["status"] != CAPTIONER_ERROR}

    def append(self, lines: Sequence[Mapping[str, object]]) -> None:
        """Add attempts; they survive a kill of this process when this returns."""
        if self._spool is None:
            append_lines(self._store, self._name, lines)
            return
        append_lines(self._spool, self._name, lines)
        self._num_spooled += len(lines)
        if self._num_spooled > max(_SPOOL_FLOOR, self._num_pushed // _SPOOL_SHARE):
            self.push()

    def push(self) -> None:
        """Bring what is spooled to the object store; on a disk there is nothing to do."""
        if self._spool is None or not self._spool.exists(self._name):
            return
        lines = list(read_lines(self._spool, self._name))
        append_lines(self._store, self._name, lines)
        self._spool.delete(self._name)
        self._num_pushed += len(lines)
        self._num_spooled = 0


def forget(stage: Store, keys: Collection[str]) -> int:
    """Take all attempts for some samples out of all journals of a stage; the caller owns `stage`.

    Returns:
        How many lines went.
    """
    store, gone = stage.child(FOLDER), 0
    for name in store.names(".jsonl"):
        lines = list(read_lines(store, name))
        kept = [line for line in lines if line.get("key") not in keys]
        if len(kept) < len(lines):
            gone += len(lines) - len(kept)
            text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept)
            store.write(name, text.encode())
    return gone

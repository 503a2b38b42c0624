"""Remember tasks that failed again and again, so that the next run does not die of them too.

`NNNNN.quarantine.json` holds the fingerprint, the cause of every try and the last traceback. It
counts only while the task is the same: a new config, input, model or stage version tries again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from curate.core.store import Store

SUFFIX = ".quarantine.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Record why a task was given up.

    Args:
        fingerprint: of the task.
        causes: one line for each try.
        traceback: of the last try; empty when the worker process died.
    """

    fingerprint: str
    causes: tuple[str, ...]
    traceback: str = ""

    @property
    def line(self) -> str:
        """Say it in one line: how often it was tried, and the distinct causes."""
        return f"tried {len(self.causes)} times: {'; '.join(dict.fromkeys(self.causes))}"


def find_quarantined(store: Store) -> dict[str, Quarantine]:
    """Read all quarantines of a stage's folder; a damaged one counts as none."""
    found: dict[str, Quarantine] = {}
    for name, data in store.read_many(store.names(SUFFIX)).items():
        try:
            raw = json.loads(data)
            found[name.removesuffix(SUFFIX)] = Quarantine(
                fingerprint=raw["fingerprint"],
                causes=tuple(raw["causes"]),
                traceback=raw["traceback"],
            )
        except (ValueError, KeyError, TypeError):  # the task is then tried again
            continue
    return found


def put_into_quarantine(store: Store, shard: str, quarantine: Quarantine) -> None:
    """Write down that a task was given up."""
    text = json.dumps(dataclasses.asdict(quarantine), indent=1, sort_keys=True) + "\n"
    store.write(f"{shard}{SUFFIX}", text.encode())

"""Hold what is asked of the stage blocklist: which lists, what a hit means, who is told.

A list's content is no part of the config: its digest is an input of every task (`hash_lists.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from curate.core.errors import ConfigError
from curate.stages.matching.list_kinds import KINDS

HARM, OPT_OUT = "harm", "opt_out"
PURPOSES = (HARM, OPT_OUT)
EXACT_ONLY, HOLD = "exact_only", "hold"
FORMATS = ("plain", "csv", "json", "jsonl", "xml")

# Names go into tables, audits and reports as they are.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Source: PDQ hashes of strangers lie 128 +- 8 bits apart (256 fair bits); the flat index of
# ThreatExchange ends at 52. Beyond 63 a list would match by chance.
MAX_RADIUS = 63
_MAX_TIMEOUT_S = 86_400  # chosen by us: a day; a run waits for its hook


@dataclass(frozen=True, slots=True, kw_only=True)
class ListConfig:
    """Describe one list of hashes.

    Args:
        path: a file, or a folder whose files are read in the order of their names.
        purpose: "harm" (hits are audited and handed to `on_hit`) or "opt_out" (dropped only).
        format: plain, csv, json, jsonl or xml; "" goes by the ending of each file's name.
        kind: md5, sha1, sha256 or pdq, of entries that do not say it; "" goes by their length,
            which cannot tell sha256 from pdq.
        pdq_radius: bits in which two PDQ hashes may differ. Source: ThreatExchange, pdq/README.md,
            "Matching": 31.
        low_quality: pictures whose PDQ hash says too little are never matched by it; "exact_only"
            still matches their bytes, "hold" drops them too, as `held_low_quality`, when the list
            has PDQ hashes.
        allow_empty: take a list without a usable hash.
    """

    path: str = ""
    purpose: str = ""
    format: str = ""
    kind: str = ""
    pdq_radius: int = 31
    low_quality: str = EXACT_ONLY
    allow_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocklistConfig:
    """Choose the lists and who hears of hits.

    Args:
        lists: name -> list; the names are what tables and audits say of a hit.
        on_hit: program and arguments, run once for every new hit of a harm list with the hit's
            audit line on its standard input; no shell. Empty runs nothing.
        on_hit_timeout_s: a hook that takes longer is ended and has failed.
    """

    lists: dict[str, ListConfig] = field(
        default_factory=dict[str, ListConfig],
        metadata={"fingerprint": False},  # tasks hold the rules and digests of each, not its path
    )
    on_hit: list[str] = field(default_factory=list[str], metadata={"fingerprint": False})
    on_hit_timeout_s: float = field(default=60.0, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        for name, item in self.lists.items():
            _check(name, item)
        if not 0 < self.on_hit_timeout_s <= _MAX_TIMEOUT_S:
            raise ConfigError(
                f"blocklist.on_hit_timeout_s: must be in (0, {_MAX_TIMEOUT_S}], got "
                f"{self.on_hit_timeout_s:g}; change it"
            )
        if self.on_hit and not self.on_hit[0]:
            raise ConfigError("blocklist.on_hit: must begin with a program, got ''; name one")


def _check(name: str, item: ListConfig) -> None:
    key = f"blocklist.lists.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"blocklist.lists: names must be 1 to 64 letters, digits, - and _, got {name!r}; "
            "rename the list"
        )
    if not item.path:
        raise ConfigError(f"{key}.path: must name a file or folder, got none; set it")
    allowed = {
        "purpose": PURPOSES,
        "format": ("", *FORMATS),
        "kind": ("", *KINDS),
        "low_quality": (EXACT_ONLY, HOLD),
    }
    for option, values in allowed.items():
        value = getattr(item, option)
        if value not in values:
            words = ", ".join(repr(one) for one in values)
            raise ConfigError(f"{key}.{option}: must be one of {words}, got {value!r}; choose one")
    if not 0 <= item.pdq_radius <= MAX_RADIUS:
        raise ConfigError(
            f"{key}.pdq_radius: must be in [0, {MAX_RADIUS}], got {item.pdq_radius}; "
            "larger radii match strangers"
        )

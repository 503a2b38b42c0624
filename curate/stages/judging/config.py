"""Configure what is asked of judge: thresholds, some of them by source, and cuts of captions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.captioners.thresholds import Thresholds, override
from curate.core.errors import ConfigError
from curate.core.latent_column import POOLED
from curate.stages.recaptioning.rows import ALT, ALTERNATE

# Thresholds stand in the parameters of the tasks that read them, and in no other: what is measured
# stays when they change.
_IN_PARAMS = {"fingerprint": False}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Make a shorter caption of each caption of one source.

    Args:
        source: whose captions are cut.
        name: the source of what comes out: lower-case letters, digits, "_".
        max_words: whole sentences are kept as long as they have so many words; the first always.
    """

    source: str = ""
    name: str = ""
    max_words: int = 30

    def __post_init__(self) -> None:
        is_taken = self.name in (self.source, ALT, POOLED) or self.name.startswith(ALTERNATE)
        if not self.source or is_taken or not _NAME.fullmatch(self.name):
            raise ConfigError(
                "judge.cuts: must name a source and a name of its own of lower-case letters, "
                f"digits and '_', got source {self.source!r}, name {self.name!r}; fix them"
            )
        if self.max_words < 1:
            raise ConfigError(
                f"judge.cuts.{self.name}: max_words must be >= 1, got {self.max_words}; raise it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Say which captions are accepted.

    Args:
        rules: the thresholds.
        by_source: source -> thresholds of its own, e.g. {"tags": {"min_words": 1}}; those that are
            numbers.
        cuts: shorter captions to be made of longer ones, judged like them.
        bin_entries: texts that one task counts at once, about 60 bytes each; chosen by us: 1.2 GB.
    """

    rules: Thresholds = field(default_factory=Thresholds, metadata=_IN_PARAMS)
    by_source: dict[str, dict[str, float]] = field(
        default_factory=dict[str, dict[str, float]], metadata=_IN_PARAMS
    )
    cuts: list[Cut] = field(default_factory=list[Cut])
    bin_entries: int = 20_000_000

    def __post_init__(self) -> None:
        for source, values in self.by_source.items():
            override(self.rules, source, values)
        names = [cut.name for cut in self.cuts]
        if len(set(names)) < len(names) or {cut.source for cut in self.cuts} & set(names):
            raise ConfigError(
                f"judge.cuts: names must differ, and none may be cut again, got {names}; "
                "rename them"
            )
        if self.bin_entries < 1:
            raise ConfigError(f"judge.bin_entries: must be >= 1, got {self.bin_entries}; raise it")

    def limits_of(self, source: str) -> Thresholds:
        """Give the thresholds that hold for a source."""
        return override(self.rules, source, self.by_source.get(source, {}))


def limits_to_json(limits: Mapping[str, Thresholds]) -> dict[str, dict[str, Any]]:
    """Spell thresholds by source as plain values, for a task's parameters."""
    return {source: dataclasses.asdict(own) for source, own in limits.items()}


def limits_from_json(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Thresholds]:
    """Read what `limits_to_json` wrote."""
    return {source: Thresholds(**own) for source, own in values.items()}

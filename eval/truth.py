"""Hold how well the stages did against a truth that is known (planted faults, exact scenes).

The truth belongs to a data set, so pipelines computes these rows and hands them in; here they are
only given a form, written into results.json and shown in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from curate.core.shard import ShardSet


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthRow:
    """Hold one measurement of a stage against the truth.

    Args:
        stage: the stage that is judged, e.g. "dedup".
        what: what was planted or known, e.g. "exact duplicates".
        measure: "precision", "recall", "AUC", "PSNR, dB", ...
        value: None when nothing of the kind was planted.
        n: trials behind the value.
        goal: the least value aimed for; None without one.
        low: lower end of the 95 % interval; None without one.
        high: upper end.
        note: anything a reader must know beside the value.
    """

    stage: str
    what: str
    measure: str
    value: float | None
    n: int
    goal: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Tell whether the goal is met; None without goal or value."""
        if self.goal is None or self.value is None:
            return None
        return self.value >= self.goal


TruthCheck = Callable[[Mapping[str, ShardSet]], Sequence[TruthRow]]
"""Compare finished stages with the truth; given the inputs of the stage that asks."""

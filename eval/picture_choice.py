"""Hold which samples the page shows as pictures: chosen once, loaded at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.curation import DuplicateCluster
from eval.report_contamination import FoundCopy
from eval.report_curation import CaptionChoice
from eval.report_repeats import Repeats
from eval.report_rules import RuleFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureChoice:
    """Hold the chosen samples, by section.

    Args:
        rules: with the samples nearest to their thresholds.
        dropped: rule -> keys at random of those that fail it, for rules that hold no number.
        passed: keys at random that passed all rules.
        kept: keys at random that were kept to the end.
        clusters: of duplicates.
        captions: what was written for some pictures.
        repeats: what comes most often.
        copies: of benchmark pictures.
    """

    rules: Sequence[RuleFacts]
    dropped: Mapping[str, Sequence[str]]
    passed: Sequence[str]
    kept: Sequence[str]
    clusters: Sequence[DuplicateCluster]
    captions: CaptionChoice
    repeats: Repeats
    copies: Sequence[FoundCopy]

    @property
    def keys(self) -> set[str]:
        """Give the keys of all of them."""
        keys = {*self.passed, *self.kept, *self.captions.texts}
        keys |= {item.key for facts in self.rules for item in facts.near_kept}
        keys |= {item.key for facts in self.rules for item in facts.near_dropped}
        keys |= {key for some in self.dropped.values() for key in some}
        keys |= {item.keeper for item in self.clusters}
        keys |= {key for item in self.clusters for key, _ in item.others}
        keys |= {item.key for item in self.copies}
        return keys | {item.key for item in self.repeats.pictures}

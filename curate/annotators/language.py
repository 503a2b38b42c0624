"""Identify the language of each caption; which languages stay is the filter's to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.annotators.annotator import Batch, Column
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.language import FastTextLanguage

CODE = "language.code"
SCORE = "language.score"


class LanguageId:
    """Measure the code and the score (float32, 0..1) of the likeliest language.

    The code alone is what DataComp's rule reads (`language.code == "en"`). Scores of one or two
    words are low or wrong: lid.176 was trained on sentences.
    """

    name: str = "language"
    roles: tuple[str, ...] = ("language",)
    columns: Mapping[str, pa.DataType] = {CODE: pa.string(), SCORE: pa.float32()}

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self._models = models
        self._identify: FastTextLanguage | None = None

    def setup(self) -> None:
        """Load the pack's identifier."""
        from curate.models.language import load_language

        self._identify = load_language(self._models["language"])

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Identify every caption."""
        assert self._identify is not None, "setup() comes first"
        found = [self._identify(caption) for caption in batch.captions]
        return {
            CODE: [language.code for language in found],
            SCORE: [language.score for language in found],
        }

"""Measure the toxicity of captions: terms of a word list, and a classifier where the pack has one.

A listed word is no proof: lists hit words of medicine, of names and of minorities (Dodge et al.
2021, arXiv 2104.08758, section 5). This counts; the filter decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.annotators.annotator import Batch, Column
from curate.annotators.language import CODE
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.term_list import TermList

SCORE = "toxicity.score"


class Toxicity:
    """Measure num_terms, terms_frac (float32, 0..1) and, with a classifier, score (float32, 0..1).

    Columns:
        num_terms: listed terms in the caption; terms of one language count where `language.code`
            says so, or everywhere if that was not measured. Source: COYO-700M removes texts that
            hold any term of its lists.
        terms_frac: their share of the characters.
        score: probability of the classifier's label "toxic".
    """

    name: str = "toxicity"
    roles: tuple[str, ...] = ("toxic_terms",)

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self._models = models
        self._terms: TermList | None = None
        self._score: Callable[[Sequence[str]], NDArray[np.float32]] | None = None
        self.columns: Mapping[str, pa.DataType] = {
            "toxicity.num_terms": pa.int32(),
            "toxicity.terms_frac": pa.float32(),
        }
        if "toxicity" in models:
            self.columns = {**self.columns, SCORE: pa.float32()}

    def setup(self) -> None:
        """Load the pack's word lists and its classifier, if it has one.

        Raises:
            ModelError: the classifier has golden values and gives others.
        """
        from curate.models.term_list import load_term_list

        self._terms = load_term_list(self._models["toxic_terms"])
        if "toxicity" in self._models:
            from curate.models.golden import check_golden, golden_texts
            from curate.models.text_classifier import load_toxicity

            ref = self._models["toxicity"]
            score = load_toxicity(ref)
            check_golden("toxicity", ref, lambda: {"scores": score(golden_texts())})
            self._score = score

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure every caption."""
        assert self._terms is not None, "setup() comes first"
        codes = batch.columns.get(CODE, [None] * len(batch.keys))
        found = [
            self._terms.count(caption, code)
            for caption, code in zip(batch.captions, codes, strict=True)
        ]
        measured: dict[str, Column] = {
            "toxicity.num_terms": [count.num_terms for count in found],
            "toxicity.terms_frac": [count.terms_frac for count in found],
        }
        if self._score is not None:
            measured[SCORE] = self._score(batch.captions)
        return measured

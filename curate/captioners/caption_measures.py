"""Measure captions by their text alone: raw texts in, clean texts and columns out.

    raw -> leaks (lines still there) -> cleaned -> trimmed to whole sentences where asked
        -> refusal, prompt, words, repetition, loops, compression, hedges, letters, scripts

All rows are measured at once, a batch at a time, in time linear in the text: 10 million captions
take minutes. Nothing is decided here; rules.py does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from curate.captioners.boilerplate import clean_texts
from curate.captioners.caption_scripts import measure_letters, measure_script_mix
from curate.captioners.caption_words import split_words
from curate.captioners.hedges import measure_hedges
from curate.captioners.leaks import find_leaks, find_prompts
from curate.captioners.refusal import find_refusals
from curate.captioners.repetition import (
    measure_compression,
    measure_loops,
    measure_repeated_frac,
)
from curate.captioners.sentences import split_sentences

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

MEASURES = pa.schema(
    [
        ("text", pa.string()),
        ("words", pa.int32()),
        ("boilerplate", pa.bool_()),
        ("refusal", pa.bool_()),
        ("leak", pa.bool_()),
        ("cut_off", pa.bool_()),
        ("repeated_frac", pa.float32()),
        ("looped", pa.int32()),
        ("compression", pa.float32()),
        ("hedges", pa.float32()),
        ("letters", pa.float32()),
        ("script_mix", pa.float32()),
    ]
)
"""What is measured; each column is described where it is measured."""

# Of texts measured together. Chosen by us: ordinary captions fill a batch by their number, some MB;
# those of 100,000 characters by their size.
BATCH_ROWS = 2048
BATCH_BYTES = 8_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCaptions:
    """Hold raw texts and what is known of how they came to be; all of one length N.

    Args:
        texts: strings without null.
        is_cut_off: bool; the model stopped at its token limit.
        prompts: the pieces of each text's prompt, see `leaks.split_prompt`; () for none.
    """

    texts: pa.Array
    is_cut_off: pa.Array
    prompts: Sequence[tuple[str, ...]]


def measure_captions(raw: RawCaptions, *, trim: bool) -> pa.Table:
    """Measure captions: a row for each, in order, with the columns of `MEASURES`.

    Args:
        raw: what is measured.
        trim: cut texts that are cut off behind their last whole sentence; they are cut off no
            longer then. Those without any stay as they are.
    """
    parts = [_measure(batch, trim=trim) for batch in _cut_batches(raw)]
    return pa.concat_tables(parts) if parts else MEASURES.empty_table()


def _cut_batches(raw: RawCaptions) -> Iterator[RawCaptions]:
    """Cut into batches of at most `BATCH_ROWS` texts and, but for single ones, `BATCH_BYTES`."""
    sizes = pc.binary_length(raw.texts).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes, dtype=np.int64)
    start = 0
    while start < len(ends):
        before = ends[start] - sizes[start]
        stop = int(np.searchsorted(ends, before + BATCH_BYTES, side="right"))
        stop = min(max(stop, start + 1), start + BATCH_ROWS)
        yield RawCaptions(
            texts=raw.texts.slice(start, stop - start),
            is_cut_off=raw.is_cut_off.slice(start, stop - start),
            prompts=raw.prompts[start:stop],
        )
        start = stop


def _measure(raw: RawCaptions, *, trim: bool) -> pa.Table:
    clean, had_opening = clean_texts(raw.texts)
    cut_off = raw.is_cut_off
    if trim:
        clean, cut_off = _trim(clean, cut_off)
    words = split_words(clean)
    repeated = measure_repeated_frac(words)
    leak = pc.or_(find_leaks(raw.texts), find_prompts(clean, raw.prompts))
    columns = {
        "text": clean,
        "words": words.counts.astype(np.int32),
        "boilerplate": had_opening,
        "refusal": find_refusals(clean),
        "leak": leak,
        "cut_off": cut_off,
        "repeated_frac": repeated,
        "looped": measure_loops(words, repeated),
        "compression": measure_compression(clean),
        "hedges": measure_hedges(clean),
        "letters": measure_letters(clean),
        "script_mix": measure_script_mix(clean),
    }
    return pa.table(columns, schema=MEASURES)


def _trim(texts: pa.Array, is_cut_off: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Cut what is cut off behind its last whole sentence; give which texts still are cut off."""
    rows = pc.indices_nonzero(is_cut_off).to_pylist()
    trimmed: list[str] = texts.to_pylist()
    remaining = np.zeros(len(texts), bool)
    for row in rows:
        whole = whole_sentences(trimmed[row])
        remaining[row] = not whole
        trimmed[row] = whole or trimmed[row]
    return pa.array(trimmed, pa.string()), pa.array(remaining)


def whole_sentences(text: str) -> str:
    """Give a text without the sentence that its end breaks off; "" if it has no whole one.

    >>> whole_sentences("A dog. It lies on a"), whole_sentences("A dog on")
    ('A dog.', '')
    """
    sentences = split_sentences(text)
    if not sentences:
        return ""
    if sentences[-1].rstrip("\"')]}\u2019\u201d\u300d").endswith(_SENTENCE_ENDS):
        return text
    return text[: text.rindex(sentences[-1])].rstrip() if len(sentences) > 1 else ""


_SENTENCE_ENDS = (
    ".",
    "!",
    "?",
    "\u2026",
    "\u3002",
    "\uff01",
    "\uff1f",
    "\u0964",
    "\u061f",
    "\u06d4",
)

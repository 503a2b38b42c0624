"""Measure a shard's attempts, and make the shorter captions that are cut from them.

recaption's table -> raw texts -> clean texts and measures -> language -> cuts, measured alike
                  -> one table, each cut behind its parent
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import xxhash

from curate.captioners.caption_measures import (
    MEASURES,
    RawCaptions,
    measure_captions,
    whole_sentences,
)
from curate.captioners.captioner import CUT_OFF
from curate.captioners.instructions import TEMPLATES
from curate.captioners.leaks import split_prompt
from curate.captioners.sentences import cut_to_words
from curate.core.schema import KEY, OK, STATUS, make_key
from curate.stages.judging.config import Cut
from curate.stages.recaptioning.rows import DEDUP

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

READ = (
    KEY, STATUS, "attempt", "source", "number", "text_raw", "template_digest", "prompt", "alt_used",
    "parent", "model", "finish_reason", "tokens", "similarity", "similarity_sentence", "verified",
)  # fmt: skip
"""The columns of recaption that are read."""

ATTEMPTS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # recaption's
        ("attempt", pa.string()),
        ("parent", pa.string()),
        ("source", pa.string()),
        ("number", pa.int32()),
        ("tokens", pa.int32()),
        ("similarity", pa.float32()),
        ("similarity_sentence", pa.float32()),
        ("verified", pa.float32()),
        *MEASURES,
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("from_web", pa.bool_()),  # the caption of a dropped duplicate, written by no model
        ("parent_row", pa.int32()),  # of a cut: the row of this table it is cut from
        ("text_hash", pa.uint64()),  # null for ""
    ]
)
"""One row for each attempt and each cut."""

# Of a text, by which its language is identified. Chosen by us: fastText takes 0.3 ms for 900
# characters and 0.08 for 300; on 2,000 texts of PartiPrompts the mean score falls from 0.91 to
# 0.89.
_LANGUAGE_CHARACTERS = 300

Identify = Callable[[str], tuple[str, float]]
"""Gives the language code of a text and its score, 0..1."""


def measure_attempts(
    rows: pa.Table, cuts: Sequence[Cut], *, trim: bool, identify: Identify | None
) -> pa.Table:
    """Measure all attempts of a shard: ATTEMPTS, in the order of `rows`, cuts behind their parents.

    Args:
        rows: the columns `READ` of recaption's table.
        cuts: to be made.
        trim: cut texts that the token limit cut off behind their last whole sentence.
        identify: the pack's language identifier; None measures no language.
    """
    rows = rows.combine_chunks()
    measures = measure_captions(_raw_captions(rows), trim=trim)
    measures = _keep_web_texts(measures, rows)
    parts = [_complete(rows, measures, np.full(len(rows), -1), identify)]
    parents = [np.arange(len(rows))]
    for cut in cuts:
        chosen = np.flatnonzero(_is_cut_from(rows, cut))
        parents.append(chosen)
        parts.append(_make_cut(parts[0].take(pa.array(chosen)), chosen, cut, identify))
    order = np.argsort(np.concatenate(parents), kind="stable")
    table = pa.concat_tables(parts).take(pa.array(order))
    return _renumber_parents(table, order)


def _raw_captions(rows: pa.Table) -> RawCaptions:
    is_cut_off = pc.is_in(rows["finish_reason"], value_set=pa.array(CUT_OFF, pa.string()))
    return RawCaptions(
        texts=_array(rows["text_raw"]),
        is_cut_off=_array(is_cut_off),
        prompts=_split_prompts(rows),
    )


def _split_prompts(rows: pa.Table) -> list[tuple[str, ...]]:
    """Give the pieces of each attempt's prompt that a caption must not repeat.

    A template of ours is known by its digest, and its words are taken from there. Of another's the
    rendered prompt is taken, unless it shows the model a text of the sample.
    """
    known = {template.digest: template.text for template in TEMPLATES.values()}
    pieces: dict[tuple[str | None, str | None], tuple[str, ...]] = {}
    found: list[tuple[str, ...]] = []
    names = ("template_digest", "prompt", "alt_used", "parent")
    for digest, prompt, alt_used, parent in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        if digest in known:
            identity = (digest, None)
            words = known[digest].replace("{alt}", "\n").replace("{draft}", "\n")
        elif alt_used or parent:
            identity, words = (None, None), ""
        else:
            identity, words = (None, prompt), prompt or ""
        if identity not in pieces:
            pieces[identity] = split_prompt(words)
        found.append(pieces[identity])
    return found


def _keep_web_texts(measures: pa.Table, rows: pa.Table) -> pa.Table:
    """Leave captions of duplicates as they came: stock openings are what models write."""
    from_web = pc.fill_null(pc.equal(rows["model"], DEDUP), False)
    texts = pc.if_else(from_web, rows["text_raw"], measures["text"])
    stripped = pc.and_not(measures["boilerplate"], from_web)
    place = measures.schema.get_field_index
    measures = measures.set_column(place("text"), MEASURES.field("text"), texts)
    return measures.set_column(place("boilerplate"), MEASURES.field("boilerplate"), stripped)


def _is_cut_from(rows: pa.Table, cut: Cut) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which attempts a cut is made of: those of its source that a captioner wrote."""
    ours = pc.and_(pc.equal(rows["source"], cut.source), pc.equal(rows[STATUS], OK))
    return _array(ours).to_numpy(zero_copy_only=False)


def _make_cut(
    parents: pa.Table,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    cut: Cut,
    identify: Identify | None,
) -> pa.Table:
    """Cut some captions and measure what comes out; it has no scores of its own."""
    texts = [
        cut_to_words(whole_sentences(text) if is_cut_off else text, cut.max_words)
        for text, is_cut_off in zip(
            parents["text"].to_pylist(), parents["cut_off"].to_pylist(), strict=True
        )
    ]
    raw = RawCaptions(
        texts=pa.array(texts, pa.string()),
        is_cut_off=pa.array([False] * len(texts), pa.bool_()),
        prompts=[()] * len(texts),
    )
    attempts = parents["attempt"].to_pylist()
    names = [make_key(parent, "cut", cut.name, str(cut.max_words)) for parent in attempts]
    nothing = pa.nulls(len(texts), pa.float32())
    given = pa.table(
        {
            KEY: parents[KEY],
            STATUS: parents[STATUS],
            "attempt": pa.array(names, pa.string()),
            "parent": parents["attempt"],
            "source": pa.array([cut.name] * len(texts), pa.string()),
            "number": parents["number"],
            "tokens": pa.nulls(len(texts), pa.int32()),
            "similarity": nothing,
            "similarity_sentence": nothing,
            "verified": nothing,
            "model": pa.nulls(len(texts), pa.string()),
        }
    )
    return _complete(given, measure_captions(raw, trim=False), rows, identify)


def _complete(
    given: pa.Table,
    measures: pa.Table,
    parent_rows: np.ndarray[Any, np.dtype[np.int64]],
    identify: Identify | None,
) -> pa.Table:
    """Put all columns of some rows side by side: ATTEMPTS."""
    texts: list[str] = measures["text"].to_pylist()
    columns = {name: given[name] for name in ATTEMPTS.names if name in given.column_names}
    columns |= {name: measures[name] for name in MEASURES.names}
    found = (
        [identify(text[:_LANGUAGE_CHARACTERS]) if text else None for text in texts]
        if identify
        else [None] * len(texts)
    )
    columns |= {
        "language": pa.array([one[0] if one else None for one in found], pa.string()),
        "language_score": pa.array([one[1] if one else None for one in found], pa.float32()),
        "from_web": pc.fill_null(pc.equal(given["model"], DEDUP), False),
        "parent_row": pa.array(parent_rows.astype(np.int32)),
        "text_hash": pa.array([_hash(text) for text in texts], pa.uint64()),
    }
    return pa.table([columns[name] for name in ATTEMPTS.names], schema=ATTEMPTS)


def _renumber_parents(table: pa.Table, order: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Table:
    """Let `parent_row` name rows of the ordered table; attempts come first in the unordered one."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    rows = table["parent_row"].to_numpy()
    renumbered = np.where(rows < 0, -1, places[np.maximum(rows, 0)]) if len(rows) else rows
    place = table.schema.get_field_index("parent_row")
    return table.set_column(
        place, ATTEMPTS.field("parent_row"), pa.array(renumbered.astype(np.int32))
    )


def _hash(text: str) -> int | None:
    """Hash a text, white space folded and case apart; None for an empty one."""
    folded = " ".join(text.casefold().split())
    return xxhash.xxh3_64_intdigest(folded.encode()) if folded else None


def _array(column: pa.ChunkedArray) -> pa.Array:
    """Give a column as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)

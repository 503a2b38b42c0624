"""Write the text columns of a shard: every caption's tokens, by every text encoder.

rows' captions, some hundred at a time -> each distinct one embedded once -> CaptionColumn
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError, ShardError
from curate.core.int8_tokens import MAX_ERROR, measure_int8, pack_int8
from curate.core.latent_column import CaptionColumn, CaptionRecord
from curate.core.latent_manifest import NULL_SHARD, TextFacts, TextForm

if TYPE_CHECKING:
    from curate.models.text_embedding import TextEmbedding, TextEncoder

WINDOW = 256  # captions embedded at a time; chosen by us: 160 MB of SDXL's two encoders at most
NULL_KEY = "0" * 20
NULL_SOURCE = "null"
_NOTHING = np.empty(0, np.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """Hold a text encoder and how its tokens are stored.

    Args:
        name: of the column, without "text-".
        encoder: gives tokens and pooled vectors.
        digest: of its weights.
        form: of the stored tokens.
    """

    name: str
    encoder: TextEncoder
    digest: str
    form: TextForm

    def facts(self, error: float = 0.0) -> TextFacts:
        """Describe the column."""
        return TextFacts(
            name=self.name,
            encoder=self.digest,
            dim=self.encoder.dim,
            pooled_dim=0 if self.form == "ids" else self.encoder.pooled_dim,
            max_tokens=self.encoder.max_tokens,
            form=self.form,
            error=error,
        )

    def records(self, captions: Sequence[tuple[str, str]]) -> list[CaptionRecord]:
        """Embed captions, given as (source, text), equal texts once.

        Raises:
            ShardError: an embedding that float16 cannot hold.
        """
        texts = sorted({text for _, text in captions})
        stored = dict(zip(texts, self._store(texts), strict=True))
        return [
            CaptionRecord(
                source=source,
                text=text,
                tokens=stored[text].tokens,
                pooled=stored[text].pooled,
                num_truncated=stored[text].num_truncated,
            )
            for source, text in captions
        ]

    def _store(self, texts: Sequence[str]) -> list[_Stored]:
        if self.form == "ids":
            return [
                _Stored(tokens=one.ids, pooled=_NOTHING, num_truncated=one.num_truncated)
                for one in self.encoder.tokenize(texts)
            ]
        embedded = self.encoder.encode(texts)
        return [self._halve(text, one) for text, one in zip(texts, embedded, strict=True)]

    def _halve(self, text: str, embedding: TextEmbedding) -> _Stored:
        with np.errstate(over="ignore"):  # refused below
            tokens = embedding.tokens.astype(np.float16)
            pooled = embedding.pooled.astype(np.float16)
        if not np.isfinite(tokens).all() or not np.isfinite(pooled).all():
            raise ShardError(
                f"encode: the embedding of {text[:60]!r} by text encoder {self.name} must be "
                "finite in float16, got inf or NaN; use another text encoder"
            )
        return _Stored(
            tokens=pack_int8(embedding.tokens) if self.form == "int8" else tokens,
            pooled=pooled,
            num_truncated=embedding.num_truncated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """Hold one caption as it is stored; see `CaptionRecord`."""

    tokens: NDArray[Any]
    pooled: NDArray[np.float16]
    num_truncated: int


def write_captions(
    folder: Path,
    shard: str,
    rows: Sequence[dict[str, Any]],
    tower: Tower,
    *,
    is_shared: bool,
) -> Counter[str]:
    """Write one text encoder's column of a shard, and note lengths in the rows.

    Args:
        folder: of the store.
        shard: its name.
        rows: with key, captions.source and captions.text; `captions.tokens.NAME` and
            `captions.truncated.NAME` are added.
        tower: the text encoder.
        is_shared: store equal captions once.

    Returns:
        "truncated.NAME.SOURCE": captions of a source that did not fit.
    """
    counts: Counter[str] = Counter()
    column = CaptionColumn(
        folder / tower.facts().folder, shard, _index_facts(tower), is_shared=is_shared
    )
    for some in _windows(rows):
        pairs = [_captions(row) for row in some]
        records = iter(tower.records([pair for row in pairs for pair in row]))
        for row, own in zip(some, pairs, strict=True):
            found = [next(records) for _ in own]
            column.add(row["key"], found)
            row[f"captions.tokens.{tower.name}"] = [len(one.tokens) for one in found]
            row[f"captions.truncated.{tower.name}"] = [one.num_truncated for one in found]
            counts.update(
                f"truncated.{tower.name}.{one.source}" for one in found if one.num_truncated
            )
    column.close()
    return counts


def write_null(folder: Path, tower: Tower, error: float) -> None:
    """Write the column's record of the empty caption, and what its form was measured to cost."""
    facts = {**_index_facts(tower), "error": error}
    column = CaptionColumn(folder / tower.facts().folder, NULL_SHARD, facts)
    column.add(NULL_KEY, tower.records([(NULL_SOURCE, "")]))
    column.close()


def check_int8(tower: Tower, captions: Sequence[str]) -> float:
    """Measure int8 on some captions; 0 for another form.

    Raises:
        ConfigError: it loses more than another format of a byte would.
    """
    if tower.form != "int8":
        return 0.0
    error = measure_int8(one.tokens for one in tower.encoder.encode(captions))
    if error.worst > MAX_ERROR:
        raise ConfigError(
            f"encode.text_form.{tower.name}: int8 may have a relative error of {MAX_ERROR} at "
            f"most, got {error.overall:.4f} of all numbers and {error.by_channel:.4f} by channel "
            f"on {len(captions)} captions; set it to float16"
        )
    return round(error.worst, 6)


def _index_facts(tower: Tower) -> dict[str, str]:
    return {"encoder": tower.digest, "form": tower.form}


def _captions(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list(zip(row["captions.source"], row["captions.text"], strict=True))


def _windows(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut rows into runs of about `WINDOW` captions."""
    some: list[dict[str, Any]] = []
    count = 0
    for row in rows:
        some.append(row)
        count += len(row["captions.text"])
        if count >= WINDOW:
            yield some
            some, count = [], 0
    if some:
        yield some

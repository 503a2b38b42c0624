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

from curate.core.errors import ShardError
from curate.core.latent_column import CaptionColumn, CaptionRecord
from curate.core.latent_manifest import NULL_SHARD, TextFacts, TextForm

if TYPE_CHECKING:
    from curate.models.text_embedding import TextEncoder

WINDOW = 256  # captions embedded at a time; chosen by us: 160 MB of SDXL's two encoders at most
NULL_KEY = "0" * 20
NULL_SOURCE = "null"


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
            pooled_dim=self.encoder.pooled_dim,
            max_tokens=self.encoder.max_tokens,
            form=self.form,
            error=error,
        )

    def records(self, captions: Sequence[tuple[str, str]]) -> list[CaptionRecord]:
        """Embed captions, given as (source, text), equal texts once."""
        texts = sorted({text for _, text in captions})
        embedded = dict(zip(texts, self.encoder.encode(texts), strict=True))
        return [
            CaptionRecord(
                source=source,
                text=text,
                tokens=embedded[text].tokens.astype(np.float16),
                pooled=embedded[text].pooled.astype(np.float16),
                num_truncated=embedded[text].num_truncated,
            )
            for source, text in captions
        ]


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
    facts = {"encoder": tower.digest, "form": tower.form}
    text = CaptionColumn(folder / tower.facts().folder, shard, facts, is_shared=is_shared)
    for some in _windows(rows):
        pairs = [_captions(row) for row in some]
        records = iter(tower.records([pair for row in pairs for pair in row]))
        for row, own in zip(some, pairs, strict=True):
            found = [next(records) for _ in own]
            _refuse_overflow(row["key"], tower.name, found)
            text.add(row["key"], found)
            row[f"captions.tokens.{tower.name}"] = [len(one.tokens) for one in found]
            row[f"captions.truncated.{tower.name}"] = [one.num_truncated for one in found]
            counts.update(
                f"truncated.{tower.name}.{one.source}" for one in found if one.num_truncated
            )
    text.close()
    return counts


def write_null(folder: Path, tower: Tower, error: float = 0.0) -> None:
    """Write the column's record of the empty caption, and what was measured of its form."""
    facts = {"encoder": tower.digest, "form": tower.form, "error": error}
    column = CaptionColumn(folder / tower.facts().folder, NULL_SHARD, facts)
    column.add(NULL_KEY, tower.records([(NULL_SOURCE, "")]))
    column.close()


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


def _refuse_overflow(key: str, name: str, records: Sequence[CaptionRecord]) -> None:
    for record in records:
        for array in (record.tokens, record.pooled):
            if not np.isfinite(array).all():
                raise ShardError(
                    f"{key}: the embedding of its caption {record.source} by text encoder {name} "
                    "must be finite in float16, got inf or NaN; use another text encoder"
                )

"""Write new captions for the kept pictures; every attempt is a row, rejected ones too.

ingest tar + the last verdicts -> captioner, all styles -> judged attempts -> captions table

Where dedup kept the captions of the dropped duplicates, each is a row too: source `alternate_1`
and so on, model `dedup`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from curate.captioners.captioner import CAPTIONER_ERROR, CaptionAttempt, Captioner, failed_attempt
from curate.captioners.instructions import TEMPLATES
from curate.captioners.table import load_captioner
from curate.core.batches import batched
from curate.core.errors import SAMPLE_FAULTS, ConfigError
from curate.core.manifest import Task
from curate.core.schema import OK, VERDICTS
from curate.core.shard import ShardWriter
from curate.core.stage import MapStage, Place
from curate.stages.pictures import Picture, read_pictures

logger = logging.getLogger(__name__)

ALTERNATES = "alternates"  # the verdicts' column: captions of dropped duplicates
ALTERNATE = "alternate_"  # starts their sources' names

CAPTION_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("source", pa.string()),
        ("text", pa.string()),
        ("text_raw", pa.string()),
        ("template", pa.string()),
        ("prompt", pa.string()),
        ("model", pa.string()),
        ("model_digest", pa.string()),
        ("processor_digest", pa.string()),
        ("sampling", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecaptionConfig:
    """Choose the captions to write.

    Args:
        styles: names from TEMPLATES, each written for every kept picture.
        batch_size: pictures captioned together.
    """

    styles: list[str] = field(default_factory=lambda: ["short", "detailed"])
    batch_size: int = 64

    def __post_init__(self) -> None:
        unknown = sorted(set(self.styles) - set(TEMPLATES))
        if unknown or not self.styles:
            raise ConfigError(
                f"recaption.styles: must be of {', '.join(TEMPLATES)}, got {self.styles}; "
                "fix the names"
            )
        if self.batch_size < 1:
            raise ConfigError(
                f"recaption.batch_size: must be >= 1, got {self.batch_size}; raise it"
            )


class RecaptionStage(MapStage[RecaptionConfig]):
    """Write one row per caption attempt of every kept sample."""

    name: ClassVar[str] = "recaption"
    takes: ClassVar[tuple[str, str] | None] = (VERDICTS, "kept")
    captioner: Captioner

    def setup(self) -> None:
        self.captioner = load_captioner(self.models["captioner"])

    def run(self, task: Task, place: Place) -> Counter[str]:
        alternates = self._read_kept(task.shard)
        counts: Counter[str] = Counter()
        pictures = read_pictures(self.inputs["ingest"], task.shard, alternates)
        with ShardWriter(
            place.out, task.shard, CAPTION_SCHEMA, with_tar=False, unique_keys=False
        ) as writer:
            for batch in batched(pictures, self.config.batch_size):
                for picture, attempts in self._caption(batch):
                    for attempt in attempts:
                        writer.write({"key": picture.key, **self._row(attempt)})
                    counts.update(_count(attempts))
                    for row in _alternate_rows(alternates[picture.key]):
                        writer.write({"key": picture.key, **row})
                        counts[ALTERNATES] += 1
        return counts

    def _read_kept(self, shard: str) -> dict[str, list[str]]:
        """Give the keys of the kept samples, each with the captions of its duplicates."""
        verdicts = self.inputs[VERDICTS]
        names = ["key", "keep"]
        names += [ALTERNATES] if ALTERNATES in verdicts.schema(shard).names else []
        table = verdicts.table(shard, names)
        kept = table.filter(table["keep"]).to_pylist()
        return {row["key"]: row.get(ALTERNATES) or [] for row in kept}

    def _caption(self, batch: Sequence[Picture]) -> list[tuple[Picture, list[CaptionAttempt]]]:
        """Caption a batch; a picture the captioner fails on gets rejected attempts.

        Raises:
            OSError, ValueError, ArithmeticError: it failed on every one of several pictures, which
                is a fault of the captioner and not of a picture.
        """
        styles = self.config.styles
        try:
            attempts = self.captioner.caption([picture.image for picture in batch], styles)
        except SAMPLE_FAULTS as error:
            if len(batch) == 1:
                logger.warning("%s could not caption %s: %s", self.name, batch[0].key, error)
                return [(batch[0], [failed_attempt(style, error) for style in styles])]
            alone = [self._caption([picture])[0] for picture in batch]
            if all(attempts[0].status == CAPTIONER_ERROR for _, attempts in alone):
                raise
            return alone
        return [
            (picture, list(attempts[i * len(styles) : (i + 1) * len(styles)]))
            for i, picture in enumerate(batch)
        ]

    def _row(self, attempt: CaptionAttempt) -> dict[str, Any]:
        return {
            "status": attempt.status,
            "source": attempt.style,
            "text": attempt.text,
            "text_raw": attempt.text_raw,
            "template": attempt.template,
            "prompt": attempt.prompt,
            "model": self.captioner.name,
            "model_digest": self.captioner.model_digest,
            "processor_digest": self.captioner.processor_digest,
            "sampling": json.dumps(dict(attempt.sampling), sort_keys=True),
            "finish_reason": attempt.finish_reason,
            "tokens": attempt.num_tokens,
        }


def _alternate_rows(texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Spell captions of duplicates as accepted attempts, each under a source of its own."""
    for number, text in enumerate(texts, start=1):
        yield {
            "status": OK,
            "source": f"{ALTERNATE}{number}",
            "text": text,
            "text_raw": text,
            "model": "dedup",
        }


def _count(attempts: Sequence[CaptionAttempt]) -> list[str]:
    """Count attempts; a bad caption never drops the picture."""
    accepted = [attempt for attempt in attempts if attempt.status == OK]
    rejected = [f"rejected.{attempt.status}" for attempt in attempts if attempt.status != OK]
    return ["in", "kept", *(["without_caption"] if not accepted else []), *rejected]

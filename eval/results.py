"""Write and read what an evaluation found: numbers beside the protocol they hold for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.core.errors import ShardError
from curate.core.shard import ShardSet
from eval.evidence import PictureFacts, SampleSet
from eval.metrics import Number, Study
from eval.truth import TruthRow

RESULTS = "results.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Hold a finished evaluation.

    Args:
        numbers: what was measured of the pictures.
        truth: what was measured of the stages against a known truth.
        protocol: what was compared; two results are comparable only if these agree.
    """

    numbers: Sequence[Number]
    truth: Sequence[TruthRow]
    protocol: Mapping[str, Any]

    def to_json(self) -> str:
        """Give the file's text; equal results give equal bytes."""
        return (
            json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"
        )


def load_results(shards: ShardSet) -> Results:
    """Read back the results of a finished evaluation.

    Raises:
        ShardError: the file is missing or is not of this version.
    """
    try:
        raw = json.loads(shards.store.read(RESULTS))
        return Results(
            numbers=[Number(**number) for number in raw["numbers"]],
            truth=[TruthRow(**row) for row in raw["truth"]],
            protocol=raw["protocol"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{shards.url}/{RESULTS}: must be results of this version, got {error!r}; "
            "rerun evaluate"
        ) from error


def describe_protocol(
    samples: SampleSet,
    facts: PictureFacts,
    reference: PictureFacts | None,
    study: Study,
    reader: str,
) -> dict[str, Any]:
    """Say what was compared and how: networks, prompts, pictures, sizes and file formats."""
    prompts = sorted({record.prompt for record in samples.records})
    pictures = Counter(record.variant for record in samples.records)
    return {
        "extractor": {"name": study.extractor, "digest": study.extractor_digest},
        "reader": reader,
        "prompts": {
            "num": len(prompts),
            "sha256": hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        },
        "pictures": {
            variant: {
                "ok": pictures[variant],
                "failed": dict(sorted(samples.failed.get(variant, Counter()).items())),
            }
            for variant in sorted({*pictures, *samples.failed})
        },
        "formats": dict(sorted(facts.formats.items())),
        "sizes": {f"{h}x{w}": num for (h, w), num in sorted(facts.sizes.items())},
        "reference": {
            "num": len(study.reference),
            "held_out": len(study.held_out),
            "formats": dict(sorted(reference.formats.items())) if reference else {},
            "resize": "Lanczos and centre crop to the size of the samples",
        },
        "controls": [item.variant for item in study.variants if item.is_control],
        "interval": "95 %",
    }

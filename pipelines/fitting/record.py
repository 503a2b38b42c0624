"""Say what a fit was: the facts of `fit.json`, which also name it when it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curate.captioners.instructions import Template
from curate.captioners.vlm import VlmCaptioner
from curate.core.errors import ConfigError
from curate.core.stage import plain_config
from pipelines.fitting.config import FitCaptionerConfig
from pipelines.fitting.samples import FitSamples

_VERSION = 1  # raised when equal configs and samples give other weights
# Where things lie does not name a fit: digests of the base and of the samples do.
_PLACES = ("input", "out", "captioner", "models_folder", "debug")


def make_facts(
    config: FitCaptionerConfig, captioner: VlmCaptioner, template: Template, samples: FitSamples
) -> dict[str, Any]:
    """Collect what decides the weights: plain JSON values."""
    origin = captioner.provenance
    plain = plain_config(config)
    return {
        "version": _VERSION,
        "base": {
            "model": origin.model,
            "model_type": captioner.vlm.model_type,
            "model_digest": origin.model_digest,
            "processor_digest": origin.processor_digest,
            "dtype": origin.dtype,
        },
        "template": {
            "name": template.name,
            "digest": template.digest,
            "text": template.text,
            "prompt": captioner.vlm.family.prompt,
        },
        "data": samples.fingerprint,
        "num_learnt": len(samples.learnt),
        "num_heldout": len(samples.heldout),
        "config": {name: value for name, value in plain.items() if name not in _PLACES},
    }


def check_same(out: Path, record: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another fit.

    Raises:
        ConfigError: names what differs.
    """
    names = [name for name, value in facts.items() if record.get(name) != value]
    if names:
        name = names[0]
        raise ConfigError(
            f"{out}: must hold no other fit, got one with another {name}; "
            "set out= to another folder or delete this one"
        )


def describe_samples(samples: FitSamples) -> str:
    """Say in one line what is learnt from, and why samples were left out."""
    dropped = [
        f"{count:,} {name.removeprefix('dropped.')}"
        for name, count in sorted(samples.counts.items())
        if name != "in"
    ]
    left_out = f"; left out: {', '.join(dropped)}" if dropped else ""
    return (
        f"samples: {samples.counts['in']:,} read, {len(samples.learnt):,} to learn from, "
        f"{len(samples.heldout):,} held out{left_out}"
    )


def describe_record(record: Mapping[str, Any]) -> Iterator[str]:
    """Say what was trained, and how it captions held-out samples before and after."""
    yield f"trained: {record['num_trained']:,} of {record['num_params']:,} parameters"
    for when in ("before", "after"):
        found = record["heldout"][when]
        yield (
            f"{when:<7}loss {found['loss']:.4f}  exact {found['exact']:.3f}  "
            f"BLEU {found['bleu']:.3f}  cut off {found['cut_off']:.3f}  "
            f"of {found['num_samples']:,} held out"
        )

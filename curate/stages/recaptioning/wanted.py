"""Name the attempts that a sample shall have: a pure function of the sample, its view and config.

    styles -> those chosen for the sample -> numbers -> seeds -> attempt keys

An attempt's key tells everything that decides the answer, so that a caption made once is found
again whatever else of the run has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from curate.captioners.captioner import Provenance, Sampling
from curate.captioners.instructions import Template
from curate.core.seed import derive_seed, make_rng


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Hold what is known of a sample before its picture is opened.

    Args:
        key: of the sample.
        shard: that holds it.
        alt: its alt text.
        sha256: of its picture's file.
        height: of the picture, pixels.
        width: likewise.
    """

    key: str
    shard: str
    alt: str
    sha256: str
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Name a part of a picture, in its pixels."""

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Say what of a picture is shown: a box, made `height` x `width` pixels large."""

    box: Box
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask for one attempt.

    Args:
        sample: that it is about.
        view: what of its picture is shown.
        template: what is asked.
        number: which of several in this style, from 0.
        sampling: how words are chosen.
        seed: of the sampler.
        attempt: the key of the attempt, 20 hex characters.
        draft: the caption to rewrite, if the template uses one.
        parent: the attempt that wrote the draft.
    """

    sample: Sample
    view: View
    template: Template
    number: int
    sampling: Sampling
    seed: int
    attempt: str
    draft: str = ""
    parent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Hold what is the same in all requests to one model.

    Args:
        provenance: of the model.
        sampling: how words are chosen.
        seed: of the run.
    """

    provenance: Provenance
    sampling: Sampling
    seed: int

    def ask(
        self,
        sample: Sample,
        view: View,
        template: Template,
        number: int,
        *,
        draft: str = "",
        parent: str = "",
    ) -> Ask:
        """Say what is asked for, with the key under which the answer is kept."""
        seed = derive_seed(self.seed, "caption", sample.key, template.id, number)
        key = attempt_key(
            sample, view, template, self.provenance, self.sampling, seed, number, draft=draft
        )
        return Ask(
            sample=sample, view=view, template=template, number=number, sampling=self.sampling,
            seed=seed, attempt=key, draft=draft, parent=parent,
        )  # fmt: skip


def attempt_key(
    sample: Sample,
    view: View,
    template: Template,
    provenance: Provenance,
    sampling: Sampling,
    seed: int,
    number: int,
    *,
    draft: str = "",
) -> str:
    """Hash everything that decides an answer to 20 hex characters of sha256.

    The alt text and the draft count only where the template shows them to the model. The version of
    the library or server does not count: an upgrade asks for nothing again.
    """
    made_by = asdict(provenance)
    del made_by["version"]
    parts = {
        "sample": [sample.key, sample.sha256],
        "view": asdict(view),
        "template": template.digest,
        "alt": sample.alt if template.uses_alt else None,
        "draft": draft if template.uses_draft else None,
        "model": made_by,
        "sampling": asdict(sampling),
        "seed": seed,
        "number": number,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def choose_styles(
    key: str, styles: Sequence[str], count: int, weights: Mapping[str, float], seed: int
) -> list[str]:
    """Draw the styles of a sample without replacement, in the order of `styles`.

    Each style has a draw of its own by (key, style), so that one more style takes the place of
    others in some samples and changes nothing in the rest.

    Args:
        key: of the sample.
        styles: to choose from.
        count: how many; 0 takes all.
        weights: of styles; 1 where none is named, at 0 never drawn.
        seed: of the run.

    Source: Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir": the items
        with the largest u^(1/w) are a weighted sample; here by -log(u)/w, smallest first.
    """
    if not count:
        return list(styles)
    waits: dict[str, float] = {}
    for style in styles:
        weight = weights.get(style, 1.0)
        draw = 1.0 - make_rng(seed, "caption-style", key, style).random()  # in (0, 1]
        if weight > 0:
            waits[style] = -math.log(draw) / weight
    drawn = sorted(waits, key=lambda style: (waits[style], style))[:count]
    return [style for style in styles if style in drawn]

"""Caption pictures of the toy web from what the exact oracle reads in them, as badly as wanted.

    picture -> oracle.py -> scene -> slips of the eye -> words of the style -> faults of style

Every mistake is drawn by (seed, key, template), and `answer` names those it made, so that rules and
whole ablations can be held against a known truth. How often it is wrong stands in a YAML file:

    captioner: {kind: toy_oracle, paths: [oracle.yaml]}     # no path: it is never wrong
    oracle.yaml: {seed: 0, slips: {color: 0.1, object: 0.05}, faults: {refusal: 0.02, loop: 0.02}}

It also rewrites drafts and answers yes or no to claims, for the roles rewriter and verifier; then
it is never wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from curate.captioners.captioner import (
    CaptionAttempt,
    CaptionRequest,
    FinishReason,
    Provenance,
    Sampling,
)
from curate.captioners.verify import QUESTION
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.core.seed import make_rng
from pipelines.toyweb.oracle import read_scene
from pipelines.toyweb.oracle_mistakes import (
    Fault,
    OracleSettings,
    Slip,
    draw_fault,
    make_slips,
    spoil,
)
from pipelines.toyweb.oracle_words import STYLES, is_true, write_detailed
from pipelines.toyweb.scene import Scene

KIND = "toy_oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleAnswer:
    """Hold an answer with what is wrong with it: slips of the eye, and a fault of style or None."""

    attempt: CaptionAttempt
    slips: tuple[Slip, ...] = ()
    fault: Fault | None = None


class OracleCaptioner:
    """Answer requests about pictures of the toy web.

    Args:
        settings: how often it is wrong.
        digest: of the settings' file, which stands for weights.
    """

    def __init__(self, settings: OracleSettings, digest: str = "") -> None:
        self.settings = settings
        self._provenance = Provenance(backend=KIND, model=KIND, model_digest=digest)

    @property
    def provenance(self) -> Provenance:
        """Name the oracle."""
        return self._provenance

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        """Answer every request; above temperature 0 its seed decides the draws too."""
        is_greedy = sampling.temperature == 0
        return [self.answer(one, is_greedy=is_greedy).attempt for one in requests]

    def answer(self, request: CaptionRequest, *, is_greedy: bool = True) -> OracleAnswer:
        """Answer one request and tell what is wrong with the answer."""
        template = request.template
        prompt = template.fill(alt=request.alt, draft=request.draft)
        if template.uses_draft and template.id != QUESTION.id:
            return OracleAnswer(attempt=_attempt(_fuse(request), prompt))
        scene = read_scene(np.asarray(request.image.convert("RGB"))).scene
        if template.id == QUESTION.id:
            told = scene is not None and is_true(request.draft, scene)
            return OracleAnswer(attempt=_attempt("Yes." if told else "No.", prompt))
        if scene is None:  # a photograph, or letters over the picture: nothing to say
            return OracleAnswer(attempt=_attempt("", prompt))
        return self._describe(request, scene, prompt, is_greedy=is_greedy)

    def _describe(
        self, request: CaptionRequest, scene: Scene, prompt: str, *, is_greedy: bool
    ) -> OracleAnswer:
        style = request.template.id
        drawn_by = (request.key, style, *(() if is_greedy else (request.seed,)))
        rng = make_rng(self.settings.seed, "toy oracle", *drawn_by)
        seen, slips = make_slips(scene, self.settings.slips, rng)
        fault = draw_fault(self.settings.faults, rng)
        objects = list(seen.objects)
        if not is_greedy:
            rng.shuffle(objects)  # so that several captions of a picture differ
        text = STYLES.get(style, write_detailed)(objects, seen.background)
        if request.template.uses_alt and request.alt:
            text = f"{text}, called {request.alt}"  # as models let the alt text leak
        text_raw, finish_reason = spoil(text, fault, rng)
        attempt = _attempt(text_raw, prompt, finish_reason)
        return OracleAnswer(attempt=attempt, slips=slips, fault=fault)


def load_oracle_captioner(ref: ModelRef) -> OracleCaptioner:
    """Load the oracle with the settings of its file, or without any.

    Raises:
        ModelError: the file is no mapping of settings, or a value breaks a rule.
    """
    if not ref.paths:
        return OracleCaptioner(OracleSettings(), ref.digest)
    return OracleCaptioner(_read_settings(ref.paths[0]), ref.digest)


def _read_settings(path: Path) -> OracleSettings:
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())[:160]
        raise ModelError(f"{path}: must be readable YAML, got {where}; fix it") from error
    known = [one.name for one in fields(OracleSettings)]
    if not isinstance(values, dict) or not set(cast("dict[Any, Any]", values)) <= set(known):
        raise ModelError(f"{path}: must set {', '.join(known)}, got {values!r}; fix the names")
    try:
        return OracleSettings(**cast("dict[str, Any]", values))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: slips and faults must map kinds to shares; {error}") from error


def _fuse(request: CaptionRequest) -> str:
    """Rewrite a draft as a good rewriter would: its facts, and the names that the alt text has."""
    return f"{request.draft}, called {request.alt}" if request.alt else request.draft


def _attempt(text_raw: str, prompt: str, finish_reason: FinishReason = "stop") -> CaptionAttempt:
    return CaptionAttempt(
        text_raw=text_raw,
        prompt=prompt,
        finish_reason=finish_reason,
        num_prompt_tokens=len(prompt.split()),
        num_tokens=len(text_raw.split()) + (finish_reason == "stop"),
    )

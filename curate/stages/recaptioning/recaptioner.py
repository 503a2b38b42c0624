"""Ask captioner and rewriter for the attempts that are missing, and measure what they wrote.

    samples -> asks (wanted.py) -> missing -> captioner -> drafts -> rewriter -> scores -> lines

Whether an attempt is missing, the caller's `answered` says: what the journal holds and what has
been answered since. A sample is complete when all its asks are answered and measured.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from PIL import Image

from curate.captioners.captioner import (
    CaptionAttempt,
    Captioner,
    CaptionerLost,
    CaptionRequest,
)
from curate.captioners.instructions import Template
from curate.captioners.rules import judge_text
from curate.core.errors import ModelError
from curate.core.schema import OK
from curate.stages.recaptioning.config import RecaptionConfig
from curate.stages.recaptioning.rows import Line, make_line
from curate.stages.recaptioning.scores import Scorer
from curate.stages.recaptioning.views import Shown
from curate.stages.recaptioning.wanted import Ask, Asker, Sample, View, choose_styles

Answered = MutableMapping[str, Line]  # attempt -> line

# Chosen by us: where one picture in ten is too much for a model, eight in a row are by a chance of
# 1e-8; fewer may be a shard of odd pictures.
_HOPELESS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Recaptioner:
    """Hold the models and what they are asked.

    Args:
        config: of the stage.
        templates: all that `config` names, by style.
        captioner: sees pictures.
        rewriter: rewrites drafts; there if `config.fuse` is not empty.
        scorer: measures.
        seed: of the run.
    """

    config: RecaptionConfig
    templates: Mapping[str, Template]
    captioner: Captioner
    rewriter: Captioner | None
    scorer: Scorer
    seed: int

    def asks(self, sample: Sample, view: View, answered: Mapping[str, Line]) -> list[Ask]:
        """Name the attempts of a sample; those that rewrite come last, as far as drafts are there.

        A style that shows the model the alt text is left out where there is none.
        """
        choose = self.config.choose
        styles = choose_styles(
            sample.key, self.config.styles, choose.count, choose.weights, self.seed
        )
        templates = [self.templates[style] for style in styles]
        asker = self._asker(self.captioner)
        first = [
            asker.ask(sample, view, template, number)
            for template in templates
            if sample.alt.strip() or not template.uses_alt
            for number in range(self.config.per_style)
        ]
        return [*first, *self._asks_to_rewrite(first, answered)]

    def is_complete(self, sample: Sample, view: View, answered: Mapping[str, Line]) -> bool:
        """Tell whether nothing is to be asked or measured of a sample."""
        return all(
            ask.attempt in answered and not self.scorer.is_due(answered[ask.attempt])
            for ask in self.asks(sample, view, answered)
        )

    def complete_all(
        self, windows: Iterable[Sequence[Shown]], answered: Answered
    ) -> Iterator[list[Line]]:
        """Complete pictures, a window at a time; yield the lines that are new or measured anew.

        Args:
            windows: pictures as the captioner is given them.
            answered: grows by what is answered.

        Raises:
            ModelError: a model failed on every one of many pictures and has answered none before,
                or nothing more can be asked.
            Exception: what a model raised; what was answered till then has been yielded.
        """
        started = time.monotonic()
        for window in windows:
            fresh: list[Line] = []
            try:
                self._ask_missing(window, answered, fresh)
                measured = self._measure(window, answered)
            except Exception:
                _share_seconds(fresh, time.monotonic() - started)
                yield fresh  # paid for; the next run measures them
                raise
            _share_seconds(fresh, time.monotonic() - started)
            yield list(({line["attempt"]: line for line in fresh} | measured).values())
            started = time.monotonic()

    def _asker(self, model: Captioner) -> Asker:
        return Asker(provenance=model.provenance, sampling=self.config.sampling, seed=self.seed)

    def _asks_to_rewrite(
        self, drafts: Sequence[Ask], answered: Mapping[str, Line]
    ) -> Iterator[Ask]:
        if self.rewriter is None:
            return
        asker = self._asker(self.rewriter)
        for fuse in self.config.fuse:
            for draft in drafts:
                line = answered.get(draft.attempt)
                if draft.template.id != fuse.draft or not line or line["status"] != OK:
                    continue
                if text := read_draft(line["text_raw"], draft.template.text, line["finish_reason"]):
                    yield asker.ask(
                        draft.sample, draft.view, self.templates[fuse.template], draft.number,
                        draft=text, parent=draft.attempt,
                    )  # fmt: skip

    def _ask_missing(self, window: Sequence[Shown], answered: Answered, fresh: list[Line]) -> None:
        """Ask the captioner, then the rewriter about what the captioner wrote; fill `fresh`."""
        for model in (self.captioner, self.rewriter):
            missing = [
                (ask, shown.image)
                for shown in window
                for ask in self.asks(shown.sample, shown.view, answered)
                if bool(ask.parent) == (model is self.rewriter) and ask.attempt not in answered
            ]
            if model is not None and missing:
                known = len(fresh)
                self._answer(model, missing, fresh)
                _check_hope(fresh[known:], answered)
                answered.update({line["attempt"]: line for line in fresh[known:]})

    def _answer(
        self, model: Captioner, missing: Sequence[tuple[Ask, Image.Image]], fresh: list[Line]
    ) -> None:
        requests = [
            CaptionRequest(
                key=ask.sample.key, image=image, template=ask.template, alt=ask.sample.alt,
                draft=ask.draft, seed=ask.seed,
            )
            for ask, image in missing
        ]  # fmt: skip
        attempts: Mapping[int, CaptionAttempt] = {}
        try:
            attempts = dict(enumerate(model.caption(requests, self.config.sampling)))
            assert len(attempts) == len(missing), "a captioner answers every request"
        except CaptionerLost as error:
            attempts = error.answered
            raise
        finally:
            fresh += [
                make_line(missing[place][0], attempt, model.provenance)
                for place, attempt in sorted(attempts.items())
            ]

    def _measure(self, window: Sequence[Shown], answered: Answered) -> dict[str, Line]:
        """Measure attempts that have no scores of these models; give their lines."""
        due = {
            ask.attempt: shown.image
            for shown in window
            for ask in self.asks(shown.sample, shown.view, answered)
            if self.scorer.is_due(answered[ask.attempt])
        }
        lines = {attempt: answered[attempt] for attempt in due}
        self.scorer.score(list(lines.values()), list(due.values()))
        return lines


@functools.lru_cache(
    maxsize=4096
)  # a draft is looked at several times while a window is asked about
def read_draft(text_raw: str, instruction: str, finish_reason: str) -> str:
    """Give the clean text of a caption that is worth rewriting; "" for a refusal, a loop and so on.

    The rules are those of `judge` at their defaults: what a rewriter makes of a refusal is paid for
    and worth nothing.
    """
    judged = judge_text(text_raw, prompt=instruction, finish_reason=finish_reason)
    return judged.text if judged.status == OK else ""


def _share_seconds(fresh: Sequence[Line], seconds: float) -> None:
    """Share the time of a window among its new attempts, waiting for pictures included."""
    for line in fresh:
        line["seconds"] = round(seconds / len(fresh), 6)


_QUESTION = ("model", "model_digest", "processor_digest", "template_digest")


def _check_hope(lines: Sequence[Line], answered: Mapping[str, Line]) -> None:
    """Refuse to go on with a model that fails on everything it is asked.

    Args:
        lines: of a window.
        answered: before; a model that has answered one of its questions there is not broken.

    Raises:
        ModelError: with what it said first.
    """
    if any(line["status"] == OK for line in lines):
        return
    num_keys = len({line["key"] for line in lines})
    asked = {tuple(line[name] for name in _QUESTION) for line in lines}
    if num_keys < _HOPELESS or any(
        line["status"] == OK and tuple(line[name] for name in _QUESTION) in asked
        for line in answered.values()
    ):
        return
    raise ModelError(
        f"{lines[0]['model']}: must answer for some picture, got {lines[0]['text_raw']!r} for all "
        f"of {num_keys}; check the model or server and run again"
    )

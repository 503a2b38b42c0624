"""Make lessons of collected samples: which caption is asked for, and shown, in which epoch."""

from __future__ import annotations

from collections.abc import Sequence

from curate.captioners.captioner import CaptionRequest
from curate.captioners.instructions import Template
from curate.captioners.teaching import LabelledBatch, Teacher
from curate.core.seed import derive_seed
from pipelines.fitting.quality import Held
from pipelines.fitting.samples import FitSample, FitSamples
from train.captioning.order import Pick


class Lessons:
    """Hold samples and the teacher that turns them into labelled batches.

    Args:
        samples: collected; all their texts are accepted by the teacher.
        teacher: of the captioner that is fitted.
        template: what the captioner is asked.
        seed: of the choice among a sample's captions.
    """

    def __init__(
        self, samples: FitSamples, teacher: Teacher, template: Template, seed: int
    ) -> None:
        self._samples = samples
        self._teacher = teacher
        self._template = template
        self._seed = seed

    @property
    def keys(self) -> list[str]:
        """Give the keys of the samples to learn from."""
        return [sample.key for sample in self._samples.learnt]

    def prepare(self, picks: Sequence[Pick]) -> LabelledBatch:
        """Make the batch of some picks among the samples to learn from."""
        chosen = [(self._samples.learnt[pick.index], pick.epoch) for pick in picks]
        return self._teacher.encode(
            [self._ask(sample) for sample, _ in chosen],
            [self._answer(self._choose(sample, epoch)) for sample, epoch in chosen],
        )

    def held(self) -> list[Held]:
        """Give the held-out samples with all their captions."""
        return [
            Held(request=self._ask(sample), answers=[self._answer(t) for t in sample.texts])
            for sample in self._samples.heldout
        ]

    def _choose(self, sample: FitSample, epoch: int) -> str:
        draw = derive_seed(self._seed, "captioner caption", sample.key, epoch)
        return sample.texts[draw % len(sample.texts)]

    def _ask(self, sample: FitSample) -> CaptionRequest:
        image = self._samples.open_picture(sample)
        return CaptionRequest(key=sample.key, image=image, template=self._template, alt=sample.alt)

    def _answer(self, text: str) -> list[int]:
        return self._teacher.tokenize(text, self._template.max_new_tokens)

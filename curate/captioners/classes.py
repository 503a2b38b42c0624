"""Caption pictures by the names of ImageNet classes: what the offline pack has instead of a VLM.

Path of a picture: class probabilities -> the likely classes' names -> a fixed sentence; an unsure
classifier writes nothing. The sentences say what was recognised and nothing else: no number, no
place, no action, and most of what is in the world is not among the 1,000 classes. The backend's and
the model's name say "imagenet_classes", so that such captions can be told from a VLM's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from curate.captioners.captioner import CaptionAttempt, CaptionRequest, Provenance, Sampling
from curate.captioners.instructions import Template
from curate.core.errors import ModelError
from curate.models.efficientnet import load_efficientnet
from curate.models.imagenet import class_names
from curate.models.packs import ModelRef

# Most classes named by each style. Chosen by us: names past the third are nearly always wrong.
MAX_CLASSES: Mapping[str, int] = {"short": 1, "detailed": 3}
# Chosen by us: below this the best class is a guess, and no caption is written.
MIN_PROBABILITY = 0.3
# Chosen by us: a further class is named if it has this share of the best one's probability.
MIN_SHARE_OF_BEST = 0.2

_REMARK = re.compile(r"\s*(?:\([^)]*\)|/.*)$")  # "kite (bird of prey)", "shoji screen / divider"


class ClassCaptioner:
    """Write "a picture of a tabby cat" from an ImageNet classifier's probabilities."""

    def __init__(self, ref: ModelRef) -> None:
        """Load the classifier.

        Args:
            ref: kind "imagenet_classes"; its path is the folder of the EfficientNet package.
        """
        self._classifier = load_efficientnet(ref.paths[0])
        self._names = [_REMARK.sub("", name) for name in class_names()]
        self._provenance = Provenance(
            backend="imagenet_classes",
            model="imagenet-classes:efficientnet-lite0",
            model_digest=ref.digest,
            dtype="float32",
        )

    @property
    def provenance(self) -> Provenance:
        """Name the classifier."""
        return self._provenance

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        """Caption every picture; nothing is drawn, so the sampling does not matter.

        Raises:
            ModelError: a template's style is none of `MAX_CLASSES`.
        """
        check_templates([request.template for request in requests])
        if not requests:
            return []
        rows = self._classifier.probabilities([request.image for request in requests])  # [N, 1000]
        return [
            self._attempt(row, request.template.id)
            for row, request in zip(rows, requests, strict=True)
        ]

    def _attempt(self, probabilities: NDArray[np.float32], style: str) -> CaptionAttempt:
        found = find_classes(probabilities, MAX_CLASSES[style])
        best = float(probabilities[found[0]])
        is_sure = best >= MIN_PROBABILITY
        return CaptionAttempt(
            text_raw=write_sentence([self._names[index] for index in found]) if is_sure else "",
            prompt="",
            finish_reason="stop",
            mean_logprob=math.log(best),
        )


def check_templates(templates: Sequence[Template]) -> None:
    """Refuse a style that class names cannot follow.

    Raises:
        ModelError: names the styles that they can.
    """
    for template in templates:
        if template.id not in MAX_CLASSES:
            raise ModelError(
                f"captioner: imagenet_classes must be asked for one of the styles "
                f"{', '.join(MAX_CLASSES)}, got {template.name!r}; choose one of them or a VLM"
            )


def find_classes(probabilities: NDArray[np.float32], max_classes: int) -> list[int]:
    """Give the classes to name, the likeliest first; at least one.

    Args:
        probabilities: [1000], float32.
        max_classes: at most so many.
    """
    best = np.argsort(-probabilities, kind="stable")[:max_classes]
    floor = MIN_SHARE_OF_BEST * probabilities[best[0]]
    return [int(index) for index in best if probabilities[index] >= floor]


def write_sentence(names: Sequence[str]) -> str:
    """Write class names as a sentence.

    >>> write_sentence(["tabby cat", "Egyptian Mau", "lynx"])
    'a picture of a tabby cat, perhaps an Egyptian Mau or a lynx'
    """
    first, *others = (_with_article(name) for name in names)
    return f"a picture of {first}" + (f", perhaps {' or '.join(others)}" if others else "")


def _with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

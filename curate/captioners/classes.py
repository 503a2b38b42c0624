"""Caption pictures by the names of ImageNet classes: what the offline pack has instead of a VLM.

Path of a picture: class probabilities -> the likely classes' names -> a fixed sentence, judged by
the same rules as any caption. The sentences say what was recognised and nothing else: no number, no
place, no action, and most of what is in the world is not among the 1,000 classes. The template's id
and the model's name say "imagenet-classes", so that such captions can be told from a VLM's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.captioners.captioner import CaptionAttempt
from curate.captioners.instructions import Template, find_template
from curate.captioners.judge import judge_caption
from curate.models.efficientnet import load_efficientnet
from curate.models.imagenet import class_names
from curate.models.packs import ModelRef

# Most classes named by each style. Chosen by us: names past the third are nearly always wrong.
MAX_CLASSES: Mapping[str, int] = {"short": 1, "detailed": 3}
# Chosen by us: below this the best class is a guess, and the attempt is rejected as "unsure".
MIN_PROBABILITY = 0.3
# Chosen by us: a further class is named if it has this share of the best one's probability.
MIN_SHARE_OF_BEST = 0.2

_REMARK = re.compile(r"\s*(?:\([^)]*\)|/.*)$")  # "kite (bird of prey)", "shoji screen / divider"


class ClassCaptioner:
    """Write "a picture of a tabby cat" from an ImageNet classifier's probabilities."""

    name = "imagenet-classes:efficientnet-lite0"
    processor_digest = ""

    def __init__(self, ref: ModelRef) -> None:
        """Load the classifier.

        Args:
            ref: kind "imagenet_classes"; its path is the folder of the EfficientNet package.
        """
        self.model_digest = ref.digest
        self._classifier = load_efficientnet(ref.paths[0])
        self._names = [_REMARK.sub("", name) for name in class_names()]

    def caption(self, images: Sequence[Image.Image], styles: Sequence[str]) -> list[CaptionAttempt]:
        """Caption every picture in every style, image-major; RGB of any size."""
        templates = [find_template(style) for style in styles]
        rows = self._classifier.probabilities(images)  # [N, 1000]
        return [self._attempt(row, template) for row in rows for template in templates]

    def _attempt(self, probabilities: NDArray[np.float32], template: Template) -> CaptionAttempt:
        found = find_classes(probabilities, MAX_CLASSES[template.id])
        text_raw = write_sentence([self._names[index] for index in found])
        judgement = judge_caption(text_raw)
        is_sure = float(probabilities[found[0]]) >= MIN_PROBABILITY
        return CaptionAttempt(
            style=template.id,
            text_raw=text_raw,
            text=judgement.text,
            template=f"imagenet-classes-{template.name}",
            prompt="",
            sampling={"max_classes": MAX_CLASSES[template.id], "min_probability": MIN_PROBABILITY},
            finish_reason="stop",
            num_tokens=0,
            status=judgement.status if is_sure else "unsure",
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

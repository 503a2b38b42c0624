"""Name the 1,000 classes of ImageNet-1k (ILSVRC 2012) in the order of classifiers' outputs."""

from __future__ import annotations

NUM_CLASSES = 1000


def class_names() -> tuple[str, ...]:
    """Give the English class names, e.g. "tabby cat" for class 281.

    Source: open_clip's IMAGENET_CLASSNAMES, the names that OpenAI cleaned for zero-shot
    classification with CLIP (Radford et al. 2021, arXiv 2103.00020, section 3.1.4).
    """
    from open_clip import IMAGENET_CLASSNAMES

    names = tuple(IMAGENET_CLASSNAMES)
    assert len(names) == NUM_CLASSES, f"ImageNet-1k has {NUM_CLASSES} classes, got {len(names)}"
    return names

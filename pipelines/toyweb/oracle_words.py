"""Put a scene into words in every caption style, and say whether a claim about it is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from pipelines.toyweb.scene import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    place_phrase,
)

_NUMBERS = ("no", "one", "two", "three", "four")
# The longest first: "top" is in "top left".
_PLACE = re.compile("|".join(sorted(PLACES, key=len, reverse=True)))


def write_tags(objects: Sequence[SceneObject], background: str) -> str:
    """Write "red circle, blue square, white background"."""
    return ", ".join([*(f"{one.color} {one.shape}" for one in objects), f"{background} background"])


def write_short(objects: Sequence[SceneObject], background: str) -> str:
    """Write "a red circle and a blue square", as `scene.describe_short`."""
    if not objects:
        return "an empty background"
    return " and ".join(f"a {one.color} {one.shape}" for one in objects)


def write_medium(objects: Sequence[SceneObject], background: str) -> str:
    """Write "a red circle and a blue square on a white background"."""
    if not objects:
        return f"an empty {background} background"
    return f"{write_short(objects, background)} on a {background} background"


def write_detailed(objects: Sequence[SceneObject], background: str) -> str:
    """Write what `scene.parse_description` reads, the objects in the order given."""
    if not objects:
        return f"an empty {background} background"
    parts = [f"a {one.size} {one.color} {one.shape} {place_phrase(one.place)}" for one in objects]
    return f"{' and '.join(parts)} on a {background} background"


def write_answers(objects: Sequence[SceneObject], background: str) -> str:
    """Answer how many, what, which color and where, in sentences."""
    number = _NUMBERS[min(len(objects), 4)]
    verb, noun = ("is", "object") if len(objects) == 1 else ("are", "objects")
    sentences = [f"There {verb} {number} {noun} on a {background} background."]
    sentences += [
        f"A {one.size} {one.color} {one.shape} is {place_phrase(one.place)}." for one in objects
    ]
    return " ".join(sentences)


STYLES: Mapping[str, Callable[[Sequence[SceneObject], str], str]] = {
    "tags": write_tags,
    "short": write_short,
    "medium": write_medium,
    "detailed": write_detailed,
    "question": write_answers,
}
"""What says each style; others are said as "detailed"."""


def is_true(claim: str, scene: Scene) -> bool:
    """Tell whether an object of the scene has all that a claim says, and the background likewise.

    >>> from pipelines.toyweb.scene import parse_description
    >>> scene = parse_description("a small red circle at the top on a white background")
    >>> is_true("a red circle", scene), is_true("a red circle at the left", scene)
    (True, False)
    """
    words = " ".join(claim.lower().split())
    body, _, tail = words.rpartition(" on ") if "background" in words else (words, "", "")
    grounds = [name for name in BACKGROUNDS if re.search(rf"\b{name}\b", tail or words)]
    if "background" in words and grounds and scene.background not in grounds:
        return False
    wanted = {
        "shape": _named(body or words, SHAPES),
        "color": _named(body, COLORS),
        "size": _named(body, SIZES),
        "place": _PLACE.findall(body),
    }
    if not any(wanted.values()):
        return "background" in words
    return any(
        all(not names or getattr(item, field) in names for field, names in wanted.items())
        for item in scene.objects
    )


def _named(text: str, words: Sequence[str] | Mapping[str, object]) -> list[str]:
    return [word for word in words if re.search(rf"\b{word}s?\b", text)]

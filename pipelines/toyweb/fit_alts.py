"""Say what a toy scene shows in the many ways of the web, with a key that says when it is true.

A caption states a scene at one level of detail; `state_of` gives what that level states, so a text
written for one picture is true of another exactly when their statements are equal. Contrastive
training needs that: two pictures with "a red circle" are no negatives of each other.
The phrasings are wider than the demo's own alt texts, so that the demo is no test of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipelines.toyweb.alt_text import write_alt as write_site_alt
from pipelines.toyweb.scene import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    describe,
    describe_short,
    random_scene,
)

Level = Literal["short", "grounded", "sized", "placed", "detailed"]
LEVELS: tuple[Level, ...] = ("short", "grounded", "sized", "placed", "detailed")

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "circle", "disc", "dot", "ball"),
    "square": ("square", "square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "triangle", "pyramid"),
    "cross": ("cross", "cross", "cross", "plus", "plus sign"),
    "small": ("small", "small", "little", "tiny"),
    "large": ("large", "large", "big", "huge"),
    "gray": ("gray", "gray", "grey"),
    "purple": ("purple", "purple", "violet", "magenta"),
    "cyan": ("cyan", "cyan", "turquoise", "light blue"),
    "top": ("top", "top", "top center", "upper middle"),
    "bottom": ("bottom", "bottom", "bottom center", "lower middle"),
    "left": ("left", "left", "left side", "middle left"),
    "right": ("right", "right", "right side", "middle right"),
    "center": ("center", "center", "middle", "centre"),
    "top left": ("top left", "top left", "upper left", "top left corner"),
    "top right": ("top right", "top right", "upper right", "top right corner"),
    "bottom left": ("bottom left", "bottom left", "lower left", "bottom left corner"),
    "bottom right": ("bottom right", "bottom right", "lower right", "bottom right corner"),
}
OPENINGS = (
    "",
    "",
    "",
    "",
    "photo of ",
    "picture of ",
    "image of ",
    "an image of ",
    "a picture of ",
    "a drawing of ",
    "illustration of ",
    "clipart: ",
    "vector graphic of ",
    "this picture shows ",
    "we see ",
    "there is ",
    "geometric shapes: ",
    "abstract art with ",
)
ENDINGS = (
    "",
    "",
    "",
    "",
    "",
    ".",
    "!",
    " - stock photo",
    " | free download",
    ", vector illustration",
    " wallpaper",
    " (geometric art)",
    ", high quality",
    " clip art",
)
VAGUE = (
    "photo", "image", "picture", "untitled", "img", "download", "thumbnail", "logo", "banner",
    "click here", "view larger image", "my picture", "nice", "beautiful", "screenshot", "icon",
    "default", "placeholder", "image may contain shapes", "no description", "loading", "photo by",
    "all rights reserved", "home", "new", "gallery", "shapes", "art", "abstract", "design",
)  # fmt: skip
SPAM = (
    "buy", "cheap", "free", "sale", "discount", "best", "price", "online", "shop", "shipping",
    "deal", "deals", "offer", "now", "wallpaper", "hd", "4k", "download", "coupon", "new", "2024",
    "stock", "vector", "print", "poster", "shirt", "gift", "order", "store", "top", "low", "off",
    "click", "here", "today", "get", "your", "for", "the", "hot", "limited", "fast",
)  # fmt: skip
FOREIGN = (
    "ein", "eine", "der", "die", "das", "und", "mit", "auf", "roter", "kreis", "bild", "von", "un",
    "une", "le", "la", "et", "avec", "rouge", "cercle", "image", "de", "el", "una", "y", "con",
    "rojo", "circulo", "foto", "en", "il", "rosso", "cerchio", "su", "fondo", "sfondo",
    "hintergrund", "fond", "blanc", "bleu", "vert", "blau", "verde", "azul", "quadrat", "carre",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Alt:
    """Hold one text; `state` is what it states (see `state_of`), or None when it says nothing."""

    text: str
    state: str | None


def state_of(scene: Scene, level: Level) -> str:
    """Say what a level of detail states of a scene, independent of wording and order."""
    if level == "detailed":
        return f"detailed|{describe(scene)}"
    parts = sorted(" ".join(_attributes(item, level)) for item in scene.objects)
    if level == "grounded":
        parts.append(scene.background)
    return f"{level}|{'+'.join(parts)}"


def write_alt(scene: Scene, rng: np.random.Generator) -> Alt:
    """State a scene at a random level in random words, often in the exact house grammar."""
    level = LEVELS[rng.choice(len(LEVELS), p=(0.3, 0.1, 0.15, 0.1, 0.35))]
    state = state_of(scene, level)
    if level in ("short", "detailed") and rng.random() < 0.5:
        text = describe_short(scene) if level == "short" else describe(scene)
        return Alt(text=_dress(text, rng) if rng.random() < 0.5 else text, state=state)
    phrases = [_phrase(item, level, rng) for item in scene.objects]
    order = rng.permutation(len(phrases)) if rng.random() < 0.5 else range(len(phrases))
    glue = (" and ", " and ", ", ", ", and ", " next to ", "; ", " with ")
    text = glue[rng.integers(len(glue))].join(phrases[index] for index in order)
    if level in ("grounded", "detailed"):
        text += _background(scene.background, rng)
    return Alt(text=_dress(text, rng), state=state)


def write_hard_negative(scene: Scene, rng: np.random.Generator) -> Alt:
    """Write the text of a scene that differs in one attribute, or in two objects swapped."""
    items = list(scene.objects)
    index = int(rng.integers(len(items)))
    item = items[index]
    kind = rng.integers(5)
    if kind == 0 and len(items) > 1:
        other = (index + 1) % len(items)
        items[index] = replace(item, color=items[other].color)
        items[other] = replace(items[other], color=item.color)
    elif kind == 1:
        items[index] = replace(item, shape=SHAPES[rng.integers(len(SHAPES))])
    elif kind == 2:
        items[index] = replace(item, size=SIZES[rng.integers(len(SIZES))])
    elif kind == 3:
        free = [place for place in PLACES if place not in {other.place for other in items}]
        items[index] = replace(item, place=free[rng.integers(len(free))])
    else:
        items[index] = replace(item, color=tuple(COLORS)[rng.integers(len(COLORS))])
    items.sort(key=lambda other: PLACES.index(other.place))
    return write_alt(replace(scene, objects=tuple(items)), rng)


def write_noise(rng: np.random.Generator) -> Alt:
    """Write a text that is true of no picture: vague, spam, a file name, another language."""
    kind = rng.integers(5)
    if kind == 4:
        return Alt(text=write_site_alt("foreign", random_scene(rng), "fit", rng), state=None)
    if kind == 0:
        text = VAGUE[rng.integers(len(VAGUE))]
    elif kind == 1:
        stem = ("img", "dsc", "image", "photo", "screenshot", "pic")[rng.integers(6)]
        ending = ("", ".jpg", ".png", ".webp")[rng.integers(4)]
        text = f"{stem}_{rng.integers(1, 99999):04d}{ending}"
    elif kind == 2:
        text = _join(SPAM, rng)
    else:
        text = _join(FOREIGN, rng)
    return Alt(text=text, state=None)


def vocabulary() -> list[str]:
    """List all words the writers above use, the scene's grammar first."""
    grammar = (*SHAPES, *COLORS, *SIZES, *BACKGROUNDS, *(" ".join(PLACES)).split())
    grammar += ("a", "an", "and", "at", "in", "on", "the", "background", "empty")
    texts: Sequence[str] = (
        *(word for words in SYNONYMS.values() for word in words),
        *OPENINGS,
        *ENDINGS,
        *VAGUE,
        *SPAM,
        *FOREIGN,
        *_FUNCTION_WORDS,
    )
    words = [word for text in texts for word in "".join(_letters(text)).split()]
    signs = list("0123456789.,;:!?-_|()/'\"&%#@+*")
    return list(dict.fromkeys([*grammar, *words, *signs]))


_FUNCTION_WORDS = (
    "is", "of", "with", "next", "to", "beside", "by", "near", "this", "that", "these", "there",
    "are", "it", "its", "has", "have", "two", "three", "four", "one", "shape", "shapes", "object",
    "objects", "color", "colored", "coloured", "sized", "against", "over", "plain", "solid",
    "backdrop", "shows", "showing", "depicts", "containing", "contains", "placed", "located",
    "above", "below", "under", "between", "only", "corner", "side", "upper", "lower", "middle",
    "sample", "preview", "jpg", "jpeg", "png", "webp", "gif", "pic", "com", "www", "http", "html",
)  # fmt: skip


def _attributes(item: SceneObject, level: Level) -> list[str]:
    words = [item.color, item.shape]
    if level == "sized":
        words.insert(0, item.size)
    elif level == "placed":
        words.append(item.place)
    return words


def _phrase(item: SceneObject, level: Level, rng: np.random.Generator) -> str:
    article = ("a ", "a ", "the ", "one ", "")[rng.integers(5)]
    size = f"{_say(item.size, rng)} " if level in ("sized", "detailed") else ""
    text = f"{article}{size}{_say(item.color, rng)} {_say(item.shape, rng)}"
    if level in ("placed", "detailed"):
        prepositions = ("at the ", "in the ", "on the ", "at ", "in ")
        text += f" {prepositions[rng.integers(len(prepositions))]}{_say(item.place, rng)}"
    return text


def _background(name: str, rng: np.random.Generator) -> str:
    forms = (
        " on a {} background",
        " on {}",
        " against a {} background",
        ", {} background",
        " over a plain {} backdrop",
    )
    return forms[rng.integers(len(forms))].format(_say(name, rng))


def _say(word: str, rng: np.random.Generator) -> str:
    choices = SYNONYMS.get(word, (word,))
    return choices[rng.integers(len(choices))]


def _dress(text: str, rng: np.random.Generator) -> str:
    text = OPENINGS[rng.integers(len(OPENINGS))] + text + ENDINGS[rng.integers(len(ENDINGS))]
    draw = rng.random()
    return text.title() if draw < 0.1 else text.capitalize() if draw < 0.4 else text


def _join(words: Sequence[str], rng: np.random.Generator) -> str:
    chosen: list[int] = rng.integers(len(words), size=rng.integers(2, 12)).tolist()
    return " ".join(words[index] for index in chosen)


def _letters(text: str) -> list[str]:
    return [letter if letter.isalnum() else " " for letter in text.lower()]

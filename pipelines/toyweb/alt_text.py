"""Write the alt text that a web page has for a scene: some good, much vague, wrong or worse.

Every text has a class, which goes into the truth table; only `good` texts state the scene. Not for
training texts with hard negatives: see `fit_alts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np

from pipelines.toyweb.scene import (
    Scene,
    SceneObject,
    Split,
    describe,
    describe_short,
    random_split_scene,
)

AltClass = Literal["good", "vague", "mismatched", "spam", "foreign", "empty", "huge"]

# Chosen by us after what the field reports of alt text: about a third says nothing useful of its
# picture. `huge` is not drawn but planted, see `site.py`.
ALT_SHARES: Mapping[AltClass, float] = MappingProxyType(
    {
        "good": 0.64,
        "vague": 0.12,
        "mismatched": 0.08,
        "spam": 0.07,
        "foreign": 0.06,
        "empty": 0.03,
    }
)
HUGE_CHARACTERS = 100_000

_OPENINGS = ("photo of ", "picture of ", "image of ", "a drawing of ", "illustration of ", "")
_ENDINGS = (" - stock photo", " | free download", ", vector illustration", " clip art", ".", "")
_VAGUE = (
    "photo", "image", "picture", "untitled", "img", "download", "thumbnail", "logo", "banner",
    "click here", "view larger image", "my picture", "screenshot", "no description", "nice",
)  # fmt: skip
_SPAM = (
    "buy", "cheap", "free", "sale", "discount", "best", "price", "online", "shop", "shipping",
    "deal", "wallpaper", "hd", "4k", "download", "coupon", "new", "2024", "poster", "shirt",
    "gift", "order", "store", "click", "today", "limited", "hot", "offer",
)  # fmt: skip
_STEMS = ("IMG", "DSC", "image", "photo", "Screenshot", "pic")

# Shape, colour and background words of each language; sizes and places are left out.
# Escapes keep the source ASCII.
_LANGUAGES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "de": {
            "circle": "Kreis", "square": "Quadrat", "triangle": "Dreieck", "cross": "Kreuz",
            "red": "rot", "green": "gr\u00fcn", "blue": "blau", "yellow": "gelb", "purple": "lila",
            "cyan": "t\u00fcrkis", "white": "wei\u00dfem", "gray": "grauem", "black": "schwarzem",
            "phrase": "{shape} in {color}", "and": " und ", "on": " auf {} Hintergrund",
        },
        "fr": {
            "circle": "cercle", "square": "carr\u00e9", "triangle": "triangle", "cross": "croix",
            "red": "rouge", "green": "vert", "blue": "bleu", "yellow": "jaune",
            "purple": "violet", "cyan": "turquoise", "white": "blanc", "gray": "gris",
            "black": "noir", "phrase": "un {shape} {color}", "and": " et ", "on": " sur fond {}",
        },
        "es": {
            "circle": "c\u00edrculo", "square": "cuadrado", "triangle": "tri\u00e1ngulo",
            "cross": "cruz", "red": "rojo", "green": "verde", "blue": "azul",
            "yellow": "amarillo", "purple": "morado", "cyan": "cian", "white": "blanco",
            "gray": "gris", "black": "negro", "phrase": "un {shape} {color}", "and": " y ",
            "on": " sobre fondo {}",
        },
        "ru": {
            "circle": "\u043a\u0440\u0443\u0433",
            "square": "\u043a\u0432\u0430\u0434\u0440\u0430\u0442",
            "triangle": "\u0442\u0440\u0435\u0443\u0433\u043e\u043b\u044c\u043d\u0438\u043a",
            "cross": "\u043a\u0440\u0435\u0441\u0442",
            "red": "\u043a\u0440\u0430\u0441\u043d\u044b\u0439",
            "green": "\u0437\u0435\u043b\u0435\u043d\u044b\u0439",
            "blue": "\u0441\u0438\u043d\u0438\u0439",
            "yellow": "\u0436\u0435\u043b\u0442\u044b\u0439",
            "purple": "\u043b\u0438\u043b\u043e\u0432\u044b\u0439",
            "cyan": "\u0433\u043e\u043b\u0443\u0431\u043e\u0439",
            "white": "\u0431\u0435\u043b\u043e\u043c", "gray": "\u0441\u0435\u0440\u043e\u043c",
            "black": "\u0447\u0435\u0440\u043d\u043e\u043c",
            "phrase": "{color} {shape}", "and": " \u0438 ",
            "on": " \u043d\u0430 {} \u0444\u043e\u043d\u0435",
        },
        "zh": {
            "circle": "\u5706\u5f62", "square": "\u6b63\u65b9\u5f62",
            "triangle": "\u4e09\u89d2\u5f62", "cross": "\u5341\u5b57", "red": "\u7ea2\u8272",
            "green": "\u7eff\u8272", "blue": "\u84dd\u8272", "yellow": "\u9ec4\u8272",
            "purple": "\u7d2b\u8272", "cyan": "\u9752\u8272", "white": "\u767d\u8272",
            "gray": "\u7070\u8272", "black": "\u9ed1\u8272", "phrase": "{color}{shape}",
            "and": "\u548c", "on": "\uff0c{}\u80cc\u666f",
        },
    }
)  # fmt: skip


def draw_alt_class(rng: np.random.Generator) -> AltClass:
    """Draw a class by `ALT_SHARES`."""
    names = tuple(ALT_SHARES)
    return names[rng.choice(len(names), p=tuple(ALT_SHARES.values()))]


def write_alt(alt_class: AltClass, scene: Scene, split: Split, rng: np.random.Generator) -> str:
    """Write a text of one class for a scene; `split` is where a mismatched text's scene is from."""
    match alt_class:
        case "good":
            return _good(scene, rng)
        case "vague":
            return _vague(rng)
        case "mismatched":
            return _good(_other_scene(scene, split, rng), rng)
        case "spam":
            return " ".join(_pick_many(_SPAM, int(rng.integers(6, 24)), rng))
        case "foreign":
            return _foreign(scene, rng)
        case "empty":
            return ""
        case "huge":
            text = _good(scene, rng) + " "
            return (text * (HUGE_CHARACTERS // len(text) + 1))[:HUGE_CHARACTERS]


def _good(scene: Scene, rng: np.random.Generator) -> str:
    draw = rng.random()
    if draw < 0.35:
        return describe(scene)
    if draw < 0.6:
        return describe_short(scene)
    if draw < 0.75:
        body = ", ".join(f"{item.color} {item.shape}" for item in scene.objects)
    elif draw < 0.9:
        body = " and ".join(_sized(item, rng) for item in scene.objects)
    else:
        body = f"{describe_short(scene)} on {scene.background}"
    text = _pick(_OPENINGS, rng) + body + _pick(_ENDINGS, rng)
    return text.capitalize() if rng.random() < 0.4 else text


def _sized(item: SceneObject, rng: np.random.Generator) -> str:
    words = {"small": ("small", "little"), "large": ("large", "big")}[item.size]
    return f"a {_pick(words, rng)} {item.color} {item.shape}"


def _vague(rng: np.random.Generator) -> str:
    if rng.random() < 0.5:
        ending = _pick((".jpg", ".png", "", ".JPG"), rng)
        return f"{_pick(_STEMS, rng)}_{rng.integers(1, 9999):04d}{ending}"
    return _pick(_VAGUE, rng)


def _other_scene(scene: Scene, split: Split, rng: np.random.Generator) -> Scene:
    """Draw a scene that shares no coloured shape, so that even a short text of it is wrong."""
    shown = {(item.color, item.shape) for item in scene.objects}
    while True:
        other = random_split_scene(rng, split)
        if not shown & {(item.color, item.shape) for item in other.objects}:
            return other


def _foreign(scene: Scene, rng: np.random.Generator) -> str:
    words = _LANGUAGES[_pick(tuple(_LANGUAGES), rng)]
    parts = [
        words["phrase"].format(shape=words[item.shape], color=words[item.color])
        for item in scene.objects
    ]
    return words["and"].join(parts) + words["on"].format(words[scene.background])


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _pick_many(options: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    return [_pick(options, rng) for _ in range(count)]

"""Make the mistakes of captioners, knowingly: of the eye on a scene, of style on a text.

What a slip makes wrong is wrong in words that a scene's own description would use, so that only the
picture tells; what a fault spoils can be seen in the text alone, or in many texts together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from curate.captioners.captioner import FinishReason
from curate.core.errors import ModelError
from pipelines.toyweb.scene import COLORS, PLACES, SHAPES, SIZES, Scene, SceneObject

Slip = Literal["color", "place", "count", "object"]
Fault = Literal[
    "refusal", "boilerplate", "loop", "cut_off", "leak", "hedge", "markdown", "empty", "short",
    "language", "stock", "error",
]  # fmt: skip

SLIPS: tuple[Slip, ...] = get_args(Slip)
FAULTS: tuple[Fault, ...] = get_args(Fault)

_MAX_OBJECTS = 4  # of a toy scene; a fifth would give a hallucination away
_LOOPS = 24  # chosen by us: some 200 words, as many as a model writes up to its token limit
# German, Russian ("colourful shapes on a plain ground") and Chinese ("a picture of some shapes").
_FOREIGN = (
    "Ein Bild mit einigen bunten geometrischen Formen vor einem einfarbigen Hintergrund.",
    "\u0420\u0430\u0437\u043d\u043e\u0446\u0432\u0435\u0442\u043d\u044b\u0435 "
    "\u0444\u0438\u0433\u0443\u0440\u044b \u043d\u0430 "
    "\u043e\u0434\u043d\u043e\u0442\u043e\u043d\u043d\u043e\u043c "
    "\u0444\u043e\u043d\u0435.",
    "\u4e00\u5f20\u6709\u51e0\u4e2a\u5f69\u8272\u56fe\u5f62\u7684\u56fe\u7247\u3002",
)
_REFUSALS = (
    "I'm sorry, but I can't help with describing this image.",
    "I cannot describe this picture.",
    "As an AI language model, I am not able to see images.",
    "Unfortunately, I am unable to provide a description of this image.",
)
_OPENINGS = (
    "The image shows ", "This image features ", "In this picture, there is ",
    "Here is a description of the image: ",
)  # fmt: skip
_LEAKS = (
    "{text}<|im_end|>", "ASSISTANT: {text}", "{text} </s> [INST] Describe this image. [/INST]",
    "<image> {text}",
)  # fmt: skip
_STOCK = "A colorful picture with several simple shapes, made for children to look at."


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSettings:
    """Set how often the oracle captioner is wrong; nothing is by default.

    Args:
        seed: of all draws.
        slips: how often an eye's mistake is in a caption, by kind, in [0, 1]: a wrong `color`, a
            wrong `place`, `count` (an object is left out), `object` (one is added).
        faults: how often a caption has a fault of style, by kind; at most one each, so their sum
            is at most 1.
    """

    seed: int = 0
    slips: Mapping[Slip, float] = field(default_factory=dict[Slip, float])
    faults: Mapping[Fault, float] = field(default_factory=dict[Fault, float])

    def __post_init__(self) -> None:
        for name, shares, known in (
            ("slips", self.slips, SLIPS),
            ("faults", self.faults, FAULTS),
        ):
            unknown = sorted(set(shares) - set(known))
            if unknown or any(not 0 <= share <= 1 for share in shares.values()):
                raise ModelError(
                    f"{name}: must give {', '.join(known)} shares in [0, 1], got {dict(shares)}; "
                    "fix them"
                )
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ModelError(
                f"faults: must sum to at most 1, got {sum(self.faults.values()):g}; lower them"
            )


def make_slips(
    scene: Scene, shares: Mapping[Slip, float], rng: np.random.Generator
) -> tuple[Scene, tuple[Slip, ...]]:
    """See a scene wrongly.

    Args:
        scene: what is there.
        shares: how often each kind of slip is made.
        rng: of this caption; as many draws are made whatever the shares.

    Returns:
        What is seen, and the slips that were made; one that the scene has no room for is not.
    """
    made: list[Slip] = []
    for kind, draw in zip(SLIPS, rng.random(len(SLIPS)), strict=True):
        own = np.random.Generator(np.random.Philox(key=int(rng.integers(2**63))))
        wrong = _make_slip(scene, kind, own) if draw < shares.get(kind, 0.0) else scene
        if wrong != scene:
            made.append(kind)
            scene = wrong
    return scene, tuple(made)


def draw_fault(shares: Mapping[Fault, float], rng: np.random.Generator) -> Fault | None:
    """Draw at most one fault of style."""
    rest = float(rng.random())
    for kind in FAULTS:
        rest -= shares.get(kind, 0.0)
        if rest < 0:
            return kind
    return None


def spoil(text: str, fault: Fault | None, rng: np.random.Generator) -> tuple[str, FinishReason]:
    """Spoil a good caption; give it with the reason why the model stopped."""
    match fault:
        case None:
            return text, "stop"
        case "refusal":
            return _pick(_REFUSALS, rng), "stop"
        case "boilerplate":
            return _pick(_OPENINGS, rng) + text, "stop"
        case "loop":
            return " and ".join([text] * _LOOPS), "length"
        case "cut_off":
            return text[: max(8, round(len(text) * rng.uniform(0.4, 0.8)))], "length"
        case "leak":
            return _pick(_LEAKS, rng).replace("{text}", text), "stop"
        case "hedge":
            return (
                f"It appears to be {text}, possibly, or perhaps it might be something else",
                "stop",
            )
        case "markdown":
            return (
                f"## Description\n\n**{text}**\n\n- shapes: see https://example.org/shapes",
                "stop",
            )
        case "empty":
            return "", "stop"
        case "short":
            return "shapes", "stop"
        case "language":
            return _pick(_FOREIGN, rng), "stop"
        case "stock":
            return _STOCK, "stop"
        case "error":
            return "OracleError: made to fail", "error"


def _make_slip(scene: Scene, kind: Slip, rng: np.random.Generator) -> Scene:
    """Make one slip, or give the scene as it is where there is no room for it."""
    objects = list(scene.objects)
    free = [place for place in PLACES if place not in {item.place for item in objects}]
    if kind == "object":
        if len(objects) < _MAX_OBJECTS:
            objects.append(_random_object(_pick(free, rng), rng))
    elif not objects:
        return scene
    elif kind == "count":
        if len(objects) > 1:
            del objects[int(rng.integers(len(objects)))]
    else:
        at = int(rng.integers(len(objects)))
        if kind == "color":
            others = [color for color in COLORS if color != objects[at].color]
            objects[at] = replace(objects[at], color=_pick(others, rng))
        else:
            objects[at] = replace(objects[at], place=_pick(free, rng))
    return replace(scene, objects=tuple(sorted(objects, key=lambda one: PLACES.index(one.place))))


def _random_object(place: str, rng: np.random.Generator) -> SceneObject:
    return SceneObject(
        shape=_pick(SHAPES, rng),
        color=_pick(tuple(COLORS), rng),
        size=_pick(SIZES, rng),
        place=place,
    )


def _pick(choices: tuple[str, ...] | list[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]

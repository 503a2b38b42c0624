"""Make captions whose faults are known: good ones of every kind, and bad ones, fault by fault.

seed -> good captions (toy scenes in every style, paragraphs, signs, other scripts)
     -> bad captions, each a good one spoilt by one fault
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.core.seed import make_rng
from pipelines.toyweb.oracle_words import STYLES
from pipelines.toyweb.scene import random_scene

Rng = np.random.Generator

INSTRUCTION = "Describe this image in detail."


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Hold a caption and what is wrong with it.

    Args:
        text: as a model wrote it.
        fault: the reason that it must be rejected for; "" if it must be accepted.
        finish_reason: as captioners give it.
        prompt: the instruction.
    """

    text: str
    fault: str = ""
    finish_reason: str = "stop"
    prompt: str = INSTRUCTION


# What only looks like a fault: signs that apologise, lists, repeats, names in other scripts.
TRAPS = (
    "Sorry, we are closed: a sign hangs on the door of a shop.",
    "A sign that reads sorry, closed.",
    '"Sorry, closed" is written on a paper sign in the window.',
    "I'm Sorry, I Love You, a Korean drama poster with two people in the snow",
    "I can't help falling in love: a record sleeve with a singer in a white suit",
    "I cannot live without books, a quote on a wooden board",
    "Unfortunately for the fisherman, the net is empty.",
    "I am not able to fly, says the penguin in this cartoon.",
    "No image of Elvis is as famous as this one in a golden jacket.",
    "As an AI robot with a human face looks out of the window, a woman types on a laptop.",
    "An AI language model drawn as a friendly robot with a book",
    "There is no one on the beach, only footprints in the sand.",
    "Please provide a receipt, says a note taped to a cash register.",
    "The image of a lion is carved into a brown stone.",
    "It seems a storm is coming over the sea, with dark clouds.",
    "My training plan for a marathon, a handwritten calendar on a fridge",
    "Our policy is no shoes inside, written on a doormat",
    "This request stop button on a bus is red and round.",
    "Apologies in advance, a greeting card with a dog that has chewed a shoe",
    "User interface of a phone: a list of songs with a play button",
    "A screenshot of a login form with the fields user: and password:",
    "A scoreboard that reads HOME 3 GUEST 2",
    "1. FC Koeln fans wave red and white flags",
    "A clock that reads 12:45 above a door",
    "Two dogs, two cats, two birds, two fish and two mice on a shelf",
    "A red chair, a blue chair, a red chair and a blue chair in a row",
    "A road sign in Japan that reads \u6b62\u307e\u308c in white letters on red",
    'A neon sign that reads "\u5496\u5561" above a door',
    "A t-shirt with the text I <3 NY in black and red",
    "A formula E = mc^2 on a blackboard",
    "A hashtag #love painted on a wall in pink",
    "A keyboard with keys [Ctrl], [Alt] and [Del] in close view",
    "A mug that says World's Best Dad* with a small star",
    "A very, very, very long dachshund on a skateboard",
    "New York, New York, the city skyline at night",
    "Knock knock knock: a cartoon fist at a door",
    "A sign reads NO NO NO above a closed pool",
    "A man who appears to be a chef stirs a pot. Behind him is what looks like an oven.",
    "dog, sofa, window, rain, indoor, cozy",
    "Der Hund schl\u00e4ft auf dem Sofa neben einer Katze.",
    "Un chat noir dort sur un canap\u00e9 rouge pr\u00e8s de la fen\u00eatre.",
    "\u4e00\u53ea\u68d5\u8272\u7684\u72d7\u8eba\u5728\u7eff\u8272\u7684\u6c99\u53d1\u4e0a\u3002",
    "\u5915\u66ae\u308c\u306e\u6d77\u5cb8\u3092\u6b69\u304f\u4e8c\u4eba\u306e\u5f8c\u308d\u59ff\u3002",
    "\u0427\u0435\u0440\u043d\u0430\u044f \u043a\u043e\u0448\u043a\u0430 "
    "\u0441\u0438\u0434\u0438\u0442 \u043d\u0430 "
    "\u043f\u043e\u0434\u043e\u043a\u043e\u043d\u043d\u0438\u043a\u0435.",
)

# Refusals as models and tools have them, most of them seen in public repositories.
REFUSALS = (
    "Sorry, I can't help with describing the content of this image.",
    "I'm unable to provide a description of this image as it contains a person.",
    "Please provide me with the image you would like me to describe.",
    "I apologize, but that's not something I can help with.",
    "My apologies, but I must decline.",
    "I am a text-based AI and cannot interpret medical images.",
    "I cannot help with that. It goes against my guidelines.",
    "As an AI assistant, I'm not able to help with this.",
    "I won't provide assistance with that topic.",
    "This request is against my safety guidelines and I must refuse.",
    "I'm sorry, but I can't identify people in images.",
    "I can't help identifying or describing people in this image.",
    "Sorry, I cannot provide a caption for this image.",
    "I'm not able to see images, but if you describe it I can help.",
    "I'm just an AI, I can't see pictures.",
    "Unable to process the image.",
    "I don't have the capability to view images.",
    "It seems like you haven't uploaded an image.",
    "No image was provided.",
    "I'd be happy to help, but I don't see an image. Please upload it.",
    "The image you provided is not visible to me.",
    "Je suis d\u00e9sol\u00e9, mais je ne peux pas d\u00e9crire cette image.",
    "Lo siento, pero no puedo describir esta imagen.",
    "Es tut mir leid, aber ich kann dieses Bild nicht beschreiben.",
    "\u62b1\u6b49\uff0c\u6211\u4e0d\u80fd\u534f\u52a9\u5904\u7406\u8fd9\u7c7b\u8bf7\u6c42\u3002",
    "\u7533\u3057\u8a33\u3042\u308a\u307e\u305b\u3093\u304c\u3001\u3053\u306e\u753b\u50cf\u3092"
    "\u8aac\u660e\u3059\u308b\u3053\u3068\u306f\u3067\u304d\u307e\u305b\u3093\u3002",
)
_APOLOGIES = (
    "",
    "I'm sorry, but ",
    "Sorry, but ",
    "I apologize, but ",
    "Unfortunately, ",
    "I\u2019m sorry, ",
)
_CANNOT = (
    "I cannot", "I can't", "I am unable to", "I'm not able to", "I am not allowed to", "I won't",
    "I couldn't", "I can\u2019t", "I'm really not able to", "I simply cannot",
)  # fmt: skip
_DO = (
    "describe this image", "provide a caption for the picture", "identify the person in the photo",
    "assist with that request", "help you with this image", "analyze the content of this picture",
    "see any image in your message", "fulfill this request",
    "view images", "generate a description",
)  # fmt: skip
_TOKENS = (
    "{}<|im_end|>", "{}<|endoftext|>", "<s>{}</s>", "{} [/INST]", "<image>{}",
    "{}<end_of_utterance>",
    "<start_of_turn>model {}", "{}<0x0A>", "<think>{}", "[INST] {}",
    "USER: what is it?\nASSISTANT: {}", "Assistant: {}", "{}\n\nUser: And now?", "### Response: {}",
    "{{{{caption}}}} {}", "{} {{caption}}", "[Insert description here] {}",
    '{{"caption": "{}"}}', "```\n{}\n```", "**Description** {}", "# Caption\n{}",
    "- {}\n- and more of it",
    "1. {}\n2. and so on", "[{}](https://example.org/a.jpg)", "{} See https://example.org/a.jpg",
    "{} www.example.org has more", "<p>{}</p>", "{}<br>",
    "Describe this image in detail. {}", "{} &nbsp;",
)  # fmt: skip
_HEDGED = (
    "It appears to be {}, possibly, or perhaps it might be something else",
    "It seems to be {}, but it could be something else, and it is hard to tell",
    "There is probably {}, maybe, although it is unclear",
    "I think it may be {}, or possibly some kind of toy",
    "What appears to be {}, likely or perhaps not",
)
_CHINESE = ("\u84dd\u8272\u7684", "\u4e00\u4e2a\u7ea2\u8272", "\u56fe\u5f62\u5728\u5de6\u8fb9")
_SUBJECTS = (
    "a brown dog",
    "an old man",
    "two children",
    "a street musician",
    "a white horse",
    "a cyclist",
)
_VERBS = (
    "stands near",
    "walks past",
    "sits beside",
    "looks at",
    "waits behind",
    "plays in front of",
)
_THINGS = (
    "a stone bridge",
    "a market stall",
    "the harbor wall",
    "an empty cafe",
    "a field of wheat",
)
_DETAILS = (
    "The light is soft and comes from the left.", "A few clouds hang over the hills.",
    "Long shadows fall across the ground.", "In the background, houses with red roofs can be seen.",
    "The colors are muted, mostly greens and browns.", "A sign above the door reads \"OPEN\".",
    "Its surface is wet from the rain.", "To the right, a bicycle leans against a fence.",
    "Several people in coats pass by without looking.", "The mood of the picture is calm.",
)  # fmt: skip


def make_good(rng: Rng) -> str:
    """Write a caption that must be accepted."""
    kind = int(rng.integers(3))
    if kind == 0:
        return _pick(TRAPS, rng)
    if kind == 1:
        scene = random_scene(rng)
        return STYLES[_pick(tuple(STYLES), rng)](scene.objects, scene.background)
    opening = f"{_pick(_SUBJECTS, rng)} {_pick(_VERBS, rng)} {_pick(_THINGS, rng)}."
    details = rng.permutation(np.array(_DETAILS))[: int(rng.integers(0, 9))]
    return " ".join([opening[0].upper() + opening[1:], *details.tolist()])


def _refuse(text: str, rng: Rng) -> str:
    if rng.random() < 0.5:
        return _pick(REFUSALS, rng)
    apology, cannot = _pick(_APOLOGIES, rng), _pick(_CANNOT, rng)
    return f"{apology}{cannot} {_pick(_DO, rng)}." + ("" if rng.random() < 0.5 else f" {text}")


def _loop(text: str, rng: Rng) -> str:
    """Let a text go round: a word, a phrase or a sentence, alone or behind a good start."""
    words = text.split()
    length = min(len(words), int(rng.integers(1, 15)))
    start = int(rng.integers(len(words) - length + 1))
    rounds = int(rng.integers(12, 40) if length < 3 else rng.integers(5, 20))
    body = " ".join([" ".join(words[start : start + length])] * rounds)
    return body if rng.random() < 0.5 else f"{text} {body}"


def _mix(text: str, rng: Rng) -> str:
    words = _english(rng).split()
    for _ in range(3):
        words.insert(int(rng.integers(1, len(words))), _pick(_CHINESE, rng))
    return " ".join(words)


def _english(rng: Rng) -> str:
    return f"{_pick(_SUBJECTS, rng)} {_pick(_VERBS, rng)} {_pick(_THINGS, rng)}"


SPOIL: Mapping[str, Callable[[str, Rng], str]] = {
    "empty": lambda text, rng: _pick(("", " \n", "The image shows", "Description:", '""'), rng),
    "refusal": _refuse,
    "leak": lambda text, rng: _pick(_TOKENS, rng).format(_english(rng)),
    "garbled": lambda text, rng: "".join(rng.choice(list("!#$%&*0123456789?=/\\.,- "), 40)) + "!",
    "repetition": _loop,
    "cut_off": lambda text, rng: text[: max(8, int(len(text) * rng.uniform(0.3, 0.9)))],
    "too_short": lambda text, rng: _pick(("dog", "a cat", "red shape", "photo"), rng),
    "too_long": lambda text, rng: " ".join(_english(rng) for _ in range(60)),
    "hedging": lambda text, rng: _pick(_HEDGED, rng).format(_english(rng)),
    "script": _mix,
}
"""What spoils a good caption, by the rule that must see it."""


def plant(num_good: int, num_bad: int, seed: int = 0) -> Iterator[Planted]:
    """Yield good captions, then so many bad ones of each fault."""
    for number in range(num_good):
        yield Planted(text=make_good(make_rng(seed, "good", number)))
    for fault, spoil in SPOIL.items():
        for number in range(num_bad):
            rng = make_rng(seed, fault, number)
            text = spoil(make_good(rng), rng)
            ended = "length" if fault in ("cut_off",) else "stop"
            yield Planted(text=text, fault=fault, finish_reason=ended)


def _pick(choices: Sequence[str], rng: Rng) -> str:
    return choices[int(rng.integers(len(choices)))]

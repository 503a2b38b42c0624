"""Say how each family of transformers' vision-language models wants to be asked; torch-free.

A family without a line in `FAMILIES` is a chat model: decoder-only, with a chat template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from curate.captioners.instructions import Template
from curate.core.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Say how one model type wants to be asked.

    Args:
        padding_side: "left" where the answer continues the prompt: padding between the two shifts
            the logits (by 1.8 to 4.7 in random tiny models; at most 2e-6 on the right side).
        prompt: "chat" renders the processor's chat template, "task" sends the words of `tasks`,
            "none" sends the picture alone.
        tasks: style -> what is sent, where `prompt` is not "chat"; other styles cannot be followed.
        max_pixels_key: the entry of the image processor's `size` that bounds a picture's area, of
            families whose picture tokens grow with it; "" where the processor fixes the size.
    """

    padding_side: Literal["left", "right"] = "left"
    prompt: Literal["chat", "task", "none"] = "chat"
    tasks: Mapping[str, str] = field(default_factory=dict[str, str])
    max_pixels_key: str = ""


CHAT = Family()
CHAT_BY_AREA = Family(max_pixels_key="longest_edge")  # an area in spite of its name
# Trained on COCO captions: one short sentence, whatever is asked.
PICTURE_ALONE = Family(padding_side="right", prompt="none", tasks={"short": ""})

# Padding sides: measured on tiny random checkpoints of each class (tests/captioners/tiny_vlms.py).
FAMILIES: Mapping[str, Family] = {
    "blip": PICTURE_ALONE,
    "git": PICTURE_ALONE,
    "llava": CHAT,
    "idefics3": CHAT,
    "smolvlm": CHAT,
    "qwen2_vl": CHAT_BY_AREA,
    "qwen2_5_vl": CHAT_BY_AREA,
    "qwen3_vl": CHAT_BY_AREA,
    "qwen3_vl_moe": CHAT_BY_AREA,
    # Source: the model card of microsoft/Florence-2-large; "brief", "detailed", "very detailed".
    "florence2": Family(
        padding_side="right",
        prompt="task",
        tasks={
            "short": "<CAPTION>",
            "medium": "<DETAILED_CAPTION>",
            "detailed": "<MORE_DETAILED_CAPTION>",
        },
    ),
    # Source: ai.google.dev/gemma/docs/paligemma/prompt-system-instructions: "caption" is COCO-like,
    # "describe" somewhat longer, and there is nothing between them.
    "paligemma": Family(
        prompt="task", tasks={"short": "<image>caption en", "detailed": "<image>describe en"}
    ),
}


def find_family(model_type: str) -> Family:
    """Give the family of a model type; a chat model if it has no line."""
    return FAMILIES.get(model_type, CHAT)


def read_model_type(folder: Path) -> str:
    """Read what `config.json` says; "" if there is none.

    Raises:
        ModelError: the file is no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        return ""
    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{file}: must be JSON, got {str(error)[:80]}; fetch the model again"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(
            f"{file}: must be a JSON object, got {type(config).__name__}; fetch the model again"
        )
    return str(cast("dict[str, Any]", config).get("model_type", ""))


def check_templates(model_type: str, templates: Sequence[Template]) -> None:
    """Refuse a style that the family cannot follow.

    Raises:
        ModelError: names the styles that it can.
    """
    family = find_family(model_type)
    if family.prompt == "chat":
        return
    for template in templates:
        if template.id not in family.tasks or template.uses_alt or template.uses_draft:
            known = ", ".join(family.tasks)
            raise ModelError(
                f"captioner: {model_type} models must be asked for one of the styles {known}, "
                f"got {template.name!r}; choose one of them or a chat model"
            )

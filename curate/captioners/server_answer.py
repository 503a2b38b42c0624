"""Read a chat server's answer: bytes that may be anything -> text, finish reason, usage.

What is not a chat completion is named in the message and never guessed at. A refusal in OpenAI's
own field is a text like any other: whether it is one is the stage judge's to say.

Source: OpenAI's API reference, "The chat completion object", and what vLLM, SGLang, llama.cpp and
`transformers serve` leave out of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, cast

from curate.captioners.server_faults import TWICE, ServerFault, excerpt

AnswerEnd = Literal["stop", "length", "content_filter"]
_ENDS: Mapping[str, AnswerEnd] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}
_MAX_COUNT = 2**31 - 1  # the table's columns are int32


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """Hold what a server answered.

    Args:
        text: of its first choice.
        finish_reason: why it ended.
        num_prompt_tokens: as the server counts them; 0 if it does not say.
        num_visual_tokens: likewise.
        num_tokens: written, likewise.
        mean_logprob: of the tokens written; None if it does not say.
        model: that answered, as the server calls it.
        answer_id: the server's name of this answer.
    """

    text: str
    finish_reason: AnswerEnd
    num_prompt_tokens: int = 0
    num_visual_tokens: int = 0
    num_tokens: int = 0
    mean_logprob: float | None = None
    model: str = ""
    answer_id: str = ""


def read_answer(body: bytes) -> ServerAnswer:
    """Read the body of an answer with status 200.

    Raises:
        ServerFault: it is no chat completion; what was seen instead.
    """
    answer = _parse(body)
    choice = _first_choice(answer)
    message = _mapping(choice.get("message"))
    reason = choice.get("finish_reason")
    text = _read_text(message)
    if text is None:
        raise ServerFault(f"an answer without text (finish_reason {_show(reason)})")
    end = _ENDS.get(reason) if isinstance(reason, str) else None
    if end is None:
        raise ServerFault(f"finish_reason {_show(reason)}, after {_show(text)}")
    usage = _mapping(answer.get("usage"))
    details = _mapping(usage.get("prompt_tokens_details"))
    return ServerAnswer(
        text=text,
        finish_reason=end,
        num_prompt_tokens=_count(usage.get("prompt_tokens")),
        num_visual_tokens=_count(details.get("image_tokens")),
        num_tokens=_count(usage.get("completion_tokens")),
        mean_logprob=_mean_logprob(_mapping(choice.get("logprobs")).get("content")),
        model=_name(answer.get("model")),
        answer_id=_name(answer.get("id")),
    )


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        seen = excerpt(body[:400].decode("utf-8", "replace"), 80)
        raise ServerFault(f"an answer that is no JSON: {seen!r}", max_tries=TWICE) from error
    if not isinstance(answer, dict):
        raise ServerFault(f"JSON that is no object: {_show(answer)}")
    return cast("Mapping[str, Any]", answer)


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list):
        # Some servers report errors with status 200.
        seen = answer.get("error", sorted(answer)[:8])
        raise ServerFault(f"an answer without choices: {_show(seen)}")
    if not choices:
        raise ServerFault("an answer with no choice in it")
    return _mapping(cast("list[Any]", choices)[0])


def _read_text(message: Mapping[str, Any]) -> str | None:
    """Find the text: a string, a list of parts, or a refusal; None if there is none."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [_mapping(part).get("text") for part in cast("list[Any]", content)]
        content = "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, str):
        return content
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else None


def _mean_logprob(tokens: object) -> float | None:
    """Average over the tokens written; None if any of them has none."""
    if not isinstance(tokens, list) or not tokens:
        return None
    values = [_mapping(token).get("logprob") for token in cast("list[Any]", tokens)]
    numbers = [value for value in values if _is_number(value)]
    return math.fsum(numbers) / len(numbers) if len(numbers) == len(values) else None


def _is_number(value: object) -> TypeGuard[float]:
    """Tell finite numbers from what JSON may hold in their place; a probability of 0 is -9999."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _count(value: object) -> int:
    """Read a number of tokens; 0 for what cannot be one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 <= value <= _MAX_COUNT else 0


def _name(value: object) -> str:
    return excerpt(value) if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _show(value: object) -> str:
    """Spell a foreign value in a message, shortly."""
    if not isinstance(value, str):
        try:
            value = json.dumps(value)
        except RecursionError:
            return "deeply nested JSON"
    return excerpt(value, 120) or "''"

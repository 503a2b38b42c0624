"""Write what a chat server is asked: a picture as a data URL, the instruction, how to sample.

The picture comes first, as in the local captioner's prompts. Only fields that every server knows
are sent; others (a vendor's dialect, probabilities, extras) where they are asked for.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

from PIL import Image

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.foreign_text import disarm
from curate.core.errors import ModelError
from curate.core.image import encode_image, shrink
from curate.models.server_settings import Dialect, ServerSettings

# llama.cpp takes 32 bits and means "by chance" by all ones, vLLM 63: 31 fit everywhere.
_SEEDS = 2**31
# Chosen by us: a photograph of a megapixel takes 62 ms and 1.37 MB, at zlib's own 6 it takes 332 ms
# and 1.21 MB; the picture lives for one request on a local wire.
_PNG_LEVEL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPicture:
    """Hold a picture as it is sent: base64 of its file, and the size it has there, in pixels."""

    url: str
    height: int
    width: int


def write_picture(image: Image.Image, settings: ServerSettings) -> SentPicture:
    """Spell a picture as text, made smaller first where the settings say so.

    Source: RFC 2397, the data URL.
    """
    sent = shrink(image, settings.max_side) if settings.max_side else image
    data = _encode(sent, settings)
    url = f"data:image/{settings.image_format};base64,{base64.b64encode(data).decode()}"
    return SentPicture(url=url, height=sent.height, width=sent.width)


def _encode(image: Image.Image, settings: ServerSettings) -> bytes:
    if settings.image_format == "jpeg":
        return encode_image(image, "jpeg", settings.jpeg_quality)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=_PNG_LEVEL)
    return stream.getvalue()


def write_prompt(request: CaptionRequest) -> str:
    """Write the instruction, with alt text and draft disarmed; the server renders it."""
    return request.template.fill(alt=disarm(request.alt), draft=disarm(request.draft))


def write_body(
    request: CaptionRequest,
    prompt: str,
    sampling: Sampling,
    settings: ServerSettings,
    picture: SentPicture | None,
) -> bytes:
    """Spell a request as JSON; without a picture the instruction is all of the message."""
    content: Any = prompt
    if picture is not None:
        content = [
            {"type": "image_url", "image_url": {"url": picture.url}},
            {"type": "text", "text": prompt},
        ]
    fields = {
        "model": settings.model,
        "messages": [{"role": "user", "content": content}],
        settings.max_tokens_name: request.template.max_new_tokens,
        **_sampling_fields(sampling, settings, request.seed),
        **({"logprobs": True} if settings.logprobs else {}),
        **settings.extra_fields,
    }
    return json.dumps(fields).encode()


def check_sampling(sampling: Sampling, settings: ServerSettings) -> None:
    """Refuse what the server would be sent in words that it does not know.

    Raises:
        ModelError: a repetition penalty in OpenAI's own dialect.
    """
    if sampling.repetition_penalty != 1 and settings.dialect == "openai":
        raise ModelError(
            "captioner.dialect: must be vllm or llama.cpp for recaption.sampling."
            f"repetition_penalty, got openai, which has none, and {sampling.repetition_penalty}; "
            "set the server's dialect in the pack"
        )


def _sampling_fields(sampling: Sampling, settings: ServerSettings, seed: int) -> dict[str, float]:
    fields: dict[str, float] = {"temperature": sampling.temperature}
    if sampling.temperature > 0:
        fields |= {"top_p": sampling.top_p, "seed": seed % _SEEDS}
    if sampling.presence_penalty != 0:
        fields["presence_penalty"] = sampling.presence_penalty
    return fields | _vendor_fields(sampling.repetition_penalty, settings.dialect)


def _vendor_fields(repetition_penalty: float, dialect: Dialect) -> dict[str, float]:
    """Spell what a server would else take from defaults: penalty, and cuts beside top-p.

    Source: the sampling parameters of vLLM's and llama.cpp's server; -1 and 0 cut nothing.
    """
    match dialect:
        case "openai":
            return {}
        case "vllm":
            return {"repetition_penalty": repetition_penalty, "top_k": -1, "min_p": 0.0}
        case "llama.cpp":
            return {"repeat_penalty": repetition_penalty, "top_k": 0, "min_p": 0.0}

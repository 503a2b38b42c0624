"""Caption with a transformers vision-language model from a local folder, batched and greedy.

Any class behind `AutoModelForImageTextToText` works: decoder-only chat models (LLaVA, Idefics3,
SmolVLM, Qwen-VL), encoder-decoders (Florence-2) and caption-only models (BLIP, GIT). What differs
between them is in `FAMILIES`; everything else is asked of the processor and the config.

Path of a batch: pictures + rendered prompt -> processor -> every key it returns -> generate ->
prompt sliced off -> end token found (finish reason) -> decoded -> judged by rules.

Nothing is fetched and no code of the folder runs: local files, safetensors, no remote code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from curate.captioners.captioner import CaptionAttempt, FinishReason, SamplingValue
from curate.captioners.instructions import Template, find_template
from curate.captioners.judge import judge_caption
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Say how one model type wants to be asked.

    Args:
        padding_side: "left" where the answer continues the prompt: padding between the two shifts
            the logits (by 1.8 to 4.7 in random tiny models; at most 2e-6 on the right side).
        prompt: "chat" renders the processor's chat template, "task" sends the words of `tasks`,
            "none" sends the picture alone.
        tasks: the prompt of each style where `prompt` is "task".
    """

    padding_side: Literal["left", "right"] = "left"
    prompt: Literal["chat", "task", "none"] = "chat"
    tasks: Mapping[str, str] | None = None


# Source: the model cards (task prompts) and tiny random checkpoints of each class (padding side).
FAMILIES: Mapping[str, Family] = {
    "blip": Family(padding_side="right", prompt="none"),
    "git": Family(padding_side="right", prompt="none"),
    "florence2": Family(
        padding_side="right",
        prompt="task",
        tasks={"short": "<CAPTION>", "detailed": "<MORE_DETAILED_CAPTION>"},
    ),
    "paligemma": Family(
        prompt="task", tasks={"short": "<image>caption en", "detailed": "<image>describe en"}
    ),
}
CHAT = Family()  # every other type: decoder-only with a chat template

# Pictures at a time. Chosen by us: on 2 cores the toy model gains nothing above 64.
BATCH_SIZE = 64

_WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json")
_MODEL_CONFIGS = ("config.json", "generation_config.json")


class VlmCaptioner:
    """Hold a loaded model with its processor; greedy, so equal batches give equal captions.

    Args:
        ref: one path, the folder that `save_pretrained` of model and processor wrote.
        batch_size: pictures at a time.

    Raises:
        ModelError: the folder lacks safetensors or cannot be loaded by the two Auto classes.
    """

    def __init__(self, ref: ModelRef, *, batch_size: int = BATCH_SIZE) -> None:
        folder = ref.paths[0]
        self.batch_size = batch_size
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.processor = _load(folder, self.device)
        self.family = FAMILIES.get(self.model.config.model_type, CHAT)
        self._name = f"{self.model.config.model_type}/{folder.name}"
        self._model_digest = _digest(folder, of_weights=True)
        self._processor_digest = _digest(folder, of_weights=False)

    @property
    def name(self) -> str:
        """Give model type and folder name, e.g. "idefics3/captioner"."""
        return self._name

    @property
    def model_digest(self) -> str:
        """Give the sha256 over weights and model config."""
        return self._model_digest

    @property
    def processor_digest(self) -> str:
        """Give the sha256 over tokenizer, chat template and image processor files."""
        return self._processor_digest

    def caption(self, images: Sequence[Image.Image], styles: Sequence[str]) -> list[CaptionAttempt]:
        """Caption every picture in every style; see `table.Captioner`.

        Raises:
            ValueError: a style is not in `TEMPLATES`.
        """
        by_style = [self._caption_style(images, find_template(style)) for style in styles]
        return [attempt for attempts in zip(*by_style, strict=True) for attempt in attempts]

    def encode(self, images: Sequence[Image.Image], prompt: str) -> Mapping[str, torch.Tensor]:
        """Turn pictures and one prompt into the model's input, on its device and in its dtype.

        Args:
            images: RGB, any sizes.
            prompt: as `render_prompt` gives it.
        """
        options: dict[str, Any] = {"images": list(images), "return_tensors": "pt"}
        if self.family.prompt != "none":
            options |= {
                "text": [prompt] * len(images),
                "padding": True,
                "padding_side": self.family.padding_side,
            }
            bos = self.processor.tokenizer.bos_token
            if bos and prompt.startswith(bos):
                # A template that writes <bos> itself would get a second one from the tokenizer.
                options["add_special_tokens"] = False
        return self.processor(**options).to(self.device, self.model.dtype)

    def render_prompt(self, template: Template) -> str:
        """Write the instruction as this model's processor wants it."""
        if self.family.prompt == "none":
            return ""
        if self.family.tasks is not None:
            return self.family.tasks[template.id]
        content = [{"type": "image"}, {"type": "text", "text": template.text}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )

    def _caption_style(
        self, images: Sequence[Image.Image], template: Template
    ) -> list[CaptionAttempt]:
        prompt = self.render_prompt(template)
        attempts: list[CaptionAttempt] = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            attempts += self._caption_batch(batch, template, prompt)
        return attempts

    def _caption_batch(
        self, images: Sequence[Image.Image], template: Template, prompt: str
    ) -> list[CaptionAttempt]:
        inputs = self.encode(images, prompt)
        sampling: dict[str, SamplingValue] = {
            "do_sample": False,
            "num_beams": 1,
            "max_new_tokens": template.max_new_tokens,
        }
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, **sampling)
        # Decoder-only models return prompt and answer; the others one start token and the answer.
        is_continued = "input_ids" in inputs and not self.model.config.is_encoder_decoder
        skipped = inputs["input_ids"].shape[1] if is_continued else 1
        return [
            self._read_answer(answer, template, prompt, sampling)
            for answer in tokens[:, skipped:].tolist()
        ]

    def _read_answer(
        self,
        answer: list[int],
        template: Template,
        prompt: str,
        sampling: Mapping[str, SamplingValue],
    ) -> CaptionAttempt:
        """Cut at the end token, decode and judge one row of tokens."""
        end = next((i for i, token in enumerate(answer) if token in self._end_tokens), None)
        finish_reason: FinishReason = "length" if end is None else "stop"
        kept = answer if end is None else answer[: end + 1]
        text_raw = self.processor.tokenizer.decode(kept, skip_special_tokens=True)
        instruction = template.text if self.family.prompt == "chat" else ""
        judgement = judge_caption(text_raw, prompt=instruction, is_cut_off=end is None)
        return CaptionAttempt(
            style=template.id,
            text_raw=text_raw,
            text=judgement.text,
            template=template.name,
            prompt=prompt,
            sampling=sampling,
            finish_reason=finish_reason,
            num_tokens=len(kept),
            status=judgement.status,
        )

    @property
    def _end_tokens(self) -> Sequence[int]:
        end = self.model.generation_config.eos_token_id
        return [end] if isinstance(end, int) else end or []


def _load(folder: Path, device: torch.device) -> tuple[Any, Any]:
    _check_folder(folder)
    disable_progress_bar()  # a bar per model and worker would drown the run's own progress line
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, **local
        )
        processor = AutoProcessor.from_pretrained(folder, **local)
    except (OSError, ValueError, ImportError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder}: must load as a transformers image-text-to-text model, got {reason!r}; "
            "give the folder that save_pretrained of model and processor wrote"
        ) from error
    if FAMILIES.get(model.config.model_type, CHAT) is CHAT and not processor.chat_template:
        raise ModelError(
            f"{folder}: model type {model.config.model_type!r} must come with a chat template, "
            "got none; add chat_template.jinja or a line to FAMILIES in curate/captioners/vlm.py"
        )
    # Greedy: settings of a sampler that the folder may bring would only be warned about.
    for name in ("temperature", "top_p", "top_k"):
        setattr(model.generation_config, name, None)
    return model.to(device).eval(), processor


def _check_folder(folder: Path) -> None:
    """Find what is missing before transformers does: its own search imports every class it has."""
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder}: must hold *.safetensors, got none; save the model with save_pretrained"
        )
    config = folder / "config.json"
    model_type = json.loads(config.read_text()).get("model_type") if config.is_file() else None
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ModelError(
            f"{config}: model_type must be an image-text-to-text type of transformers, "
            f"got {model_type!r}; give the folder of another model"
        )


def _digest(folder: Path, *, of_weights: bool) -> str:
    """Hash names and contents of the model's files, or of all the other (the processor's)."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        is_weight = file.name.endswith(_WEIGHT_SUFFIXES) or file.name in _MODEL_CONFIGS
        if is_weight == of_weights and file.suffix != ".md":
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()

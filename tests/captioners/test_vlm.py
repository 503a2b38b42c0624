"""The transformers captioner: the shipped toy model, and tiny random models of other classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from curate.captioners.instructions import TEMPLATES
from curate.captioners.table import load_captioner
from curate.captioners.vlm import VlmCaptioner
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.core.seed import make_rng
from curate.models import packs
from pipelines.toyweb.scene import (
    Scene,
    describe,
    describe_short,
    parse_description,
    random_split_scene,
    render,
)
from pipelines.toyweb.toy_captioner import SIDE_PX, build_model, build_processor, save

TOY_FOLDER = Path(packs.__file__).parent / "toy" / "captioner"
SIZES = ((96, 96), (160, 110), (72, 130), (200, 200), (90, 60), (64, 64))


@pytest.fixture(scope="module")
def toy() -> VlmCaptioner:
    captioner = load_captioner(ModelRef(kind="vlm", paths=(TOY_FOLDER,)))
    assert isinstance(captioner, VlmCaptioner)
    return captioner


def draw_scenes(count: int) -> list[tuple[Scene, Image.Image]]:
    rng = make_rng(0, "test_vlm")
    scenes = [random_split_scene(rng, "heldout") for _ in range(count)]
    pictures = [
        Image.fromarray(render(scene, *SIZES[i % len(SIZES)], jitter=rng))
        for i, scene in enumerate(scenes)
    ]
    return list(zip(scenes, pictures, strict=True))


def test_toy_captions_state_held_out_scenes(toy: VlmCaptioner) -> None:
    drawn = draw_scenes(60)
    attempts = toy.caption([picture for _, picture in drawn], ["short", "detailed"])
    short, detailed = attempts[::2], attempts[1::2]
    assert [attempt.style for attempt in attempts[:4]] == ["short", "detailed"] * 2
    exact = [
        parse_description(attempt.text) == scene
        for attempt, (scene, _) in zip(detailed, drawn, strict=True)
    ]
    assert sum(exact) >= 54
    agree = [
        attempt.text == describe_short(scene)
        for attempt, (scene, _) in zip(short, drawn, strict=True)
    ]
    assert sum(agree) >= 54


def test_attempt_records_what_made_it(toy: VlmCaptioner) -> None:
    scene, picture = draw_scenes(1)[0]
    attempt = toy.caption([picture], ["detailed"])[0]
    assert attempt.template == "detailed-v1"
    assert attempt.prompt == "<image>" + TEMPLATES["detailed"].text
    assert attempt.sampling == {"do_sample": False, "num_beams": 1, "max_new_tokens": 256}
    assert (attempt.finish_reason, attempt.status) == ("stop", "ok")
    assert attempt.num_tokens == len(describe(scene).split()) + 1  # a word a token, and the end
    assert len(toy.model_digest) == len(toy.processor_digest) == 64
    assert toy.model_digest != toy.processor_digest
    assert toy.name == "idefics3/captioner"


def test_batch_equals_single_in_logits(toy: VlmCaptioner) -> None:
    pictures = [picture for _, picture in draw_scenes(6)]
    assert measure_batch_error(toy, pictures) < 1e-4


def test_mixed_batch_equals_single_captions(toy: VlmCaptioner) -> None:
    pictures = [picture for _, picture in draw_scenes(6)]
    together = toy.caption(pictures, ["detailed"])
    assert together == [toy.caption([picture], ["detailed"])[0] for picture in pictures]


def test_no_pictures_give_no_attempts(toy: VlmCaptioner) -> None:
    assert toy.caption([], ["short", "detailed"]) == []


def test_unknown_style_is_refused(toy: VlmCaptioner) -> None:
    with pytest.raises(ValueError, match="short, detailed"):
        toy.caption([Image.new("RGB", (64, 64))], ["poem"])


def test_llava_batch_equals_single(tmp_path: Path) -> None:
    save_llava(tmp_path)
    captioner = VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))
    pictures = [Image.new("RGB", (40 + 9 * i, 50), (40 * i, 90, 200)) for i in range(4)]
    assert measure_batch_error(captioner, pictures) < 1e-4


def test_pictures_of_different_token_counts_batch_as_single(tmp_path: Path) -> None:
    """Idefics3 with image splitting: a larger picture has more tokens, so the rows are padded."""
    processor = build_processor()
    image_processor = processor.image_processor
    image_processor.do_image_splitting = True
    image_processor.size = {"longest_edge": 2 * SIDE_PX}
    model = build_model(processor, seed=0)
    save(model, processor, tmp_path)
    captioner = VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))
    pictures = [Image.new("RGB", size, "red") for size in ((144, 144), (144, 40), (30, 140))]
    inputs = captioner.encode(pictures, captioner.render_prompt(TEMPLATES["short"]))
    assert not inputs["attention_mask"].all()
    assert measure_batch_error(captioner, pictures) < 1e-4


def test_answer_without_end_token_has_reason_length(tmp_path: Path) -> None:
    save_llava(tmp_path, end_token=None)
    captioner = VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))
    attempt = captioner.caption([Image.new("RGB", (40, 40), "red")], ["short"])[0]
    assert attempt.finish_reason == "length"
    assert attempt.num_tokens == TEMPLATES["short"].max_new_tokens
    assert attempt.status != "ok"


def test_blip_captions_without_a_prompt(tmp_path: Path) -> None:
    save_blip(tmp_path)
    captioner = VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))
    pictures = [Image.new("RGB", (40, 50), "red"), Image.new("RGB", (30, 30), "blue")]
    attempts = captioner.caption(pictures, ["short", "detailed"])
    assert len(attempts) == 4
    assert {attempt.prompt for attempt in attempts} == {""}


def test_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must hold"):
        VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))


def test_model_of_another_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="got 'bert'"):
        VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))


def test_damaged_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    save_llava(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="image-text-to-text") as caught:
        VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))
    assert "\n" not in str(caught.value)


def test_chat_model_without_template_is_refused(tmp_path: Path) -> None:
    save_llava(tmp_path, chat_template=None)
    with pytest.raises(ModelError, match="chat template"):
        VlmCaptioner(ModelRef(kind="vlm", paths=(tmp_path,)))


def measure_batch_error(captioner: VlmCaptioner, pictures: list[Image.Image]) -> float:
    """Give the largest difference of next-token logits between a batch and its rows alone."""
    prompt = captioner.render_prompt(TEMPLATES["detailed"])

    def next_logits(images: list[Image.Image]) -> torch.Tensor:
        inputs: Mapping[str, torch.Tensor] = captioner.encode(images, prompt)
        with torch.inference_mode():
            return captioner.model(**inputs).logits[:, -1]

    alone = torch.cat([next_logits([picture]) for picture in pictures])
    return float((next_logits(pictures) - alone).abs().max())


CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def save_llava(
    folder: Path, chat_template: str | None = CHAT_TEMPLATE, end_token: int | None = 2
) -> None:
    """Save a random LLaVA of 50 k weights with a word-level tokenizer."""
    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "a", "cat", "describe", "this"]
    vocab = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(words[:5])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=end_token,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=4)
    size = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=size, do_center_crop=False),
        fast,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = end_token
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def save_blip(folder: Path) -> None:
    """Save a random BLIP, the class that takes no prompt."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "a", "cat", "dog"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = {**shape, "num_attention_heads": 2, "vocab_size": len(words), "encoder_hidden_size": 32}
    text |= {"bos_token_id": 4, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    vision = {**shape, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=32)
    model = BlipForConditionalGeneration(config)
    model.save_pretrained(folder)
    image_processor = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(image_processor, tokenizer).save_pretrained(folder)

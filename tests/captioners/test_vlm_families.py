"""Every family of captioners, from tiny random checkpoints: batches, prompts, ends, answers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from curate.captioners.captioner import CaptionAttempt, CaptionRequest, Sampling
from curate.captioners.instructions import Template
from curate.captioners.table import check_templates
from curate.captioners.vlm import VlmCaptioner
from curate.captioners.vlm_batches import BatchLimits
from curate.captioners.vlm_families import FAMILIES
from curate.captioners.vlm_inputs import Asked, expect_costs
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.core.seed import make_rng
from tests.captioners.tiny_vlms import SAVERS, chat_template, save_llava, save_qwen2_vl

SHORT = Template(id="short", version=1, text="describe this image", max_new_tokens=10)
FROM_ALT = Template(
    id="alt", version=1, text="alt text: {alt} describe this image in detail.", max_new_tokens=10
)
SIZES = ((40, 60), (150, 40), (64, 64), (90, 200), (30, 30))
ALTS = ("a red cat", "", "a blue bird on the house in the tree", "sky", "dog and cat")
TOLERANCE = 1e-4
GREEDY = Sampling()
# PaliGemma's processor hands a tensor to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", params=list(SAVERS))
def captioner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> VlmCaptioner:
    if request.param == "smolvlm":
        pytest.importorskip("num2words")  # its processor spells numbers of video frames
    folder = tmp_path_factory.mktemp(request.param)
    SAVERS[request.param](folder)
    return load(folder)


def load(folder: Path, limits: BatchLimits | None = None) -> VlmCaptioner:
    return VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)), limits)


def draw_picture(height: int, width: int) -> Image.Image:
    """Draw a picture of coarse random blocks, of which each family sees something."""
    blocks = make_rng(0, "tiny_vlms", height, width).integers(0, 256, (6, 6, 3), "uint8")
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def make_requests(captioner: VlmCaptioner) -> list[CaptionRequest]:
    """Ask about pictures of many sizes, by prompts of many lengths where a family has them."""
    tasks = [dataclasses.replace(SHORT, id=style) for style in captioner.vlm.family.tasks]
    templates = tasks or [SHORT, FROM_ALT]
    return [
        CaptionRequest(
            key=str(index),
            image=draw_picture(*size),
            template=templates[index % len(templates)],
            alt=ALTS[index],
            seed=index,
        )
        for index, size in enumerate(SIZES)
    ]


def read_logits(captioner: VlmCaptioner, inputs: Mapping[str, Tensor], answers: Tensor) -> Tensor:
    """Give the logits of every token of the answers [B, T] and of the one after: [B, T + 1, V]."""
    model: Any = captioner.vlm.model
    count = answers.shape[1] + 1
    given = dict(inputs)
    if model.config.is_encoder_decoder:
        start = torch.full((len(answers), 1), model.generation_config.decoder_start_token_id)
        given["decoder_input_ids"] = torch.cat([start, answers], 1)
    elif "input_ids" in given:
        prompt = given["input_ids"]
        given["input_ids"] = torch.cat([prompt, answers], 1)
        for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
            if name in given:
                # 1 marks PaliGemma's answer, which looks back only; elsewhere it marks pictures.
                is_one = name == "attention_mask" or model.config.model_type == "paligemma"
                fill = torch.full_like(answers, int(is_one))
                given[name] = torch.cat([given[name], fill], 1)
    else:
        text = getattr(model.config, "text_config", model.config)
        start = torch.full((len(answers), 1), text.bos_token_id)
        given["input_ids"] = torch.cat([start, answers], 1)
    with torch.inference_mode():
        return model(**given).logits[:, -count:].float()


def write_alone(captioner: VlmCaptioner, asked: Asked) -> tuple[list[int], list[float]]:
    """Write an answer by asking for the likeliest next token again and again, without a cache."""
    inputs = captioner.encode([asked])
    answer: list[int] = []
    logprobs: list[float] = []
    while len(answer) < asked.request.template.max_new_tokens:
        logits = read_logits(captioner, inputs, torch.tensor([answer], dtype=torch.long))[0, -1]
        logprob, token = logits.log_softmax(-1).max(0)
        answer.append(int(token))
        logprobs.append(float(logprob))
        if answer[-1] in captioner.vlm.end_tokens:
            break
    return answer, logprobs


def same(one: CaptionAttempt, other: CaptionAttempt) -> bool:
    """Compare what does not depend on the clock, the batch or the sixth digit."""
    plain = {"latency_s": 0.0, "batch_size": 1, "mean_logprob": None}
    assert one.mean_logprob == pytest.approx(other.mean_logprob, abs=TOLERANCE)
    return dataclasses.replace(one, **plain) == dataclasses.replace(other, **plain)


def test_batch_equals_single_from_the_first_position_to_the_last(captioner: VlmCaptioner) -> None:
    asked = captioner.ask(make_requests(captioner))
    num_words = len(captioner.vlm.processor.tokenizer.added_tokens_decoder)
    answers = torch.arange(4)[None] + torch.arange(len(asked))[:, None] + num_words
    answers = answers % captioner.vlm.model.get_input_embeddings().weight.shape[0]
    together = read_logits(captioner, captioner.encode(asked), answers)
    for row, one in enumerate(asked):
        alone = read_logits(captioner, captioner.encode([one]), answers[row : row + 1])
        assert (together[row] - alone[0]).abs().max() < TOLERANCE


def test_wrong_padding_side_is_seen(captioner: VlmCaptioner) -> None:
    """The test above would see a family that pads on the wrong side."""
    asked = captioner.ask(make_requests(captioner))
    inputs = captioner.encode(asked)
    if "attention_mask" not in inputs or inputs["attention_mask"].all():
        pytest.skip("all prompts are equally long, so nothing is padded")
    vlm, sides = captioner.vlm, {"left": "right", "right": "left"}
    family = dataclasses.replace(vlm.family, padding_side=sides[vlm.family.padding_side])
    captioner.vlm = dataclasses.replace(vlm, family=family)
    wrong = captioner.encode(asked)
    captioner.vlm = vlm
    nothing = torch.empty(len(asked), 0, dtype=torch.long)
    error = read_logits(captioner, inputs, nothing) - read_logits(captioner, wrong, nothing)
    assert error.abs().max() > 0.1


def test_answers_are_those_of_a_plain_loop_over_the_model(captioner: VlmCaptioner) -> None:
    requests = make_requests(captioner)
    decode = captioner.vlm.processor.tokenizer.decode
    for one, attempt in zip(
        captioner.ask(requests), captioner.caption(requests, GREEDY), strict=True
    ):
        tokens, logprobs = write_alone(captioner, one)
        assert attempt.text_raw == decode(tokens, skip_special_tokens=True)
        assert attempt.num_tokens == len(tokens)
        is_ended = tokens[-1] in captioner.vlm.end_tokens
        assert attempt.finish_reason == ("stop" if is_ended else "length")
        assert attempt.mean_logprob == pytest.approx(sum(logprobs) / len(tokens), abs=TOLERANCE)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_neighbours_in_a_batch_do_not_change_an_answer(
    captioner: VlmCaptioner, temperature: float
) -> None:
    requests = make_requests(captioner)
    sampling = Sampling(temperature=temperature, top_p=0.9, repetition_penalty=1.2)
    together = captioner.caption(requests, sampling)
    alone = [captioner.caption([request], sampling)[0] for request in requests]
    backwards = captioner.caption(requests[::-1], sampling)[::-1]
    assert all(map(same, together, alone))
    assert all(map(same, together, backwards))
    assert {attempt.batch_size for attempt in alone} == {1}


def test_another_seed_gives_another_answer(captioner: VlmCaptioner) -> None:
    request = make_requests(captioner)[0]
    requests = [dataclasses.replace(request, seed=seed) for seed in (1, 2, 1)]
    first, other, again = captioner.caption(requests, Sampling(temperature=2.0))
    assert first.text_raw == again.text_raw != other.text_raw


def test_all_of_a_prompt_is_counted_and_none_of_the_padding(captioner: VlmCaptioner) -> None:
    requests = make_requests(captioner)
    for one, attempt in zip(
        captioner.ask(requests), captioner.caption(requests, GREEDY), strict=True
    ):
        inputs = captioner.encode([one])
        expected = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        assert attempt.num_prompt_tokens == expected
        assert attempt.num_visual_tokens > 0


def test_no_prompt_has_a_second_start_or_end(captioner: VlmCaptioner) -> None:
    inputs = captioner.encode(captioner.ask(make_requests(captioner)))
    tokenizer = captioner.vlm.processor.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if "input_ids" in inputs and token is not None:
            assert (inputs["input_ids"] == token).sum(1).max() <= 1


def test_expected_picture_tokens_are_those_found(captioner: VlmCaptioner) -> None:
    """Batches are planned by counts made before a picture is prepared."""
    asked = captioner.ask(make_requests(captioner))
    expected = [c.visual for c in expect_costs(captioner.vlm, asked, captioner.image_options)]
    found = [a.num_visual_tokens for a in captioner.caption([a.request for a in asked], GREEDY)]
    if "input_ids" not in captioner.encode(asked[:1]):
        assert len(set(found)) == 1  # of one size; there is nothing to plan
    elif captioner.vlm.model_type in ("idefics3", "smolvlm"):
        # Marks between the tiles may be counted too: a picture of more tiles has more of both.
        pairs = sorted(zip(found, expected, strict=True))
        assert len(set(found)) > 1
        assert all(
            (few < many) <= (less < more) for (few, less), (many, more) in itertools.pairwise(pairs)
        )
    else:
        assert expected == found


def test_every_key_of_the_processor_but_labels_reaches_the_model(captioner: VlmCaptioner) -> None:
    asked = captioner.ask(make_requests(captioner))
    seen: dict[str, Any] = {}
    forward = captioner.vlm.model.generate

    def watch(**inputs: Any) -> Tensor:
        seen.update(inputs)
        return forward(**inputs)

    captioner.vlm.model.generate = watch
    try:
        captioner.caption([one.request for one in asked], GREEDY)
    finally:
        del captioner.vlm.model.generate
    processor = captioner.vlm.processor
    images: list[Any] = [[one.request.image] for one in asked]
    if captioner.vlm.family.prompt == "none":
        expected = set(processor(images=[i for (i,) in images]))
    else:
        expected = set(processor(images=images, text=[one.prompt for one in asked], padding=True))
    assert expected - {"labels"} <= set(seen)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 50), (700, 2)])
def test_the_smallest_and_thinnest_pictures_harm_no_other(
    captioner: VlmCaptioner, size: tuple[int, int]
) -> None:
    plain = make_requests(captioner)[0]
    extreme = dataclasses.replace(plain, image=draw_picture(*size), key="extreme")
    first, attempt, last = captioner.caption([plain, extreme, plain], GREEDY)
    assert same(first, captioner.caption([plain], GREEDY)[0])
    assert same(first, last)
    # Qwen's processors refuse what is 200 times as long as wide.
    is_refused = bool(captioner.vlm.family.max_pixels_key) and max(size) / min(size) > 200
    assert (attempt.finish_reason == "error") == is_refused
    assert not is_refused or "aspect ratio" in attempt.text_raw


def test_every_family_of_the_table_is_tested() -> None:
    # qwen3_vl_moe is Qwen3-VL with another decoder.
    assert set(FAMILIES) - set(SAVERS) == {"qwen3_vl_moe"}
    assert set(SAVERS) - set(FAMILIES) == {"gemma3"}  # a chat model like any other


@pytest.mark.parametrize(
    ("name", "styles", "prompt"),
    [
        ("blip", ["short"], ""),
        ("git", ["short"], ""),
        ("florence2", ["short", "medium", "detailed"], "<DETAILED_CAPTION>"),
        ("paligemma", ["short", "detailed"], "<image>describe en"),
    ],
)
def test_styles_that_a_family_cannot_follow_are_refused_before_it_is_loaded(
    tmp_path: Path, name: str, styles: list[str], prompt: str
) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{name}"}}')
    ref = ModelRef(kind="vlm", paths=(tmp_path,))
    check_templates(ref, [dataclasses.replace(SHORT, id=style) for style in styles])
    assert prompt in FAMILIES[name].tasks.values()
    with pytest.raises(ModelError, match=rf"styles {', '.join(styles)}, got 'tags-v1'"):
        check_templates(ref, [dataclasses.replace(SHORT, id="tags")])
    with pytest.raises(ModelError, match="choose one of them or a chat model"):
        check_templates(ref, [dataclasses.replace(FROM_ALT, id="short")])


def test_a_style_that_cannot_be_followed_is_refused_when_asked(tmp_path: Path) -> None:
    SAVERS["blip"](tmp_path)
    captioner = load(tmp_path)
    request = CaptionRequest(key="a", image=draw_picture(40, 40), template=FROM_ALT)
    with pytest.raises(ModelError, match="blip models"):
        captioner.caption([request], GREEDY)


def test_a_template_that_writes_its_own_start_gets_no_second_one(tmp_path: Path) -> None:
    save_llava(tmp_path, template=chat_template("<image>", before="<s> "))
    captioner = load(tmp_path)
    captioner.vlm.processor.tokenizer.add_bos_token = True
    inputs = captioner.encode(captioner.ask(make_requests(captioner)))
    assert (inputs["input_ids"] == 1).sum(1).tolist() == [1] * len(SIZES)


def test_a_processor_that_counts_the_picture_otherwise_than_its_model_is_refused(
    tmp_path: Path,
) -> None:
    """LLaVA's class token: `num_additional_image_tokens` of the folder says that there is none."""
    save_llava(tmp_path, num_additional_image_tokens=0)
    with pytest.raises(ModelError, match="must caption a grey picture") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_pictures_are_brought_under_the_largest_area(tmp_path: Path) -> None:
    save_qwen2_vl(tmp_path)
    captioner = load(tmp_path, BatchLimits(max_pixels=100 * 100))
    requests = [
        CaptionRequest(key=str(size), image=draw_picture(*size), template=SHORT)
        for size in ((500, 400), (56, 84))
    ]
    large, small = captioner.caption(requests, GREEDY)
    assert large.image_height * large.image_width <= 100 * 100
    assert large.num_visual_tokens == large.image_height * large.image_width // 28**2
    assert (small.image_height, small.image_width) == (56, 84)

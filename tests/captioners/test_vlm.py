"""The transformers captioner as the pipeline has it: the shipped toy model, faults, limits."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES, Template
from curate.captioners.table import load_captioner
from curate.captioners.vlm import VlmCaptioner
from curate.captioners.vlm_batches import BatchLimits
from curate.captioners.vlm_inputs import Asked
from curate.core.model_ref import ModelRef
from curate.core.seed import derive_seed, make_rng
from curate.models import packs
from pipelines.toyweb.scene import (
    Scene,
    describe,
    describe_short,
    parse_description,
    random_split_scene,
    render,
)

TOY_FOLDER = Path(packs.__file__).parent / "toy" / "captioner"
SIZES = ((96, 96), (160, 110), (72, 130), (200, 200), (90, 60), (64, 64))
SHORT, DETAILED = TEMPLATES["short"], TEMPLATES["detailed"]
GREEDY = Sampling()


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


def request(image: Image.Image, template: Template, key: str = "a") -> CaptionRequest:
    seed = derive_seed(0, "caption", key, template.name, 0)
    return CaptionRequest(key=key, image=image, template=template, seed=seed)


def draw_requests(count: int, *templates: Template) -> list[CaptionRequest]:
    return [
        request(picture, template, str(index))
        for index, (_, picture) in enumerate(draw_scenes(count))
        for template in templates
    ]


def test_toy_captions_state_held_out_scenes(toy: VlmCaptioner) -> None:
    scenes = [scene for scene, _ in draw_scenes(60)]
    attempts = toy.caption(draw_requests(60, SHORT, DETAILED), GREEDY)
    short, detailed = attempts[::2], attempts[1::2]
    exact = [parse_description(a.text_raw) == s for a, s in zip(detailed, scenes, strict=True)]
    assert sum(exact) >= 54
    agree = [a.text_raw == describe_short(s) for a, s in zip(short, scenes, strict=True)]
    assert sum(agree) >= 54


def test_attempt_records_what_the_model_did(toy: VlmCaptioner) -> None:
    scene, picture = draw_scenes(1)[0]
    (attempt,) = toy.caption([request(picture, DETAILED)], GREEDY)
    assert attempt.prompt == "<image>" + DETAILED.text
    assert attempt.finish_reason == "stop"
    assert attempt.num_tokens == len(describe(scene).split()) + 1  # a word a token, and the end
    assert attempt.num_visual_tokens == 9  # a cell each
    assert attempt.num_prompt_tokens > attempt.num_visual_tokens
    assert (attempt.image_height, attempt.image_width) == (72, 72)
    assert attempt.mean_logprob is not None
    assert -0.1 < attempt.mean_logprob <= 0  # it is sure of the scene
    assert attempt.latency_s > 0


def test_provenance_digests_weights_and_processor_apart(toy: VlmCaptioner) -> None:
    found = toy.provenance
    assert (found.backend, found.model) == ("transformers", "idefics3/captioner")
    assert (found.dtype, found.revision) == ("float32", "")
    assert len(found.model_digest) == len(found.processor_digest) == 64
    assert found.model_digest != found.processor_digest


def test_no_requests_give_no_attempts(toy: VlmCaptioner) -> None:
    assert toy.caption([], GREEDY) == []


def test_answers_come_in_the_order_of_the_requests_whatever_the_batches(
    toy: VlmCaptioner,
) -> None:
    requests = draw_requests(7, DETAILED, SHORT)
    texts = [attempt.text_raw for attempt in toy.caption(requests, GREEDY)]
    small = VlmCaptioner(ModelRef(kind="vlm", paths=(TOY_FOLDER,)), BatchLimits(batch_size=3))
    attempts = small.caption(requests, GREEDY)
    assert [attempt.text_raw for attempt in attempts] == texts
    assert [a.batch_size for a in attempts[::2]] == [3, 3, 3, 3, 3, 3, 1]


def test_answer_without_end_token_has_reason_length(toy: VlmCaptioner) -> None:
    _, picture = draw_scenes(1)[0]
    (attempt,) = toy.caption(
        [request(picture, dataclasses.replace(DETAILED, max_new_tokens=3))], GREEDY
    )
    assert (attempt.finish_reason, attempt.num_tokens) == ("length", 3)


def test_hot_sampling_differs_from_greedy_and_follows_the_seed(toy: VlmCaptioner) -> None:
    requests = draw_requests(4, DETAILED)
    hot = Sampling(temperature=6.0)
    first, again = (toy.caption(requests, hot) for _ in range(2))
    assert [a.text_raw for a in first] == [a.text_raw for a in again]
    greedy = toy.caption(requests, GREEDY)
    assert any(a.text_raw != g.text_raw for a, g in zip(first, greedy, strict=True))
    # The likeliest token is all that so small a share of the probability leaves.
    nearly = toy.caption(requests, Sampling(temperature=6.0, top_p=1e-6))
    assert [a.text_raw for a in nearly] == [a.text_raw for a in greedy]


def test_the_next_batch_is_prepared_while_one_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = VlmCaptioner(ModelRef(kind="vlm", paths=(TOY_FOLDER,)), BatchLimits(batch_size=2))
    encode, generate = small.encode, small.vlm.model.generate
    prepared = [threading.Event() for _ in range(3)]
    started: list[int] = []

    def note_when_prepared(asked: Sequence[Asked]) -> Mapping[str, Any]:
        inputs = encode(asked)
        next(event for event in prepared if not event.is_set()).set()
        return inputs

    def wait_for_the_next(**inputs: Any) -> torch.Tensor:
        started.append(len(started))
        if len(started) < 3:
            assert prepared[len(started)].wait(timeout=30)
            assert not any(event.is_set() for event in prepared[len(started) + 1 :])
        return generate(**inputs)

    monkeypatch.setattr(small, "encode", note_when_prepared)
    monkeypatch.setattr(small.vlm.model, "generate", wait_for_the_next)
    assert len(small.caption(draw_requests(6, SHORT), GREEDY)) == 6
    assert started == [0, 1, 2]


def test_a_request_that_fails_does_so_alone(
    toy: VlmCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = draw_requests(5, SHORT)
    expected = [attempt.text_raw for attempt in toy.caption(requests, GREEDY)]
    encode = toy.encode

    def refuse_the_third(asked: Sequence[Asked]) -> Mapping[str, Any]:
        if any(one.request.key == "2" for one in asked):
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return encode(asked)

    monkeypatch.setattr(toy, "encode", refuse_the_third)
    attempts = toy.caption(requests, GREEDY)
    failed = attempts.pop(2)
    assert failed.finish_reason == "error"
    assert failed.text_raw == "ValueError: absolute aspect ratio must be smaller than 200"
    assert [attempt.text_raw for attempt in attempts] == expected[:2] + expected[3:]


def test_a_batch_too_large_for_memory_is_halved(
    toy: VlmCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = draw_requests(5, SHORT)
    expected = [attempt.text_raw for attempt in toy.caption(requests, GREEDY)]
    generate = toy.vlm.model.generate

    def have_room_for(rows: int) -> None:
        def limited(**inputs: Any) -> torch.Tensor:
            if len(inputs["input_ids"]) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return generate(**inputs)

        monkeypatch.setattr(toy.vlm.model, "generate", limited)

    have_room_for(2)
    attempts = toy.caption(requests, GREEDY)
    assert [attempt.text_raw for attempt in attempts] == expected
    assert {attempt.batch_size for attempt in attempts} == {1, 2}
    have_room_for(0)
    with pytest.raises(torch.OutOfMemoryError):
        toy.caption(requests, GREEDY)

"""Lessons of every family: where the labels are, and that they are what generation writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlavaProcessor, PreTrainedTokenizerFast

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.instructions import Template
from curate.captioners.teaching import IGNORE, LabelledBatch, Teacher
from curate.captioners.vlm import VlmCaptioner
from curate.core.errors import ModelError, SampleError
from curate.core.model_ref import ModelRef
from curate.core.seed import make_rng
from tests.captioners.tiny_vlms import EOS, SAVERS, save_llava

TEXTS = ("a red cat", "a blue bird on the house in the tree and a dog", "sky")
SIZES = ((40, 60), (150, 40), (30, 30))
ALTS = ("a red cat", "", "the house and the tree in the sky")
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


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    save_llava(tmp_path / "llava")
    return tmp_path / "llava"


def load(folder: Path) -> VlmCaptioner:
    return VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)))


def ask(captioner: VlmCaptioner, max_new_tokens: int = 12) -> list[CaptionRequest]:
    """Ask about pictures of many sizes, by prompts of many lengths where a family has them."""
    text = "describe this image" if captioner.vlm.family.tasks else "alt text: {alt} describe this"
    template = Template(id="short", version=1, text=text, max_new_tokens=max_new_tokens)
    return [
        CaptionRequest(key=str(index), image=draw(*size), template=template, alt=ALTS[index])
        for index, size in enumerate(SIZES)
    ]


def draw(height: int, width: int) -> Image.Image:
    blocks = make_rng(0, "test_teaching", height, width).integers(0, 256, (6, 6, 3), "uint8")
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def teach(captioner: VlmCaptioner) -> tuple[LabelledBatch, list[list[int]]]:
    teacher = Teacher(captioner)
    answers = [teacher.tokenize(text, 48) for text in TEXTS]
    return teacher.encode(ask(captioner), answers), answers


def test_labels_are_the_answer_and_its_end_and_nothing_else(captioner: VlmCaptioner) -> None:
    batch, answers = teach(captioner)
    for row, answer in zip(batch.labels.tolist(), answers, strict=True):
        assert [token for token in row if token != IGNORE] == answer
        assert answer[-1] == Teacher(captioner).turn.end
        assert len(answer) == len(TEXTS[answers.index(answer)].split()) + 1
    assert batch.num_tokens == sum(map(len, answers))


def test_the_prompt_is_what_captioning_sends_and_the_answer_follows(
    captioner: VlmCaptioner,
) -> None:
    batch, answers = teach(captioner)
    asked = captioner.ask(ask(captioner))
    sent = captioner.encode(asked)
    pixels = [name for name in sent if "pixel" in name or "grid" in name]
    assert pixels
    assert all(torch.equal(batch.inputs[name], sent[name]) for name in pixels)
    for row, answer in enumerate(answers):
        if batch.is_shifted:
            assert torch.equal(batch.inputs["input_ids"], sent["input_ids"])
            ids = batch.inputs["decoder_input_ids"][row].tolist()
            assert ids[1 : len(answer)] == answer[:-1]
            continue
        kept = batch.inputs["attention_mask"][row].bool()
        ids = batch.inputs["input_ids"][row][kept].tolist()
        prompt = ids[: -len(answer)]
        assert ids[-len(answer) :] == answer
        if "input_ids" in sent:
            assert prompt == sent["input_ids"][row][sent["attention_mask"][row].bool()].tolist()
        else:
            assert len(prompt) == 1


def test_the_loss_of_what_was_written_is_the_likelihood_with_which_it_was(
    captioner: VlmCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks, positions and starts of a lesson are those of generation, or this would differ."""
    written: list[list[int]] = []
    decode = captioner.vlm.processor.tokenizer.decode

    def spy(tokens: Sequence[int], **options: bool) -> str:
        written.append(list(tokens))
        return decode(tokens, **options)

    monkeypatch.setattr(captioner.vlm.processor.tokenizer, "decode", spy)
    for request in ask(captioner):
        written.clear()
        (attempt,) = captioner.caption([request], Sampling())
        assert attempt.mean_logprob is not None
        batch = Teacher(captioner).encode([request], written)
        with torch.no_grad():
            loss = float(batch.loss_sum()) / batch.num_tokens
        assert loss == pytest.approx(-attempt.mean_logprob, abs=1e-4)


def test_a_batch_costs_what_its_rows_cost_alone(captioner: VlmCaptioner) -> None:
    batch, answers = teach(captioner)
    teacher = Teacher(captioner)
    rows = zip(ask(captioner), answers, strict=True)
    with torch.no_grad():
        alone = [float(teacher.encode([request], [row]).loss_sum()) for request, row in rows]
        assert float(batch.loss_sum()) == pytest.approx(sum(alone), abs=1e-3)


def test_the_loss_is_the_models_own(captioner: VlmCaptioner) -> None:
    batch, _ = teach(captioner)
    inputs = {name: v for name, v in batch.inputs.items() if name != "decoder_input_ids"}
    with torch.no_grad():
        own = float(captioner.vlm.model(**inputs, labels=batch.labels).loss) * batch.num_tokens
        assert float(batch.loss_sum()) == pytest.approx(own, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("a cat <image>", "special_token"),
        (f"a cat {EOS}", "special_token"),
        ("a giraffe", "unknown_word"),
        ("a " * 10, "too_long"),
    ],
)
def test_a_caption_that_cannot_be_learnt_has_its_reason(
    llava: Path, text: str, status: str
) -> None:
    with pytest.raises(SampleError) as caught:
        Teacher(load(llava)).tokenize(text, 10)
    assert caught.value.status == status


def test_a_caption_of_just_the_limit_is_learnt(llava: Path) -> None:
    assert len(Teacher(load(llava)).tokenize("a " * 9, 10)) == 10


@pytest.mark.parametrize("space_before", ["always", "never"])
def test_an_answer_has_one_space_before_it_whatever_the_tokenizer_adds(
    tmp_path: Path, space_before: Literal["always", "never"]
) -> None:
    """SentencePiece writes a space before a text, byte-level tokenizers do not."""
    captioner = load_with_pieces(tmp_path, space_before)
    teacher = Teacher(captioner)
    tokens = captioner.vlm.processor.tokenizer.convert_ids_to_tokens(teacher.tokenize("a cat", 9))
    assert tokens == ["\u2581a", "\u2581cat", "<end>"]


def test_lead_and_end_of_an_answer_come_from_the_chat_template(tmp_path: Path) -> None:
    captioner = load_with_pieces(tmp_path)
    turn = Teacher(captioner).turn
    assert turn.lead == " "
    assert captioner.vlm.processor.tokenizer.convert_ids_to_tokens(turn.end) == "<end>"
    assert captioner.vlm.end_tokens[0] != turn.end


def test_a_template_for_questions_only_leaves_the_tokenizers_end(tmp_path: Path) -> None:
    template = (
        "{% for message in messages %}{% if message['role'] != 'user' %}"
        "{{ raise_exception('questions only') }}{% endif %}<image> describe this{% endfor %}"
    )
    save_llava(tmp_path, template)
    captioner = load(tmp_path)
    turn = Teacher(captioner).turn
    assert (turn.lead, turn.end) == ("", captioner.vlm.processor.tokenizer.eos_token_id)


def test_blip_ends_where_its_own_generate_stops(tmp_path: Path) -> None:
    """The published checkpoints have an eos_token_id that is never written, and stop at [SEP]."""
    SAVERS["blip"](tmp_path)
    captioner = load(tmp_path)
    captioner.vlm.model.config.text_config.eos_token_id = 2
    assert Teacher(captioner).turn.end == captioner.vlm.processor.tokenizer.sep_token_id == 3


def test_a_forced_start_of_an_answer_is_part_of_it(tmp_path: Path) -> None:
    """Florence-2's decoder is made to begin with <s>."""
    SAVERS["florence2"](tmp_path)
    captioner = load(tmp_path)
    captioner.vlm.model.generation_config.forced_bos_token_id = 1
    teacher = Teacher(captioner)
    answer = teacher.tokenize("a cat", 9)
    assert answer[0] == 1
    assert teacher.read(answer) == "a cat"


def test_a_model_without_an_end_is_refused(llava: Path) -> None:
    captioner = load(llava)
    object.__setattr__(captioner.vlm, "end_tokens", ())
    with pytest.raises(ModelError, match="a token that ends an answer, got none"):
        Teacher(captioner)


def load_with_pieces(
    folder: Path, space_before: Literal["always", "never"] = "always"
) -> VlmCaptioner:
    """Load a tiny LLaVA whose tokenizer cuts as SentencePiece does, with two ends of an answer."""
    save_llava(folder)
    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<end>"]
    words += [f"\u2581{word}" for word in ("", "a", "cat", "Assistant:", "?", "describe")]
    pieces = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "removed"),
            pre_tokenizers.Metaspace(prepend_scheme=space_before),
        ]
    )
    pieces.decoder = decoders.Metaspace()
    pieces.add_special_tokens(words[:6])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    captioner = load(folder)
    processor = captioner.vlm.processor
    assert isinstance(processor, LlavaProcessor)
    processor.tokenizer = tokenizer
    processor.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'user' %}<image> ?\n{% else %}"
        "Assistant: {{ message['content'][0]['text'] }}<end>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    )
    object.__setattr__(captioner.vlm, "end_tokens", (2, 5))
    return captioner

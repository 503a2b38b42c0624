"""The oracle captioner is right in every style, and wrong as often and as it is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES, Template
from curate.captioners.verify import QUESTION, Verifier, extract_claims
from curate.captioners.vlm_batches import BatchLimits
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.core.schema import make_key
from curate.core.seed import make_rng
from pipelines.captioners import CAPTIONERS
from pipelines.toyweb.oracle_captioner import OracleCaptioner, load_oracle_captioner
from pipelines.toyweb.oracle_mistakes import FAULTS, OracleSettings
from pipelines.toyweb.oracle_words import is_true
from pipelines.toyweb.scene import Scene, describe_short, parse_description, random_scene, render

SCENES = [random_scene(make_rng(5, "oracle captioner", n)) for n in range(300)]
EXAMPLE = "a small red circle at the top and a large blue cross in the center on a gray background"


def request(scene: Scene, style: str = "detailed", **more: Any) -> CaptionRequest:
    image = Image.fromarray(render(scene, 72, 72))
    key = make_key(repr(scene))
    return CaptionRequest(key=key, image=image, template=TEMPLATES[style], **more)


def example(style: str, **more: Any) -> str:
    scene = parse_description(EXAMPLE)
    assert scene is not None
    (attempt,) = OracleCaptioner(OracleSettings()).caption(
        [request(scene, style, **more)], Sampling()
    )
    return attempt.text_raw


def test_without_mistakes_a_detailed_caption_states_the_scene() -> None:
    attempts = OracleCaptioner(OracleSettings()).caption(
        [request(scene) for scene in SCENES[:60]], Sampling()
    )
    assert [parse_description(one.text_raw) for one in attempts] == SCENES[:60]


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("tags", "red circle, blue cross, gray background"),
        ("short", "a red circle and a blue cross"),
        ("medium", "a red circle and a blue cross on a gray background"),
        ("detailed", EXAMPLE),
        (
            "question",
            "There are two objects on a gray background. A small red circle is at the top. "
            "A large blue cross is in the center.",
        ),
    ],
)
def test_each_style_has_its_words(style: str, text: str) -> None:
    assert example(style) == text


def test_the_alt_text_leaks_where_the_template_shows_it() -> None:
    assert example("alt_conditioned", alt="Two shapes") == f"{EXAMPLE}, called Two shapes"
    assert example("detailed", alt="Two shapes") == EXAMPLE


def test_a_draft_is_rewritten_with_the_names_of_the_alt_text() -> None:
    template = Template(id="fused", version=1, text="{draft} {alt}", max_new_tokens=64)
    asked = CaptionRequest(
        key="0" * 20, image=Image.new("RGB", (8, 8)), template=template, alt="Big Ben",
        draft="a clock",
    )  # fmt: skip
    (attempt,) = OracleCaptioner(OracleSettings()).caption([asked], Sampling())
    assert (attempt.text_raw, attempt.prompt) == ("a clock, called Big Ben", "a clock Big Ben")


def test_of_a_picture_that_is_no_scene_it_says_nothing() -> None:
    noise = make_rng(0, "noise").integers(0, 255, (64, 64, 3), np.uint8)
    asked = CaptionRequest(
        key="0" * 20, image=Image.fromarray(noise), template=TEMPLATES["detailed"]
    )
    (attempt,) = OracleCaptioner(OracleSettings(faults={"stock": 1.0})).caption([asked], Sampling())
    assert attempt.text_raw == ""


def test_slips_are_made_as_often_as_asked_and_named() -> None:
    settings = OracleSettings(slips={"color": 0.3, "object": 0.2})
    captioner = OracleCaptioner(settings)
    counts: Counter[str] = Counter()
    for scene in SCENES:
        answer = captioner.answer(request(scene))
        seen = parse_description(answer.attempt.text_raw)
        assert (seen == scene) == (not answer.slips)
        counts.update(answer.slips)
    # 300 scenes: 90 expected with a standard deviation of 8; a quarter has no room for an object.
    assert abs(counts["color"] - 90) < 32
    assert abs(counts["object"] - 45) < 28
    assert counts.keys() == {"color", "object"}


def test_each_slip_is_wrong_in_its_own_way() -> None:
    scene = parse_description(EXAMPLE)
    assert scene is not None
    for kind in ("color", "place", "count", "object"):
        answer = OracleCaptioner(OracleSettings(slips={kind: 1.0})).answer(request(scene))
        seen = parse_description(answer.attempt.text_raw)
        assert seen is not None
        assert answer.slips == (kind,)
        same = [item for item in seen.objects if item in scene.objects]
        numbers = {"color": (2, 1), "place": (2, 1), "count": (1, 1), "object": (3, 2)}
        assert (len(seen.objects), len(same)) == numbers[kind]


def test_faults_come_in_their_shares_and_at_most_one_a_caption() -> None:
    shares: Any = {"refusal": 0.2, "loop": 0.1, "cut_off": 0.3}
    captioner = OracleCaptioner(OracleSettings(faults=shares))
    answers = [captioner.answer(request(scene)) for scene in SCENES]
    counts = Counter(answer.fault for answer in answers)
    assert counts.keys() == {None, *shares}
    for fault, share in shares.items():
        assert abs(counts[fault] - 300 * share) < 32  # four standard deviations of the largest
    for scene, answer in zip(SCENES, answers, strict=True):
        is_good = parse_description(answer.attempt.text_raw) == scene
        assert is_good == (answer.fault is None)
        assert answer.attempt.finish_reason == (
            "length" if answer.fault in ("loop", "cut_off") else "stop"
        )


def test_every_fault_spoils_the_caption() -> None:
    (scene, *_) = SCENES
    good = OracleCaptioner(OracleSettings()).answer(request(scene)).attempt.text_raw
    for fault in FAULTS:
        answer = OracleCaptioner(OracleSettings(faults={fault: 1.0})).answer(request(scene))
        assert answer.fault == fault
        assert answer.attempt.text_raw != good
        assert (answer.attempt.finish_reason == "error") == (fault == "error")


def test_draws_belong_to_seed_key_and_template_alone() -> None:
    settings = OracleSettings(slips={"color": 0.5}, faults={"stock": 0.3})
    asked = [request(scene, style) for scene in SCENES[:20] for style in ("short", "detailed")]
    one = OracleCaptioner(settings).caption(asked, Sampling())
    backwards = OracleCaptioner(settings).caption(asked[::-1], Sampling())[::-1]
    assert one == backwards
    other = OracleSettings(seed=1, slips=settings.slips, faults=settings.faults)
    assert OracleCaptioner(other).caption(asked, Sampling()) != one


def test_above_temperature_zero_several_captions_of_a_picture_differ() -> None:
    captioner = OracleCaptioner(OracleSettings())
    scene = next(scene for scene in SCENES if len(scene.objects) == 4)
    asked = [request(scene, seed=seed) for seed in range(8)]
    greedy = {one.text_raw for one in captioner.caption(asked, Sampling())}
    drawn = {one.text_raw for one in captioner.caption(asked, Sampling(temperature=1.0))}
    assert len(greedy) == 1
    assert len(drawn) > 3
    assert {parse_description(text) for text in drawn} == {scene}


@pytest.mark.parametrize(
    ("claim", "answer"),
    [
        ("a red circle", True),
        ("A small red circle at the top.", True),
        ("a large red circle", False),
        ("a red circle at the top left", False),
        ("a large blue cross in the center on a gray background", True),
        ("a large blue cross in the center on a black background", False),
        ("a gray background", True),
        ("a white background", False),
        ("a green triangle", False),
        ("a happy dog", False),
    ],
)
def test_claims_are_true_or_false_of_the_scene(claim: str, answer: bool) -> None:
    scene = parse_description(EXAMPLE)
    assert scene is not None
    assert is_true(claim, scene) == answer
    asked = CaptionRequest(
        key="0" * 20, image=Image.fromarray(render(scene, 72, 72)), template=QUESTION, draft=claim
    )
    (attempt,) = OracleCaptioner(OracleSettings()).caption([asked], Sampling())
    assert attempt.text_raw == ("Yes." if answer else "No.")


def test_as_a_verifier_it_confirms_right_captions_and_finds_wrong_ones() -> None:
    wrong = OracleCaptioner(OracleSettings(slips={"color": 1.0}))
    asked = [request(scene) for scene in SCENES[:40] if scene.objects]
    images, keys = [one.image for one in asked], [one.key for one in asked]
    verifier = Verifier(OracleCaptioner(OracleSettings()))
    for captioner, is_right in ((wrong, False), (OracleCaptioner(OracleSettings()), True)):
        texts = [one.text_raw for one in captioner.caption(asked, Sampling())]
        assert all(extract_claims(text) for text in texts)
        assert all((share == 1) == is_right for share in verifier.confirm(images, texts, keys))


def test_settings_come_from_the_file_of_a_pack(tmp_path: Path) -> None:
    path = tmp_path / "oracle.yaml"
    path.write_text("{seed: 3, slips: {color: 1.0}, faults: {hedge: 0.5}}")
    ref = ModelRef(kind="toy_oracle", paths=(path,))
    captioner = CAPTIONERS["toy_oracle"](ref, BatchLimits())
    assert isinstance(captioner, OracleCaptioner)
    assert captioner.settings == OracleSettings(seed=3, slips={"color": 1.0}, faults={"hedge": 0.5})
    assert captioner.provenance.model_digest == ref.digest
    plain = load_oracle_captioner(ModelRef(kind="toy_oracle", paths=()))
    assert plain.settings == OracleSettings()
    assert describe_short(SCENES[0]) == plain.answer(request(SCENES[0], "short")).attempt.text_raw


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{noise: 1}", r"oracle.yaml: must set seed, slips, faults, got \{'noise': 1\}"),
        ("[1]", "must set seed, slips, faults"),
        ("{slips: {shape: 0.1}}", "slips: must give color, place, count, object shares"),
        ("{slips: {color: 2}}", r"shares in \[0, 1\], got \{'color': 2\}"),
        ("{slips: {color: often}}", "slips and faults must map kinds to shares"),
        ("{slips: 0.1}", "slips and faults must map kinds to shares"),
        ("{faults: {loop: 0.7, empty: 0.7}}", "faults: must sum to at most 1, got 1.4"),
        ("{faults: [", "must be readable YAML"),
    ],
)
def test_bad_settings_are_one_line_that_names_the_file(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "oracle.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        load_oracle_captioner(ModelRef(kind="toy_oracle", paths=(path,)))
    assert "\n" not in str(caught.value)

from collections import Counter

import pytest

from curate.core.seed import make_rng
from pipelines.toyweb.alt_text import ALT_SHARES, HUGE_CHARACTERS, draw_alt_class, write_alt
from pipelines.toyweb.scene import COLORS, SHAPES, describe, random_split_scene


def test_good_texts_name_every_coloured_shape():
    for index in range(200):
        rng = make_rng(0, "alt", index)
        scene = random_split_scene(rng, "train")
        text = write_alt("good", scene, "train", rng).lower()
        for item in scene.objects:
            assert f"{item.color} {item.shape}" in text


def test_mismatched_texts_name_none_of_the_coloured_shapes():
    for index in range(200):
        rng = make_rng(1, "alt", index)
        scene = random_split_scene(rng, "train")
        text = write_alt("mismatched", scene, "train", rng).lower()
        assert not any(f"{item.color} {item.shape}" in text for item in scene.objects)
        assert any(f"{color} {shape}" in text for color in COLORS for shape in SHAPES)


@pytest.mark.parametrize("alt_class", ["vague", "spam", "empty"])
def test_useless_texts_name_no_shape(alt_class):
    rng = make_rng(2, "alt", alt_class)
    for _ in range(100):
        text = write_alt(alt_class, random_split_scene(rng, "train"), "train", rng).lower()
        assert not any(shape in text for shape in SHAPES)


def test_some_foreign_texts_are_not_latin():
    rng = make_rng(3, "alt")
    scene = random_split_scene(rng, "train")
    texts = [write_alt("foreign", scene, "train", rng) for _ in range(100)]
    assert any(any("\u0400" <= letter <= "\u04ff" for letter in text) for text in texts)
    assert any(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in texts)
    assert describe(scene) not in texts


def test_huge_texts_have_exactly_100000_characters():
    rng = make_rng(4, "alt")
    scene = random_split_scene(rng, "train")
    assert len(write_alt("huge", scene, "train", rng)) == HUGE_CHARACTERS == 100_000


def test_classes_are_drawn_by_their_shares():
    rng = make_rng(5, "alt")
    counts = Counter(draw_alt_class(rng) for _ in range(4000))
    for name, share in ALT_SHARES.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.03)

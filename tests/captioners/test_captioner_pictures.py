"""Pictures that the toy captioner is trained on: some cut as bucket cuts; words that it knows."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from curate.core.seed import make_rng
from curate.models import packs
from pipelines.toyweb.captioner_pictures import MAX_LOST_FRAC, draw_picture
from pipelines.toyweb.scene import random_scene
from pipelines.toyweb.toy_captioner import build_processor

SHIPPED = Path(packs.__file__).parent / "toy" / "captioner"


def test_a_cut_takes_alike_off_both_ends_of_one_axis() -> None:
    axes: set[int] = set()
    for index in range(20):
        scene = random_scene(make_rng(index, "scene"))
        whole = draw_picture(scene, make_rng(index, "picture"), cut_frac=0.0)
        part = draw_picture(scene, make_rng(index, "picture"), cut_frac=1.0)
        lost = [a - b for a, b in zip(whole.size, part.size, strict=True)]
        assert 0 in lost
        axis = max(range(2), key=lambda i, lost=lost: lost[i])
        assert lost[axis] % 2 == 0
        assert lost[axis] <= MAX_LOST_FRAC * whole.size[axis] + 1
        offset = (lost[0] // 2, lost[1] // 2)
        box = (*offset, offset[0] + part.width, offset[1] + part.height)
        assert whole.crop(box).tobytes() == part.tobytes()
        axes |= {axis} if lost[axis] else set()
    assert axes == {0, 1}


def test_new_instructions_do_not_change_the_shipped_words() -> None:
    built, shipped = build_processor().tokenizer, AutoTokenizer.from_pretrained(SHIPPED)
    assert built.get_vocab() == shipped.get_vocab()

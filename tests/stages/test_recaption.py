"""Recaption writes a row for every attempt, and one for every caption of a dropped duplicate."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.captioners.captioner import CaptionAttempt, Sampling
from curate.captioners.instructions import TEMPLATES
from curate.core.errors import ModelError, ShardError
from curate.core.geometry import Geometry
from curate.core.placement import place
from curate.core.schema import OK
from curate.core.smart_crop import place_picture
from curate.stages.recaptioning.config import ChooseConfig, FuseConfig, TemplateConfig
from curate.stages.recaptioning.rows import CAPTION_SCHEMA, writable
from tests.stages.recaption_run import (
    CLUSTERED,
    PLAIN,
    CountingCaptioner,
    Item,
    Recaption,
    make_items,
)

REWRITE = {"mine": TemplateConfig(text="Shorten {draft}, called {alt}.", max_new_tokens=9)}


def texts(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Give key, source and what was written of the style and the picture."""
    return [(row["key"], row["source"], row["text_raw"].partition(" pixels")[0]) for row in rows]


@pytest.mark.parametrize("schema", [PLAIN, CLUSTERED])
def test_every_kept_picture_has_a_row_for_each_style_in_order(
    tmp_path: Path, schema: pa.Schema
) -> None:
    items = [Item(name="b"), Item(name="a", size=(48, 48)), Item(name="c", keep=False)]
    run = Recaption(tmp_path, items, schema=schema)
    rows = run.run(CountingCaptioner(), styles=["short", "detailed"])
    assert texts(rows) == [
        (items[0].key, "short", "short: a picture of 32x32"),
        (items[0].key, "detailed", "detailed: a picture of 32x32"),
        (items[1].key, "short", "short: a picture of 48x48"),
        (items[1].key, "detailed", "detailed: a picture of 48x48"),
    ]
    assert {row["status"] for row in rows} == {OK}
    assert run.counts == {"in": 2, "kept": 2, "attempts": 4}


def test_a_row_tells_what_was_asked_of_which_model_and_how(tmp_path: Path) -> None:
    captioner = CountingCaptioner()
    (row,) = Recaption(tmp_path, make_items(1)).run(
        captioner, sampling=Sampling(temperature=0.5, top_p=0.9)
    )
    (request,) = captioner.asked
    assert json.loads(row.pop("sampling")) == {
        "temperature": 0.5,
        "top_p": 0.9,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "seed": request.seed,
        "max_new_tokens": 48,
    }
    assert len(row.pop("attempt")) == 20
    assert row == {
        "key": make_items(1)[0].key,
        "status": "ok",
        "source": "short",
        "number": 0,
        "text_raw": f"short: a picture of 32x32 pixels, drawn with seed {request.seed}",
        "template": "short-v1",
        "template_digest": TEMPLATES["short"].digest,
        "prompt": TEMPLATES["short"].text,
        "alt_used": False,
        "parent": "",
        "backend": "test",
        "model": "counting",
        "revision": "",
        "model_digest": "0" * 64,
        "processor_digest": "",
        "dtype": "float32",
        "finish_reason": "stop",
        "prompt_tokens": 0,
        "visual_tokens": 0,
        "tokens": 4,
        "mean_logprob": -0.25,
        "crop_top": 0.0,
        "crop_left": 0.0,
        "crop_height": 32.0,
        "crop_width": 32.0,
        "image_height": 32,
        "image_width": 32,
        "similarity": None,
        "similarity_sentence": None,
        "verified": None,
    }


def test_captions_of_dropped_duplicates_are_rows_of_their_keeper(tmp_path: Path) -> None:
    items = [Item(name="keeper", alternates=["one", "two"]), Item(name="lone")]
    items.append(Item(name="dropped", keep=False, alternates=["three"]))
    run = Recaption(tmp_path, items)
    found = [row for row in run.run(CountingCaptioner()) if row["model"] == "dedup"]
    assert [(row["key"], row["status"], row["source"], row["text_raw"]) for row in found] == [
        (items[0].key, OK, "alternate_1", "one"),
        (items[0].key, OK, "alternate_2", "two"),
    ]
    assert all(row["template"] is None for row in found)
    assert len({row["attempt"] for row in found}) == 2
    assert run.counts == {"in": 2, "kept": 2, "attempts": 2, "alternates": 2}


@pytest.mark.parametrize("crop", ["centre", "random", "smart"])
def test_the_captioner_sees_the_box_that_bucket_cuts_out(tmp_path: Path, crop: Any) -> None:
    geometry = Geometry(resolutions=(16,), step_px=8, max_aspect=1.0, max_crop_frac=0.5, crop=crop)
    item = Item(name="wide", size=(60, 40))
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = np.arange(30, dtype=np.uint8)[:, None] * 8  # detail on the right
    picture = Image.fromarray(pixels)
    captioner = CountingCaptioner()
    (row,) = Recaption(tmp_path, [item], draw=lambda _: picture).run(
        captioner, geometry=geometry, seed=3
    )
    expected = (
        place_picture(item.key, picture, geometry, 16, 3)
        if crop == "smart"
        else place(item.key, 40, 60, geometry, 16, 3)
    )
    assert [row[f"crop_{name}"] for name in ("top", "left", "height", "width")] == pytest.approx(
        [expected.box_top, expected.box_left, expected.box_height, expected.box_width]
    )
    shown = captioner.asked[0].image
    assert shown.size == (40, 40) == (row["image_width"], row["image_height"])
    left = round(expected.box_left)
    assert np.abs(np.asarray(shown).astype(int) - pixels[:, left : left + 40]).mean() < 12


def test_the_whole_picture_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    captioner = CountingCaptioner()
    run = Recaption(tmp_path, [Item(name="wide", size=(60, 40))])
    (row,) = run.run(captioner, picture="whole")
    assert captioner.asked[0].image.size == (60, 40)
    assert (row["crop_height"], row["crop_width"]) == (40, 60)


def test_a_large_picture_is_made_smaller_and_says_so(tmp_path: Path) -> None:
    run = Recaption(tmp_path, [Item(name="large", size=(128, 64))])
    (row,) = run.run(CountingCaptioner(), picture="whole", max_pixels=2048)
    assert (row["image_height"], row["image_width"]) == (32, 64)
    assert (row["crop_height"], row["crop_width"]) == (64, 128)


def test_of_several_resolutions_the_largest_that_takes_the_picture_is_captioned(
    tmp_path: Path,
) -> None:
    geometry = Geometry(
        resolutions=(16, 32, 64), step_px=8, max_aspect=2.0, max_crop_frac=0.5, max_upscale=1.0
    )
    item = Item(name="wide", size=(53, 37))
    (row,) = Recaption(tmp_path, [item]).run(CountingCaptioner(), geometry=geometry)
    expected = place(item.key, 37, 53, geometry, 32, 0)
    assert (row["crop_height"], row["crop_width"]) == pytest.approx(
        (expected.box_height, expected.box_width)
    )


def test_a_picture_that_bucket_leaves_out_is_not_captioned_and_is_counted(tmp_path: Path) -> None:
    captioner = CountingCaptioner()
    run = Recaption(tmp_path, [Item(name="banner", size=(90, 30)), Item(name="good")])
    rows = run.run(captioner)
    assert len(rows) == len(captioner.asked) == 1
    assert run.counts == {"in": 2, "kept": 2, "attempts": 1, "without_caption": 1}


def test_a_style_that_shows_the_alt_text_is_left_out_where_there_is_none(tmp_path: Path) -> None:
    run = Recaption(tmp_path, [Item(name="a", alt="Big Ben"), Item(name="b", alt=" ")])
    rows = run.run(CountingCaptioner(), styles=["alt_conditioned", "short"])
    assert [(row["source"], row["alt_used"]) for row in rows] == [
        ("alt_conditioned", True), ("short", False), ("short", False),
    ]  # fmt: skip
    assert '"Big Ben"' in rows[0]["prompt"]


def test_several_captions_of_a_style_have_numbers_and_seeds_of_their_own(tmp_path: Path) -> None:
    captioner = CountingCaptioner()
    rows = Recaption(tmp_path, make_items(2)).run(
        captioner, per_style=3, sampling=Sampling(temperature=1.0)
    )
    assert [row["number"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert len({request.seed for request in captioner.asked}) == 6
    assert len({row["attempt"] for row in rows}) == 6


def test_each_picture_gets_some_styles_in_the_shares_that_are_asked_for(tmp_path: Path) -> None:
    run = Recaption(tmp_path, make_items(400))
    choose = ChooseConfig(count=1, weights={"short": 3.0, "detailed": 1.0, "tags": 0.0})
    rows = run.run(CountingCaptioner(), styles=["short", "detailed", "tags"], choose=choose)
    styles = Counter(row["source"] for row in rows)
    assert len({row["key"] for row in rows}) == len(rows) == 400
    assert styles.keys() == {"short", "detailed"}
    assert 260 < styles["short"] < 340  # 300 expected, standard deviation 8.7


def test_a_rewriter_gets_clean_drafts_and_its_captions_name_them(tmp_path: Path) -> None:
    class Chatty(CountingCaptioner):
        def _answer(self, request: Any) -> CaptionAttempt:
            return CaptionAttempt(
                text_raw="The image shows a  red house.", prompt="", finish_reason="stop"
            )

    rewriter = CountingCaptioner(model="rewriter")
    rows = Recaption(tmp_path, make_items(1)).run(
        Chatty(), rewriter=rewriter, styles=["detailed", "short"], templates=REWRITE,
        fuse=[FuseConfig(template="mine", draft="detailed")],
    )  # fmt: skip
    assert [row["source"] for row in rows] == ["detailed", "short", "mine"]
    assert rows[2]["parent"] == rows[0]["attempt"]
    assert (rows[2]["model"], rows[2]["template"]) == ("rewriter", "mine-v1")
    assert rows[2]["prompt"] == "Shorten A red house., called words of the page."
    assert rows[0]["text_raw"] == "The image shows a  red house."


@pytest.mark.parametrize(
    ("text", "finish_reason"),
    [
        ("I'm sorry, but I can't describe this image.", "stop"),
        ("a red house " * 40, "length"),
        ("", "stop"),
    ],
)
def test_a_draft_that_judge_would_reject_is_not_rewritten(
    tmp_path: Path, text: str, finish_reason: Any
) -> None:
    class Useless(CountingCaptioner):
        def _answer(self, request: Any) -> CaptionAttempt:
            return CaptionAttempt(text_raw=text, prompt="", finish_reason=finish_reason)

    rewriter = CountingCaptioner()
    (row,) = Recaption(tmp_path, make_items(1)).run(
        Useless(), rewriter=rewriter, styles=["detailed"], templates=REWRITE,
        fuse=[FuseConfig(template="mine")],
    )  # fmt: skip
    assert (row["source"], rewriter.calls) == ("detailed", 0)


def test_there_is_nothing_to_rewrite_where_the_captioner_failed(tmp_path: Path) -> None:
    bad = make_items(2)[0].key
    rewriter = CountingCaptioner()
    rows = Recaption(tmp_path, make_items(2)).run(
        CountingCaptioner(fails=lambda request: request.key == bad),
        rewriter=rewriter, styles=["detailed"], templates=REWRITE,
        fuse=[FuseConfig(template="mine")],
    )  # fmt: skip
    assert [(row["source"], row["status"]) for row in rows] == [
        ("detailed", "captioner_error"), ("detailed", "ok"), ("mine", "ok"),
    ]  # fmt: skip


def test_a_picture_the_captioner_fails_on_has_rows_that_say_so(tmp_path: Path) -> None:
    items = make_items(3)
    captioner = CountingCaptioner(fails=lambda request: request.key == items[1].key)
    run = Recaption(tmp_path, items)
    rows = run.run(captioner)
    assert [row["status"] for row in rows] == ["ok", "captioner_error", "ok"]
    assert (rows[1]["text_raw"], rows[1]["finish_reason"]) == ("no way", "error")
    assert run.counts == {
        "in": 3, "kept": 3, "attempts": 2, "captioner_error": 1, "without_caption": 1,
    }  # fmt: skip


def test_a_captioner_that_fails_on_every_picture_of_a_shard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"00000: the captioner must answer .* got 3 errors"):
        Recaption(tmp_path, make_items(3)).run(CountingCaptioner(fails=lambda _: True))


def test_a_captioner_that_fails_on_many_pictures_ends_the_run_at_once(tmp_path: Path) -> None:
    captioner = CountingCaptioner(fails=lambda _: True)
    with pytest.raises(ModelError, match=r"counting: must answer .* got 'no way' for all of 8;"):
        Recaption(tmp_path, make_items(20)).run(captioner, window=8)
    assert captioner.calls == 1


def test_a_lone_picture_the_captioner_fails_on_is_no_error_of_the_stage(tmp_path: Path) -> None:
    (row,) = Recaption(tmp_path, make_items(1)).run(CountingCaptioner(fails=lambda _: True))
    assert row["status"] == "captioner_error"


def test_windows_and_threads_change_no_byte(tmp_path: Path) -> None:
    items = [Item(name=f"{n}", size=(24 + n, 30)) for n in range(11)]
    tables: set[bytes] = set()
    for number, (window, threads) in enumerate([(1, 1), (3, 2), (64, 4)]):
        run = Recaption(tmp_path / str(number), items)
        run.run(
            CountingCaptioner(), rewriter=CountingCaptioner(model="rewriter"),
            styles=["detailed", "tags"], templates=REWRITE, fuse=[FuseConfig(template="mine")],
            window=window, threads=threads,
        )  # fmt: skip
        tables.add(run.table.read_bytes())
    assert len(tables) == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a \ud83d house", "a \ufffd house"), ("\u4e2d\U0001f600", "\u4e2d\U0001f600"), ("", "")],
)
def test_half_a_surrogate_pair_is_replaced_and_nothing_else(text: str, kept: str) -> None:
    assert writable(text) == kept


def test_any_script_and_length_goes_into_the_table(tmp_path: Path) -> None:
    class Odd(CountingCaptioner):
        def _answer(self, request: Any) -> CaptionAttempt:
            long = "\u0627\u0644 \U0001f600\x00\n\udc80" * 14_300  # 100,100 characters
            return CaptionAttempt(text_raw=long, prompt="", finish_reason="length")

    (row,) = Recaption(tmp_path, make_items(1)).run(Odd())
    assert len(row["text_raw"]) == 100_100
    assert row["text_raw"].startswith("\u0627\u0644 \U0001f600\x00\n\ufffd")
    assert list(row) == CAPTION_SCHEMA.names

"""What was captioned once is never asked for again, whatever is killed, added or measured anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.captioners.captioner import CaptionAttempt, CaptionerLost, CaptionRequest, Sampling
from curate.core.remote_store import RemoteStore
from curate.core.store import LocalStore
from curate.stages.recaptioning.config import FuseConfig, TemplateConfig
from curate.stages.recaptioning.journal import Journal, forget
from curate.stages.recaptioning.rows import CAPTION_SCHEMA
from curate.stages.recaptioning.scores import Scorer
from tests.stages.recaption_run import SHARD, CountingCaptioner, Recaption, make_items

REWRITE = {"mine": TemplateConfig(text="Shorten {draft}.", max_new_tokens=9)}


class Killed(BaseException):
    """Stand for a SIGKILL: nothing catches it."""


class MortalCaptioner(CountingCaptioner):
    """Answer some calls, then die."""

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        if self.calls == 2:
            raise Killed
        return super().caption(requests, sampling)


class LostCaptioner(CountingCaptioner):
    """Answer half of the second call, then find the server gone."""

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        attempts = super().caption(requests, sampling)
        if self.calls == 2:
            raise CaptionerLost("server: is gone", {1: attempts[1], 3: attempts[3]})
        return attempts


class WidthModel:
    """Embed pictures and texts so that every cosine is a given number."""

    name, dim = "width", 2

    def __init__(self, cosine: float) -> None:
        self._text = np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)
        self.num_images = 0

    def embed_images(self, images: Sequence[Image.Image]) -> Any:
        self.num_images += len(images)
        return np.tile(np.array([1, 0], np.float32), (len(images), 1))

    def embed_texts(self, texts: Sequence[str]) -> Any:
        return np.tile(self._text, (len(texts), 1))

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        return [False] * len(texts)


def lines_of(run: Recaption) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.journal.read_text().splitlines()]


def test_the_journal_holds_all_of_the_table_and_when_and_how_fast(tmp_path: Path) -> None:
    run = Recaption(tmp_path, make_items(3))
    rows = run.run(CountingCaptioner())
    lines = lines_of(run)
    assert [{name: line[name] for name in CAPTION_SCHEMA.names} for line in lines] == rows
    for line in lines:
        assert line["created_at"].endswith("+00:00")
        assert line["version"] == "1.0"
        assert 0 < line["seconds"] < 60
        assert {"latency_s", "batch_size", "model_reported", "answer_id"} <= line.keys()


def test_a_shard_that_runs_again_asks_nothing_and_has_the_same_bytes(tmp_path: Path) -> None:
    run = Recaption(tmp_path, make_items(5))
    run.run(CountingCaptioner(), styles=["short", "detailed"])
    before, journal = run.table.read_bytes(), run.journal.read_bytes()
    again = CountingCaptioner()
    run.run(again, styles=["short", "detailed"])
    assert again.calls == 0
    assert run.table.read_bytes() == before
    assert run.journal.read_bytes() == journal


def test_a_style_that_is_added_is_all_that_is_asked(tmp_path: Path) -> None:
    run = Recaption(tmp_path, make_items(5))
    run.run(CountingCaptioner(), styles=["short"])
    first = run.journal.read_bytes()
    added = CountingCaptioner()
    rows = run.run(added, styles=["detailed", "short"])
    assert added.styles_asked() == {"detailed": 5}
    assert [row["source"] for row in rows] == ["detailed", "short"] * 5
    assert run.journal.read_bytes().startswith(first)


def test_a_kill_in_the_middle_costs_one_window_and_changes_no_byte(tmp_path: Path) -> None:
    whole = Recaption(tmp_path / "whole", make_items(10))
    whole.run(CountingCaptioner(), window=3)
    run = Recaption(tmp_path / "killed", make_items(10))
    with pytest.raises(Killed):
        run.run(MortalCaptioner(), window=3)
    assert len(lines_of(run)) == 6
    after = CountingCaptioner()
    run.run(after, window=3)
    assert len(after.asked) == 4
    assert run.table.read_bytes() == whole.table.read_bytes()


def test_what_was_answered_before_the_server_was_lost_is_not_asked_again(tmp_path: Path) -> None:
    whole = Recaption(tmp_path / "whole", make_items(10))
    whole.run(CountingCaptioner(), window=5)
    run = Recaption(tmp_path / "lost", make_items(10))
    with pytest.raises(CaptionerLost, match="is gone"):
        run.run(LostCaptioner(), window=5)
    after = CountingCaptioner()
    run.run(after, window=5)
    keys = [one.key for one in make_items(10)]
    assert [request.key for request in after.asked] == [keys[5], keys[7], keys[9]]
    assert run.table.read_bytes() == whole.table.read_bytes()


def test_a_rewriter_that_breaks_costs_no_answer_of_the_captioner(tmp_path: Path) -> None:
    class Broken(CountingCaptioner):
        def caption(
            self, requests: Sequence[CaptionRequest], sampling: Sampling
        ) -> list[CaptionAttempt]:
            raise RuntimeError("out of memory")

    run = Recaption(tmp_path, make_items(3))
    settings: Any = {
        "styles": ["detailed"], "templates": REWRITE, "fuse": [FuseConfig(template="mine")],
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="out of memory"):
        run.run(CountingCaptioner(), rewriter=Broken(model="rewriter"), **settings)
    assert all(line["seconds"] > 0 for line in lines_of(run))
    again = CountingCaptioner()
    rows = run.run(again, rewriter=CountingCaptioner(model="rewriter"), **settings)
    assert (again.calls, len(rows)) == (0, 6)


@pytest.mark.parametrize("cut", [1, 30])
def test_a_line_that_a_kill_cut_short_counts_as_never_written(tmp_path: Path, cut: int) -> None:
    run = Recaption(tmp_path, make_items(4))
    run.run(CountingCaptioner())
    before = run.table.read_bytes()
    run.journal.write_bytes(run.journal.read_bytes()[:-cut])
    again = CountingCaptioner()
    run.run(again)
    assert len(again.asked) == (0 if cut == 1 else 1)
    assert run.table.read_bytes() == before
    final = CountingCaptioner()
    run.run(final)
    assert final.calls == 0


def test_lines_of_another_version_and_other_texts_are_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Recaption(tmp_path, make_items(2))
    run.run(CountingCaptioner())
    run.journal.write_text('{"attempt": "abc"}\n[1]\nnull\nnot json\n')
    again = CountingCaptioner()
    run.run(again)
    assert len(again.asked) == 2
    assert "1 lines are of another version" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"sampling": Sampling(temperature=0.5)},
        {"picture": "whole", "max_pixels": 1024, "size": (64, 64)},
    ],
)
def test_other_seeds_sampling_or_views_are_other_attempts(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    size = change.pop("size", (32, 32))
    run = Recaption(tmp_path, make_items(3), draw=lambda _: Image.new("RGB", size))
    run.run(CountingCaptioner())
    other = CountingCaptioner()
    run.run(other, **change)
    assert len(other.asked) == 3


def test_another_model_is_asked_and_the_first_one_is_remembered(tmp_path: Path) -> None:
    run = Recaption(tmp_path, make_items(3))
    run.run(CountingCaptioner(model="one"))
    before = run.table.read_bytes()
    run.run(two := CountingCaptioner(model="two"))
    run.run(one := CountingCaptioner(model="one"))
    assert (len(two.asked), len(one.asked)) == (3, 0)
    assert run.table.read_bytes() == before


def test_a_picture_the_captioner_failed_on_is_asked_about_again(tmp_path: Path) -> None:
    items = make_items(3)
    run = Recaption(tmp_path, items)
    run.run(CountingCaptioner(fails=lambda request: request.key == items[0].key))
    again = CountingCaptioner()
    rows = run.run(again)
    assert [request.key for request in again.asked] == [items[0].key]
    assert {row["status"] for row in rows} == {"ok"}
    assert len(lines_of(run)) == 4


def test_one_odd_picture_asked_about_alone_again_ends_nothing(tmp_path: Path) -> None:
    items = make_items(12)
    bad = {one.key for one in items[:9]}
    run = Recaption(tmp_path, items)
    run.run(CountingCaptioner(fails=lambda request: request.key in bad))
    rows = run.run(CountingCaptioner(fails=lambda request: request.key in bad))
    assert sum(row["status"] == "captioner_error" for row in rows) == 9


def test_drafts_that_are_there_are_rewritten_without_a_question_to_the_captioner(
    tmp_path: Path,
) -> None:
    run = Recaption(tmp_path, make_items(3))
    run.run(CountingCaptioner(), styles=["detailed"])
    captioner, rewriter = CountingCaptioner(), CountingCaptioner(model="rewriter")
    rows = run.run(
        captioner, rewriter=rewriter, styles=["detailed"], templates=REWRITE,
        fuse=[FuseConfig(template="mine")],
    )  # fmt: skip
    assert (captioner.calls, len(rewriter.asked)) == (0, 3)
    assert [row["source"] for row in rows] == ["detailed", "mine"] * 3


def test_captions_are_measured_once_and_anew_by_another_model_only(tmp_path: Path) -> None:
    run = Recaption(tmp_path, make_items(3))
    first, same, other = WidthModel(0.25), WidthModel(0.25), WidthModel(0.75)
    captioner = CountingCaptioner()
    rows = run.run(captioner, scorer=Scorer(first, None, {"image_text": "a"}))
    assert (
        {row["similarity"] for row in rows}
        == {0.25}
        == {row["similarity_sentence"] for row in rows}
    )
    before = run.table.read_bytes()
    run.run(captioner, scorer=Scorer(same, None, {"image_text": "a"}))
    assert run.table.read_bytes() == before
    rows = run.run(captioner, scorer=Scorer(other, None, {"image_text": "b"}))
    assert {row["similarity"] for row in rows} == {0.75}
    assert (first.num_images, same.num_images, other.num_images) == (3, 0, 3)
    assert captioner.calls == 1


def test_a_text_that_cannot_be_measured_has_nulls_and_its_neighbours_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Choosy(WidthModel):
        def embed_images(self, images: Sequence[Image.Image]) -> Any:
            if any(image.width == 40 for image in images):
                raise ValueError("not this one")
            return super().embed_images(images)

    items = make_items(3)
    run = Recaption(
        tmp_path, items,
        draw=lambda one: Image.new("RGB", (40, 40) if one is items[1] else (32, 32)),
    )  # fmt: skip
    rows = run.run(CountingCaptioner(), scorer=Scorer(Choosy(0.5), None, {}))
    assert [row["similarity"] for row in rows] == [0.5, None, 0.5]
    assert f"no scores for a caption of {items[1].key}" in caplog.text


def test_a_takedown_takes_a_samples_lines_out_and_no_others(tmp_path: Path) -> None:
    items = make_items(3)
    run = Recaption(tmp_path, items)
    run.run(CountingCaptioner(), styles=["short", "detailed"])
    kept = [line for line in run.journal.read_text().splitlines() if items[1].key not in line]
    assert forget(LocalStore(tmp_path / "recaption"), {items[1].key}) == 2
    assert run.journal.read_text().splitlines() == kept
    assert forget(LocalStore(tmp_path / "recaption"), {items[1].key}) == 0


def make_remote(folder: Path, name: str) -> RemoteStore:
    return RemoteStore(f"memory://{name}/{folder.name}/recaption")


def test_an_object_store_gets_the_whole_journal_at_the_end(tmp_path: Path) -> None:
    local = Recaption(tmp_path / "local", make_items(7))
    local.run(CountingCaptioner(), window=2)
    store = make_remote(tmp_path, "end")
    run = Recaption(tmp_path / "remote", make_items(7), own=store)
    run.run(CountingCaptioner(), window=2)
    lines = store.read(f"journal/{SHARD}.jsonl").splitlines()
    assert [json.loads(line)["attempt"] for line in lines] == [
        line["attempt"] for line in lines_of(local)
    ]
    again = CountingCaptioner()
    run.run(again)
    assert again.calls == 0


def test_what_was_not_uploaded_before_a_kill_is_found_on_this_machine(tmp_path: Path) -> None:
    store = make_remote(tmp_path, "kill")
    run = Recaption(tmp_path, make_items(10), own=store)
    with pytest.raises(Killed):
        run.run(MortalCaptioner(), window=3)
    assert not store.exists(f"journal/{SHARD}.jsonl")  # too little to upload yet
    after = CountingCaptioner()
    run.run(after, window=3)
    assert len(after.asked) == 4
    assert len(store.read(f"journal/{SHARD}.jsonl").splitlines()) == 10


def test_uploads_grow_with_the_journal_so_that_their_sum_stays_linear(tmp_path: Path) -> None:
    class Counted(RemoteStore):
        uploaded = 0

        def child(self, name: str) -> Counted:
            return Counted(f"{self.url}/{name}")

        def write(self, name: str, data: bytes) -> None:
            Counted.uploaded += len(data)
            super().write(name, data)

    store = Counted(f"memory://grow/{tmp_path.name}/recaption")
    journal = Journal(store, SHARD, tmp_path / "scratch")
    line = dict.fromkeys((*CAPTION_SCHEMA.names, "scorer", "seconds"), "x")
    for start in range(0, 3000, 20):
        rows = [{**line, "attempt": f"{n:020d}", "status": "ok"} for n in range(start, start + 20)]
        journal.append(rows)
    journal.push()
    assert Counted.uploaded < 10 * len(store.read(f"journal/{SHARD}.jsonl"))
    assert len(Journal(store, SHARD, tmp_path / "other").read()) == 3000

"""Judge writes a verdict for every attempt, and drops no sample for its captions."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curate.captioners.instructions import TEMPLATES
from curate.captioners.thresholds import Thresholds
from curate.core.errors import ConfigError
from curate.core.schema import make_key
from curate.core.seed import make_rng
from curate.models.packs import load_pack
from curate.stages.judging.config import Cut, JudgeConfig
from curate.stages.judging.verdicts import JUDGE_SCHEMA
from tests.stages.judge_run import Judge, attempt

GOOD = "A brown dog lies on a green sofa. A window is behind it. It rains outside."
CUT = Cut(source="detailed", name="first", max_words=12)


def statuses(rows: list[dict]) -> list[str]:
    return [row["status"] for row in rows]


def test_every_attempt_has_a_verdict_with_all_its_reasons(tmp_path: Path) -> None:
    looped = "USER: a cat " + "and a dog " * 30
    judge = Judge(
        tmp_path,
        [
            [
                attempt("a", f"The image shows {GOOD[0].lower()}{GOOD[1:]}"),
                attempt("a", looped, "short", finish_reason="length"),
                attempt("b", "I'm sorry, but I cannot describe this image."),
                attempt("c", "TimeoutError: no answer", status="captioner_error"),
            ]
        ],
    )
    rows = judge.run()
    assert statuses(rows) == ["ok", "leak", "refusal", "captioner_error"]
    assert [row["reasons"] for row in rows] == [
        [],
        ["leak", "repetition", "cut_off"],
        ["refusal"],
        ["captioner_error"],
    ]
    assert (rows[0]["text"], rows[0]["boilerplate"]) == (GOOD, True)
    assert judge.counts == {
        "in": 3,
        "kept": 3,
        "without_caption": 2,
        "accepted.detailed": 1,
        "rejected.detailed.refusal": 1,
        "rejected.detailed.captioner_error": 1,
        "rejected.short.leak": 1,
        "stripped.detailed": 1,
    }


def test_the_table_joins_recaption_by_attempt(tmp_path: Path) -> None:
    given = [attempt("a", GOOD, number=1, tokens=17, similarity=0.25, verified=0.5)]
    (row,) = Judge(tmp_path, [given]).run()
    assert list(row) == JUDGE_SCHEMA.names
    kept = ("key", "attempt", "source", "number", "tokens", "similarity", "verified", "parent")
    assert {name: row[name] for name in kept} == {name: given[0][name] for name in kept}
    assert (row["pictures"], row["words"], row["language"]) == (1, 16, None)


def test_captions_of_duplicates_are_not_judged_but_must_be_there(tmp_path: Path) -> None:
    web = {"model": "dedup", "parent": None, "finish_reason": None, "prompt": None}
    judge = Judge(
        tmp_path,
        [
            [
                attempt("a", "The image shows:  IMG_1", "alternate_1", **web),
                attempt("a", "", "alternate_2", **web),
                attempt("b", "x", "short"),
            ]
        ],
    )
    rows = judge.run()
    assert statuses(rows) == ["ok", "empty", "too_short"]
    assert (rows[0]["text"], rows[0]["boilerplate"]) == ("The image shows:  IMG_1", False)
    assert judge.counts == {
        "in": 2, "kept": 2, "without_caption": 2, "rejected.short.too_short": 1
    }  # fmt: skip


def test_a_cut_keeps_whole_sentences_and_stands_behind_its_parent(tmp_path: Path) -> None:
    judge = Judge(tmp_path, [[attempt("a", GOOD), attempt("b", GOOD, "short")]])
    parent, cut, other = judge.run(JudgeConfig(cuts=[CUT]))
    assert (cut["source"], cut["text"]) == ("first", "A brown dog lies on a green sofa.")
    assert (cut["parent"], parent["parent"], other["source"]) == (parent["attempt"], "", "short")
    assert cut["attempt"] == make_key(parent["attempt"], "cut", "first", "12")
    assert (cut["status"], cut["words"], cut["similarity"]) == ("ok", 8, None)


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        (GOOD + " It is", {"finish_reason": "length"}, ["cut_off", "ok"]),
        (GOOD + " It is", {"finish_reason": "content_filter"}, ["cut_off", "ok"]),
        ("A dog lies on", {"finish_reason": "length"}, ["cut_off", "empty"]),
        ("I cannot describe this image. A dog.", {}, ["refusal", "refusal"]),
        (f"{GOOD} ```", {}, ["leak", "parent"]),
        ("Error: x", {"status": "captioner_error"}, ["captioner_error"]),
    ],
)
def test_a_cut_is_good_only_where_its_parent_is_bad_at_the_end(
    tmp_path: Path, text: str, more: dict, expected: list[str]
) -> None:
    rows = Judge(tmp_path, [[attempt("a", text, **more)]]).run(JudgeConfig(cuts=[CUT]))
    assert statuses(rows) == expected


def test_cut_off_texts_end_at_their_last_sentence_where_that_is_asked(tmp_path: Path) -> None:
    given = [attempt("a", GOOD + " It", finish_reason="length"), attempt("b", GOOD + " It")]
    judge = Judge(tmp_path, [[*given, attempt("c", "A dog lies on", finish_reason="length")]])
    rows = judge.run(JudgeConfig(rules=Thresholds(cut_off="trim")))
    assert statuses(rows) == ["ok", "ok", "cut_off"]
    assert [row["text"] for row in rows] == [GOOD, GOOD + " It", "A dog lies on"]


def shards_of_stock() -> list[list[dict]]:
    """Give "a stock text" to six samples of three shards, twice to one, and to a duplicate's."""
    shards = [
        [attempt(f"{shard}-{i}", text) for i, text in enumerate(["A Stock  text", "a stock text"])]
        for shard in range(3)
    ]
    shards[0].append(attempt("0-0", "a stock text", "short"))
    shards[1].append(attempt("1-5", "a text of its own"))
    shards[2].append(attempt("2-5", "a stock text", "alternate_1", model="dedup"))
    return shards


@pytest.mark.parametrize("bin_entries", [1000, 2])
def test_texts_are_counted_by_sample_over_all_shards(tmp_path: Path, bin_entries: int) -> None:
    rules = Thresholds(max_pictures=5)
    config = JudgeConfig(rules=rules, bin_entries=bin_entries)
    rows = Judge(tmp_path, shards_of_stock()).run(config)
    found = {(row["pictures"], row["status"]) for row in rows if "ock" in row["text"]}
    assert found == {(6, "stock"), (6, "ok")}  # "ok" is the duplicate's
    assert [row["pictures"] for row in rows if row["text"] == "a text of its own"] == [1]


def test_a_text_is_stock_above_a_share_of_all_samples(tmp_path: Path) -> None:
    judge = Judge(tmp_path, shards_of_stock())
    share = Thresholds(max_pictures=0, max_pictures_frac=6 / 8)
    assert set(statuses(judge.run(JudgeConfig(rules=share)))) == {"ok"}
    lower = Thresholds(max_pictures=0, max_pictures_frac=0.7)
    assert statuses(judge.run(JudgeConfig(rules=lower))).count("stock") == 7
    off = Thresholds(max_pictures=0, max_pictures_frac=None)
    assert set(statuses(judge.run(JudgeConfig(rules=off)))) == {"ok"}


def test_the_least_similar_share_of_each_source_is_rejected(tmp_path: Path) -> None:
    shards = [
        [
            attempt(f"{shard}-{i}", f"{GOOD} {i}", source, similarity_sentence=base + i / 100)
            for i in range(5)
            for source, base in (("short", 0.1), ("long", 0.5))
        ]
        for shard in range(2)
    ]
    judge = Judge(tmp_path, [*shards, [attempt("x", GOOD, "short")]])
    rows = judge.run(JudgeConfig(rules=Thresholds(similarity_top_frac=0.6)))
    for source, line in (("short", 0.12), ("long", 0.52)):
        own = [row for row in rows if row["source"] == source]
        scores = [row["similarity_sentence"] for row in own]
        fires = [score is not None and score < line - 1e-6 for score in scores]
        assert [row["reasons"] == ["similarity"] for row in own] == fires
        assert sum(fires) == 4


def test_a_source_has_thresholds_of_its_own(tmp_path: Path) -> None:
    given = [attempt("a", "dog", "tags"), attempt("a", "dog", "short")]
    rules = Thresholds(min_verified=0.9, min_similarity=0.2)
    config = JudgeConfig(rules=rules, by_source={"tags": {"min_words": 1}})
    judge = Judge(tmp_path, [[*given, attempt("b", GOOD, similarity=0.1, verified=0.8)]])
    rows = judge.run(config)
    assert [row["reasons"] for row in rows] == [[], ["too_short"], ["similarity", "verified"]]


def test_other_thresholds_measure_nothing_again(tmp_path: Path) -> None:
    judge = Judge(tmp_path, [[attempt("a", GOOD)], [attempt("b", GOOD)]])
    judge.run()
    assert judge.report.num_run == 5
    judge.run()
    assert judge.report.num_run == 0
    judge.run(JudgeConfig(rules=Thresholds(max_words=9)))
    assert judge.report.num_run == 2
    judge.run(JudgeConfig(rules=Thresholds(max_words=9, cut_off="trim")))
    assert judge.report.num_run > 2


def test_instructions_that_a_caption_repeats_are_leaks(tmp_path: Path) -> None:
    known = TEMPLATES["detailed"]
    prompt = "<|im_start|>user\n<image>Write all that you can see here.<|im_end|>\n"
    shown = "Rewrite the old words of the web: a dog on a sofa"
    rows = Judge(
        tmp_path,
        [
            [
                attempt("a", f"{known.text} {GOOD}", template_digest=known.digest),
                attempt("b", f"Write all that you can see here: {GOOD}", prompt=prompt),
                attempt(
                    "c", "The old words of the web: a dog on a sofa", prompt=shown, alt_used=True
                ),
            ]
        ],
    ).run()
    assert statuses(rows) == ["leak", "leak", "ok"]


def test_other_languages_are_rejected_where_the_pack_knows_languages(tmp_path: Path) -> None:
    german = "Ein brauner Hund liegt auf einem grünen Sofa vor dem Fenster."
    models = {"language": load_pack("toy")["language"]}
    judge = Judge(tmp_path, [[attempt("a", german), attempt("b", GOOD)]], models)
    assert {row["language"] for row in judge.run()} == {"de", "en"}
    rows = judge.run(JudgeConfig(rules=Thresholds(languages=["en"])))
    assert statuses(rows) == ["language", "ok"]


def test_bytes_do_not_hang_on_bins_or_on_the_order_of_work(tmp_path: Path) -> None:
    words = "".join(chr(97 + n) for n in range(26))
    rng = make_rng(0, "judge")
    shards = [
        [attempt(f"{shard}-{i}", " ".join(rng.choice(list(words), 6)), number=i) for i in range(40)]
        for shard in range(4)
    ]
    found: list[list[bytes]] = []
    for name, bin_entries in (("one", 10_000), ("many", 7)):
        judge = Judge(tmp_path / name, shards)
        judge.run(JudgeConfig(bin_entries=bin_entries, cuts=[CUT]))
        paths = sorted((tmp_path / name / "judge").glob("0*.parquet"))
        found.append([path.read_bytes() for path in paths])
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_shards_without_attempts_are_judged(tmp_path: Path) -> None:
    judge = Judge(tmp_path, [[], [attempt("a", "")]])
    assert statuses(judge.run(JudgeConfig(cuts=[CUT]))) == ["empty", "empty"]
    assert judge.counts["without_caption"] == 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: JudgeConfig(bin_entries=0), "judge.bin_entries"),
        (lambda: JudgeConfig(by_source={"tags": {"min_word": 1}}), "judge.by_source.tags"),
        (lambda: JudgeConfig(by_source={"tags": {"min_words": -1}}), "judge.rules.min_words"),
        (lambda: JudgeConfig(cuts=[CUT, CUT]), "judge.cuts"),
        (lambda: Cut(source="a", name="a"), "judge.cuts"),
        (lambda: Cut(source="a", name="alternate_1"), "judge.cuts: .* a name of its own"),
        (lambda: Cut(source="a", name="pooled"), "judge.cuts: .* a name of its own"),
        (lambda: Cut(source="a", name="b", max_words=0), "judge.cuts.b"),
        (lambda: Thresholds(min_words=9, max_words=8), "judge.rules.min_words"),
        (lambda: Thresholds(cut_off="keep"), "judge.rules.cut_off"),  # pyright: ignore
        (lambda: Thresholds(similarity_top_frac=0), "judge.rules.similarity_top_frac"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(bad, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bad()


def test_the_schema_has_no_column_twice() -> None:
    assert len(set(JUDGE_SCHEMA.names)) == len(JUDGE_SCHEMA)
    assert JUDGE_SCHEMA.field("reasons").type == pa.list_(pa.string())

"""The page says of every source of captions what was accepted, and why the rest was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.core.schema import make_key
from curate.core.shard import ShardSet
from curate.core.stage import Place
from eval.intervals import wilson_interval
from eval.report import ReportConfig, ReportContext, ReportStage
from eval.report_captions import RejectedCaption, measure_judged

COLUMNS = [
    ("source", pa.string()),
    ("text", pa.string()),
    ("words", pa.int32()),
    ("boilerplate", pa.bool_()),
    ("hedges", pa.float32()),
]


def row(name: str, source: str, status: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "key": make_key(name),
        "status": status,
        "source": source,
        "text": f"{source} of {name}",
        "words": 5,
        "boilerplate": False,
        "hedges": 0.0,
        **more,
    }


@pytest.fixture
def judge(make_shards: Any) -> ShardSet:
    rows = [
        row("a", "detailed", words=40, boilerplate=True),
        row("a", "short"),
        row("b", "detailed", words=20, hedges=0.5),
        row("b", "short", "refusal", text="I cannot", boilerplate=True, words=2),
        row("c", "detailed", "repetition", text="<b>a a a</b>", hedges=9.0, words=900),
        row("c", "short", "refusal", text="Sorry"),
        row("c", "alternate_1", text="of a duplicate"),
    ]
    return make_shards("judge", rows, COLUMNS, unique_keys=False)


def test_sources_are_summed_up(judge: ShardSet) -> None:
    judged = measure_judged(judge, 4)
    assert judged is not None
    detailed, short = judged.sources
    assert (detailed.source, short.source) == ("detailed", "short")
    assert (detailed.num, short.num) == (3, 3)
    assert detailed.accepted == pytest.approx(2 / 3)
    interval = wilson_interval(2 / 3, 3)
    assert (detailed.low, detailed.high) == (interval.low, interval.high)
    assert (detailed.words, detailed.many_words, short.words) == (20, 40, 5)
    assert (detailed.stripped, detailed.hedged) == (pytest.approx(1 / 3), 0.5)
    assert (short.stripped, short.hedged) == (pytest.approx(1 / 3), 0.0)
    assert (detailed.reasons, short.reasons) == ({"repetition": 1}, {"refusal": 2})
    assert judged.reasons == ["refusal", "repetition"]


def test_rejected_captions_stand_beside_accepted_ones_of_their_pictures(judge: ShardSet) -> None:
    judged = measure_judged(judge, 4)
    assert judged is not None
    shown = {(item.reason, item.text): item for item in judged.examples}
    assert shown["refusal", "I cannot"] == RejectedCaption(
        reason="refusal", source="short", text="I cannot", accepted="detailed of b"
    )
    assert shown["refusal", "Sorry"].accepted == ""
    fewer = measure_judged(judge, 1)
    assert fewer is not None
    assert [item.reason for item in fewer.examples] == ["refusal", "repetition"]


def test_without_verdicts_there_is_nothing(make_shards: Any) -> None:
    assert measure_judged(None, 4) is None
    assert measure_judged(make_shards("judge", [{"key": make_key("a")}]), 4) is None


def test_the_page_has_the_table_and_escapes_what_models_wrote(
    tmp_path: Path, judge: ShardSet
) -> None:
    context = ReportContext(pipeline="demo", command="curate run", config_yaml="", meanings={})
    stage = ReportStage(ReportConfig(), {"judge": judge}, {}, seed=0, context=context)
    (task,) = next(stage.waves())
    stage.run(task, Place(out=tmp_path, scratch=tmp_path))
    html = (tmp_path / "index.html").read_text()
    assert '<section id="judged">' in html
    assert "66.7 %" in html
    assert "&lt;b&gt;a a a" in html and "<b>a a a" not in html
    assert "of a duplicate" not in html

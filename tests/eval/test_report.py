from __future__ import annotations

import io
import json
from base64 import b64decode
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.core.errors import ConfigError, ShardError
from curate.core.shard import ShardSet
from curate.core.stage import Place
from eval.metrics import Number
from eval.report import ReportConfig, ReportContext, ReportStage
from eval.report_ingest import Meaning
from eval.report_model import describe_score, read_losses
from eval.report_page import format_number, format_percent, format_share
from eval.report_rules import GroupChange, NearSample, RuleFacts
from eval.results import Results
from eval.truth import TruthRow

ATTACK = "<script>alert('caption')</script>"
REPEATS = tuple(f"repeats.{name}" for name in ("pictures", "captions", "hosts", "texts"))
VERDICTS = [("keep", pa.bool_()), ("reason", pa.string())]


class Page(HTMLParser):
    """Collect what a browser would act on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sections: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.ids.append(values.get("id") or "")
        if tag == "section":
            self.sections.append(values.get("id") or "")
        self.sources += [values[name] or "" for name in ("src", "srcset") if name in values]
        if tag in ("a", "link"):
            self.sources.append(values.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run_tree(make_shards: Any, toy: Any) -> dict[str, ShardSet]:
    """A whole run of eight samples, each stage with the columns it really writes."""
    keys = [toy.key(str(i)) for i in range(8)]
    pictures = {key: {"jpg": toy.picture("red", 40)} for key in keys[:7]}
    kept = keys[:4]
    rng = np.random.default_rng(0)
    lines = [
        {"samples_seen": 64 * i, "loss": 1 / i, "loss_bins": [1 / i, None, *rng.random(8)]}
        for i in range(1, 9)
    ]
    drawn = [toy.key(f"drawn-{i}") for i in range(4)]
    variants = ["ema", "ema", "untrained", "untrained"]
    numbers = [
        Number(name="color.f1", variant=v, value=x, low=0.1, high=0.9, n=2, method="m")
        for v, x in (("ema", 0.75), ("untrained", 0.25))
    ]
    numbers.append(
        Number(name="frechet_distance[toy]", variant="ema", value=None, n=2, method="m", note="few")
    )
    numbers.append(Number(name="new.metric", variant="ema", value=0.5, n=2, method="m"))
    truth = [TruthRow(stage="dedup", what="pairs", measure="recall", value=0.5, n=4, goal=0.9)]
    results = Results(numbers=numbers, truth=truth, protocol={"reader": "toy", "sizes": {}})
    return {
        "ingest": make_shards(
            "ingest",
            [
                *({"key": key, "caption": f"{ATTACK} {key}"} for key in keys[:7]),
                {"key": keys[7], "status": "not_image"},
            ],
            [("caption", pa.string())],
            members=pictures,
            counts={"in": 8, "kept": 7, "failed.not_image": 1},
        ),
        "annotate": make_shards(
            "annotate",
            [
                {"key": key, "clip.similarity": 0.1 * i, "pixels.width": i, "phash.phash": i // 2}
                for i, key in enumerate(keys[:7])
            ],
            [
                ("clip.similarity", pa.float32()),
                ("pixels.width", pa.int32()),
                ("phash.phash", pa.uint64()),
            ],
        ),
        "repeats": make_shards(
            "repeats",
            [
                {"key": key, **dict.fromkeys(REPEATS, 2), "repeats.hosts": 1, "repeats.texts": 1}
                for key in keys[:6]
            ],
            [(name, pa.int32()) for name in REPEATS],
        ),
        "filter": make_shards(
            "filter",
            [
                {"key": key, "keep": i >= 3, "reason": "" if i >= 3 else "similarity"}
                for i, key in enumerate(keys[:7])
            ],
            VERDICTS,
            counts={"in": 7, "kept": 4, "dropped.similarity": 3},
        ),
        "dedup": make_shards(
            "dedup",
            [
                {"key": keys[3], "keep": True, "reason": "", "keeper": keys[3], "edge": "near"},
                {
                    "key": keys[4],
                    "keep": False,
                    "reason": "duplicate_near",
                    "keeper": keys[3],
                    "edge": "near",
                },
            ],
            [*VERDICTS, ("keeper", pa.string()), ("edge", pa.string())],
            counts={"in": 4, "kept": 3, "dropped.duplicate_near": 1},
        ),
        "recaption": make_shards(
            "recaption",
            [
                {"key": key, "source": source, "text_raw": f"raw {source} words"}
                for key in kept
                for source in ("short", "detailed")
            ],
            [("source", pa.string()), ("text_raw", pa.string())],
            unique_keys=False,
        ),
        "judge": make_shards(
            "judge",
            [
                {"key": key, "source": source, "text": f"{source} words {number}", "status": status}
                for key in kept
                for source, number, status in (
                    ("short", 0, "ok"),
                    ("short", 1, "ok"),
                    ("detailed", 0, "refusal"),
                )
            ],
            [("source", pa.string()), ("text", pa.string())],
            unique_keys=False,
        ),
        "train": make_shards(
            "train",
            [{"key": toy.key("train")}],
            files={"metrics.jsonl": "".join(json.dumps(line) + "\n" for line in lines)},
        ),
        "sample": make_shards(
            "sample",
            [
                {"key": key, "variant": variant, "prompt": "a red square", "prompt_key": str(i % 2)}
                for i, (key, variant) in enumerate(zip(drawn, variants, strict=True))
            ],
            [("variant", pa.string()), ("prompt", pa.string()), ("prompt_key", pa.string())],
            members={key: {"png": toy.picture("red")} for key in drawn},
        ),
        "evaluate": make_shards(
            "evaluate",
            [{"key": drawn[0], "readable": True, "exact": True}],
            [("readable", pa.bool_()), ("exact", pa.bool_())],
            files={"results.json": results.to_json()},
        ),
    }


def measure_rules(inputs: dict[str, ShardSet]) -> Sequence[RuleFacts]:
    """One rule as filter would have judged the run above, where it did."""
    if not {"filter", "annotate", "ingest"} <= inputs.keys():
        return []
    if "clip.similarity" not in inputs["annotate"].schema("00000").names:
        return []
    keys = inputs["annotate"].table("00000", ["key"])["key"].to_pylist()
    return [
        RuleFacts(
            name="similarity",
            column="clip.similarity",
            summary="cosine",
            source=ATTACK,
            limits=[">= 0.3"],
            thresholds=[0.3],
            edges=np.linspace(0, 0.7, 8),
            kept=np.array([0, 0, 0, 1, 1, 1, 1]),
            dropped=np.array([1, 1, 1, 0, 0, 0, 0]),
            num_passed=4,
            num_outside=3,
            near_dropped=[NearSample(key=keys[2], score=0.2, is_decided=True)],
            near_kept=[NearSample(key=keys[3], score=0.3, is_decided=True)],
            groups={
                "host": [
                    GroupChange(name=f"{ATTACK}.example", before=4, after=1),
                    GroupChange(name="b.example", before=3, after=3),
                ]
            },
        ),
        RuleFacts(name="where", column="a, b", limits=["a > b"]),
    ]


def render(out: Path, inputs: dict[str, ShardSet], config: ReportConfig | None = None) -> str:
    context = ReportContext(
        pipeline="demo",
        command="curate run",
        config_yaml="seed: 0\n",
        meanings={"not_image": Meaning(sentence="No picture at all.", is_fetched_again=False)},
    )
    stage = ReportStage(
        config or ReportConfig(),
        inputs,
        {},
        seed=0,
        context=context,
        measure_rules=lambda: measure_rules(inputs),
    )
    (task,) = next(stage.waves())
    out.mkdir()
    stage.run(task, Place(out=out, scratch=out))
    assert [path.name for path in out.iterdir()] == ["index.html"]
    return (out / "index.html").read_text()


ALL = [
    "funnel",
    "ingest",
    "truth",
    "rules",
    "measures",
    "repeats",
    "kept",
    "duplicates",
    "captions",
    "training",
    "numbers",
    "samples",
    "reproduce",
]


def test_a_whole_run_has_every_section(tmp_path: Path, run_tree: dict[str, ShardSet]):
    page = Page(render(tmp_path / "out", run_tree))
    assert page.sections == ALL
    assert "duplicate_near" in page.text
    assert "0.750" in page.text and "0.100 to 0.900" in page.text
    assert "not measured" in page.text and "new.metric" in page.text
    assert "exact scene" in page.text
    assert "short words 0" in page.text
    assert "No picture at all." in page.text
    assert "cosine" in page.text and ">= 0.3" in page.text
    assert "just dropped" in page.text and "just kept" in page.text
    assert "2 samples" in page.text and "2 captions, 1 host" in page.text


def test_text_from_data_is_escaped(tmp_path: Path, run_tree: dict[str, ShardSet]):
    html = render(tmp_path / "out", run_tree)
    page = Page(html)
    assert "script" not in page.tags
    assert ATTACK in page.text
    assert "&lt;script&gt;" in html


def test_the_page_asks_for_nothing(tmp_path: Path, run_tree: dict[str, ShardSet]):
    page = Page(render(tmp_path / "out", run_tree))
    assert page.sources
    assert all(source.startswith(("data:image/webp", "#")) for source in page.sources)
    assert "link" not in page.tags and "iframe" not in page.tags


def test_links_lead_to_sections_that_are_there(tmp_path: Path, run_tree: dict[str, ShardSet]):
    page = Page(render(tmp_path / "out", run_tree))
    links = [source.removeprefix("#") for source in page.sources if source.startswith("#")]
    assert [link for link in links if not link.startswith("rule-")] == page.sections
    rules = [link for link in links if link.startswith("rule-")]
    assert rules == ["rule-similarity", "rule-where"]
    assert set(rules) <= set(page.ids)


def test_captions_are_shown_as_judged_or_as_written_where_none_judged(
    tmp_path: Path, run_tree: dict[str, ShardSet]
):
    judged = Page(render(tmp_path / "a", run_tree)).text
    assert "short words 0 / short words 1" in judged and "(refusal)" in judged
    assert "raw short words" not in judged
    del run_tree["judge"]
    assert "raw detailed words" in Page(render(tmp_path / "b", run_tree)).text


@pytest.mark.parametrize(
    ("absent", "missing"),
    [
        (("train", "sample", "evaluate"), {"truth", "training", "numbers", "samples"}),
        (("annotate",), {"rules", "measures", "repeats"}),
        (("filter",), {"rules"}),
        (("repeats",), {"repeats"}),
        (("recaption", "judge"), {"captions"}),
        (("judge",), set[str]()),
        (("dedup",), {"duplicates"}),
        (("ingest",), {"ingest", "rules", "repeats", "kept", "duplicates", "captions"}),
        (("evaluate",), {"truth", "numbers"}),
    ],
)
def test_an_absent_stage_leaves_its_sections_out(
    tmp_path: Path, run_tree: dict[str, ShardSet], absent: tuple[str, ...], missing: set[str]
):
    inputs = {name: shards for name, shards in run_tree.items() if name not in absent}
    page = Page(render(tmp_path / "out", inputs))
    assert page.sections == [name for name in ALL if name not in missing]


def test_stages_without_their_columns_still_make_a_page(tmp_path: Path, make_shards: Any, toy: Any):
    bare = [{"key": toy.key("a")}]
    inputs = {
        name: make_shards(name, bare)
        for name in ("ingest", "annotate", "filter", "dedup", "recaption", "train", "sample")
    }
    assert Page(render(tmp_path / "out", inputs)).sections == ["funnel", "ingest", "reproduce"]


def test_equal_runs_give_equal_bytes(tmp_path: Path, run_tree: dict[str, ShardSet]):
    assert render(tmp_path / "a", run_tree) == render(tmp_path / "b", run_tree)


def test_a_page_that_is_too_large_gets_smaller_pictures(
    tmp_path: Path, run_tree: dict[str, ShardSet]
):
    def widest(html: str) -> int:
        sources = [uri for uri in Page(html).sources if uri.startswith("data:")]
        pictures = [Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))) for uri in sources]
        return max(picture.width for picture in pictures)

    assert widest(render(tmp_path / "a", run_tree)) == 40
    small = ReportConfig(thumbnail_px=144, max_bytes=1)
    assert widest(render(tmp_path / "b", run_tree, small)) == 36


def test_a_changed_threshold_changes_the_task(run_tree: dict[str, ShardSet]):
    def task(limit: str) -> Any:
        context = ReportContext(pipeline="demo", rules={"similarity": [limit]})
        (found,) = next(ReportStage(ReportConfig(), run_tree, {}, 0, context=context).waves())
        return found

    assert task(">= 0.2").inputs == task(">= 0.3").inputs
    assert task(">= 0.2").params != task(">= 0.3").params
    json.dumps(task(">= 0.2").params)


def test_an_unsafe_picture_is_nowhere_on_the_page(tmp_path: Path, make_shards: Any, toy: Any):
    key = toy.key("unsafe")
    inputs = {
        "ingest": make_shards("ingest", [{"key": key}], members={key: {"png": toy.picture("red")}}),
        "annotate": make_shards(
            "annotate", [{"key": key, "nsfw.score": 0.9}], [("nsfw.score", pa.float32())]
        ),
        "filter": make_shards("filter", [{"key": key, "keep": True, "reason": ""}], VERDICTS),
    }
    page = Page(render(tmp_path / "out", inputs))
    assert "kept" in page.sections
    assert not [source for source in page.sources if source.startswith("data:")]
    assert "not shown: nsfw" in page.text
    assert "nsfw.score is above 0.5 or was not measured are not shown" in page.text


def test_small_shares_are_not_shown_as_none():
    assert format_percent(0.0) == "0.0 %"
    assert format_percent(0.0004) == "<0.1 %"
    assert format_percent(0.517) == "51.7 %"
    assert format_share(0.517) == "51.7"


def test_numbers_of_networks_get_four_decimals():
    assert format_number(0.12345) == "0.123"
    assert format_number(0.12345, "kernel_distance[x]") == "0.1235"
    assert format_number(-0.5) == "\u22120.500"
    assert format_number(None) == ""


def test_a_score_is_told_in_words():
    counts = {
        f"{name}.{part}": 1
        for name in ("color", "color_object", "position")
        for part in ("hits", "misses")
    }
    score = {"readable": True, "exact": False, **counts}
    assert describe_score(score) == "colour 1, shape 1, place 1 of 2"
    assert describe_score({**score, "exact": True}) == "exact scene"
    assert describe_score({**score, "readable": False}) == "unreadable"
    assert describe_score(None) == ""


def test_damaged_metrics_are_a_one_line_error(make_shards: Any, toy: Any):
    shards = make_shards("train", [{"key": toy.key("t")}], files={"metrics.jsonl": '{"loss": 1'})
    with pytest.raises(ShardError, match="one JSON object a line"):
        read_losses(shards)


def test_sizes_below_their_least_are_refused():
    with pytest.raises(ConfigError, match="thumbnail_px: must be >= 16, got 8"):
        ReportConfig(thumbnail_px=8)
    with pytest.raises(ConfigError, match="num_kept: must be >= 0, got -1"):
        ReportConfig(num_kept=-1)


def test_quarantined_shards_are_named_with_their_cause(run_tree: Any, tmp_path: Path) -> None:
    context = ReportContext(
        pipeline="demo", quarantined={"annotate/00042": "tried 3 times: ValueError: <bad> row"}
    )
    stage = ReportStage(ReportConfig(), run_tree, {}, seed=0, context=context)
    (task,) = next(stage.waves())
    stage.run(task, Place(out=tmp_path, scratch=tmp_path))
    page = (tmp_path / "index.html").read_text()
    assert "annotate/00042" in page
    assert "ValueError: &lt;bad&gt; row" in page

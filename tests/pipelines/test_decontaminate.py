"""Benchmarks on the command line bring their stage; what it drops reaches no later stage."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.kills import make_folder
from curate.core.errors import ConfigError, DataError
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.stages.matching.benchmark_config import Actions, DecontaminateConfig
from curate.stages.matching.hits import KINDS
from pipelines.benchmarks import check_benchmarks
from pipelines.inspect import tell_story
from pipelines.ledger import write_ledger
from pipelines.plan import plan_request
from pipelines.request import Request, parse_request
from pipelines.run import run_request
from tests.silent import Silent

STAGES = "stages=[ingest,annotate,filter,dedup,recaption,judge,bucket,report]"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Take a folder with two copies of a benchmark's pictures to the report."""
    root = tmp_path_factory.mktemp("run")
    make_folder(root / "pictures", 10, seed=5)
    (root / "set").mkdir()
    for number in range(4):
        noise = make_rng(0, "set", number).integers(0, 256, (8, 8, 3), dtype="uint8")
        image = Image.fromarray(noise).resize((128, 128), Image.Resampling.BICUBIC)
        image.save(root / "set" / f"{number}.png")
        if number < 2:
            image.save(root / "pictures" / f"copy{number}.jpg", quality=85)
            (root / "pictures" / f"copy{number}.txt").write_text("a picture of noise")
    run_request(request(root), Silent())
    yield root


def request(root: Path, *more: str) -> Request:
    return parse_request(
        [
            STAGES, f"input={root / 'pictures'}", f"out={root / 'out'}", "models=toy",
            "engine=inline", "ingest.shard_size=6", "recaption.styles=[short]",
            "annotate.annotators=[hashes,phash,pdq]",
            f"decontaminate.benchmarks.noise.pictures={root / 'set'}", *more,
        ]
    )  # fmt: skip


def rows(root: Path, stage: str, *columns: str) -> list[dict[str, Any]]:
    tables = ShardSet(root / "out" / stage).tables(columns)
    return [row for _, table in tables for row in table.to_pylist()]


def test_benchmarks_bring_their_stage_and_it_stands_after_dedup(made: Path) -> None:
    assert request(made).chosen == (
        "ingest", "annotate", "filter", "dedup", "decontaminate", "recaption", "judge", "bucket",
        "report",
    )  # fmt: skip
    without = parse_request([STAGES, "input=x"])
    assert "decontaminate" not in without.chosen


def test_what_is_dropped_reaches_neither_captions_nor_buckets(made: Path) -> None:
    judged = rows(made, "decontaminate", "key", "keep", "reason")
    gone = {row["key"] for row in judged if row["reason"] == "contaminated_picture"}
    assert len(gone) == 2
    kept = {row["key"] for row in judged if row["keep"]}
    assert {row["key"] for row in rows(made, "dedup", "key", "keep") if row["keep"]} == kept | gone
    assert {row["key"] for row in rows(made, "recaption", "key")} == kept
    assert {row["key"] for row in rows(made, "bucket", "key")} <= kept


def test_report_ledger_and_why_tell_of_it(made: Path) -> None:
    page = (made / "out" / "report" / "index.html").read_text()
    assert 'id="contamination"' in page and "noise: 0.png" in page
    assert str(made / "set") not in page
    from curate.core.store import open_store

    out = open_store(made / "out")
    assert write_ledger(out).counts["decontaminate"]["dropped"] == 2
    (gone, *_) = (
        row["key"] for row in rows(made, "decontaminate", "key", "keep", "kind") if row["kind"]
    )
    story = dict(tell_story(out, gone))
    assert "benchmark = noise" in story["decontaminate"]
    assert any(line.startswith("item = ") for line in story["decontaminate"])


def test_another_threshold_plans_verdicts_and_no_hashing(made: Path) -> None:
    plans = plan_request(request(made, "decontaminate.pdq_radius=20"))
    (plan,) = (plan for plan in plans if plan.stage == "decontaminate")
    assert plan.states == {"done": 2, "stale": 2}  # the items wait for the verdicts
    assert plan.reasons == {"params limits.pdq_radius: 31 -> 20": 2}
    assert all(p.fresh for p in plan_request(request(made)))


def test_a_run_without_its_benchmark_is_refused_in_one_line(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"benchmarks\.noise\.pictures: must exist, got .*none"):
        plan_request(request(made, f"decontaminate.benchmarks.noise.pictures={tmp_path / 'none'}"))
    with pytest.raises(ConfigError, match=r"benchmarks\.other: must have pictures or prompts"):
        request(made, "decontaminate.benchmarks.other.format=tsv")
    with pytest.raises(ConfigError, match=r"action\.pdq: must be drop or flag, got 'keep'"):
        request(made, "decontaminate.action.pdq=keep")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["b.prompts={}/broken.tsv"], r"broken\.tsv: line 3: must have 2 cells, got 1"),
        (["b.prompts={}/gone.txt"], r"benchmarks\.b\.prompts: must exist, got .*gone\.txt"),
        (["b.pictures={}/gone.txt"], r"benchmarks\.b\.pictures: must exist, got .*gone\.txt"),
        (["b.pictures={}/list.txt"], r"benchmarks\.b\.pictures: line 1 of .* got 'no\.png'"),
    ],
)
def test_broken_sets_are_refused_before_anything_is_read(
    tmp_path: Path, options: list[str], says: str
) -> None:
    (tmp_path / "broken.tsv").write_text("Prompt\tNote\na cat\tx\na dog\n")
    (tmp_path / "list.txt").write_text("no.png\n")
    given = [f"decontaminate.benchmarks.{text.format(tmp_path)}" for text in options]
    line = [STAGES, "input=no-such-folder", f"out={tmp_path / 'out'}", "engine=inline", *given]
    for act in (lambda asked: run_request(asked, Silent()), plan_request):
        with pytest.raises(DataError, match=says):
            act(parse_request(line))
    assert not (tmp_path / "out").exists()


def test_the_stage_without_a_set_is_refused_at_once(tmp_path: Path) -> None:
    stages = STAGES.replace("dedup", "dedup,decontaminate")
    with pytest.raises(ConfigError, match=r"decontaminate\.benchmarks: must name"):
        run_request(
            parse_request([stages, "input=no-such-folder", f"out={tmp_path / 'out'}"]), Silent()
        )
    assert not (tmp_path / "out").exists()


def test_the_toy_web_brings_a_set_of_its_own(tmp_path: Path) -> None:
    line = ["pipeline=demo", f"out={tmp_path / 'out'}", "toyweb.num_images=20"]
    asked = parse_request(line)
    assert "decontaminate" in asked.chosen and not asked.config.decontaminate.benchmarks
    check_benchmarks(asked)


def test_paths_are_whole_where_workers_have_another_folder(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    config = parse_request(
        [
            "engine=cluster", "engine.address=tcp://x:1", "input=pictures",
            "decontaminate.benchmarks.a.pictures=set",
            "decontaminate.benchmarks.b.pictures=s3://bucket/set",
        ]
    ).config.decontaminate  # fmt: skip
    assert config.benchmarks["a"].pictures == str(made / "set")
    assert config.benchmarks["a"].prompts == ""
    assert config.benchmarks["b"].pictures == "s3://bucket/set"


def test_the_page_names_every_key_and_kind_and_its_commands_parse() -> None:
    page = (Path(__file__).parents[2] / "docs" / "decontaminate.md").read_text(encoding="utf-8")
    keys = {item.name for item in dataclasses.fields(DecontaminateConfig)}
    assert [key for key in sorted(keys) if f"decontaminate.{key}" not in page] == []
    for kind in KINDS:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{kind}` |"))
        assert f"| {Actions().of(kind)} |" in row, kind
    commands = re.findall(r"^\$ curate run (.*)$", page, re.M)
    assert len(commands) == 2
    for command in commands:
        assert "decontaminate" in parse_request(shlex.split(command, comments=True)).chosen

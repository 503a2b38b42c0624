"""A probe captions a draw of the kept pictures, says what all would take, and commits nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curate.core.engine_config import EngineConfig
from curate.core.errors import ConfigError, StageError
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from eval.intervals import wilson_interval
from pipelines.probe import judge_lines
from pipelines.probe_report import Probed, count_processes, describe_probe, reckon
from pipelines.request import parse_request
from pipelines.run import run_request
from pipelines.toyweb.scene import describe_short, random_scene, render
from pipelines.verbs.runs import run as run_verb
from tests.silent import Silent

STAGES = "stages=[ingest,annotate,filter,dedup,recaption]"


def write_pictures(folder: Path, count: int) -> None:
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        scene = random_scene(make_rng(3, "probe", number))
        Image.fromarray(render(scene, 64, 64)).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"{describe_short(scene)} {number}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Curate pictures of the toy web as far as dedup, for a captioner that refuses a third."""
    folder = tmp_path_factory.mktemp("probe")
    write_pictures(folder / "pictures", 24)
    (folder / "oracle.yaml").write_text("faults: {refusal: 0.33}")
    (folder / "pack.yaml").write_text(
        "base: toy\ncaptioner: {kind: toy_oracle, paths: [oracle.yaml]}\n"
    )
    line = [
        STAGES, f"input={folder / 'pictures'}", f"out={folder / 'out'}", "engine=inline",
        f"models={folder / 'pack.yaml'}", "annotate.annotators=[pixels,hashes,phash]",
        "ingest.shard_size=8", "recaption.styles=[short,detailed]",
    ]  # fmt: skip
    run_request(parse_request([*line, "stage=ingest..dedup"]), Silent())
    return folder, line


@pytest.fixture
def curated(finished: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """Copy what is curated, so that each test has journals of its own."""
    folder, line = finished
    shutil.copytree(folder / "out", tmp_path / "out")
    return tmp_path, [*line, f"out={tmp_path / 'out'}"]


def probe(line: list[str], capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, str]:
    """Run the probe from the command line; give its figures by name."""
    assert run_verb([*line, "stage=recaption", *more]) == 0
    figures: dict[str, str] = {}
    for text in capsys.readouterr().out.splitlines():
        name, value = text[:12].strip(), text[12:]
        figures[name or value.rpartition(" ")[2]] = value
    return figures


def journal(folder: Path) -> dict[str, list[str]]:
    files = sorted((folder / "out" / "recaption" / "journal").iterdir())
    return {file.name: file.read_text().splitlines() for file in files}


def test_a_probe_and_the_run_after_it_ask_for_every_caption_once(
    curated: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, line = curated
    figures = probe(line, capsys, "recaption.probe=10", "recaption.gpu_price=3")
    assert figures["probe"] == "10 of 24 kept pictures, 20 captions"
    assert figures["model"] == "toy_oracle toy_oracle"
    assert figures["pictures"] == "24 to caption"
    for name in ("captions/s", "tokens/s", "wall hours", "CPU-hours", "cost", "rejected"):
        assert name in figures
    lines = journal(folder)
    assert sum(map(len, lines.values())) == 20
    assert len(lines) > 1  # drawn from several shards
    assert [path.name for path in (folder / "out" / "recaption").iterdir()] == ["journal"]

    again = probe(line, capsys, "recaption.probe=10")
    assert again["probe"] == "10 of 24 kept pictures, 20 captions, 20 of them made before"
    assert again["captions/s"] == figures["captions/s"]
    assert "cost" not in again
    assert journal(folder) == lines

    run_request(parse_request([*line, "stage=recaption"]), Silent())
    rows = [
        row
        for _, table in ShardSet(folder / "out" / "recaption").tables()
        for row in table.to_pylist()
    ]
    grown = journal(folder)
    assert sum(map(len, grown.values())) == len(rows) == 48
    assert all(grown[name][: len(old)] == old for name, old in lines.items())


def test_the_accepted_share_is_that_of_the_rules_of_judge(
    curated: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, line = curated
    figures = probe(line, capsys, "recaption.probe=24")
    refused = int(figures["rejected"].removeprefix("refusal "))
    assert 0 < refused < 30
    shares = [float(figures[source].split(" %")[0]) for source in ("short", "detailed")]
    assert sum(shares) / 200 * 48 == pytest.approx(48 - refused, abs=0.1)
    # A threshold of judge decides here too.
    strict = probe(line, capsys, "recaption.probe=24", "judge.rules.min_words=200")
    assert figures["rejected"].split()[1] in strict["rejected"]
    assert strict["accepted"].startswith("0.0 %")


def test_another_seed_draws_other_pictures(
    curated: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, line = curated
    drawn: list[set[str]] = []
    for seed in (0, 1):
        shutil.rmtree(folder / "out" / "recaption", ignore_errors=True)
        probe(line, capsys, "recaption.probe=5", "keep_stale=true", f"seed={seed}")
        texts = [text for lines in journal(folder).values() for text in lines]
        drawn.append({json.loads(text)["key"] for text in texts})
    assert [len(keys) for keys in drawn] == [5, 5]
    assert drawn[0] != drawn[1]


def test_a_probe_stands_alone(curated: tuple[Path, list[str]]) -> None:
    _, line = curated
    with pytest.raises(ConfigError, match=r"must come with stage=recaption alone, got stage=inges"):
        run_verb([*line, "recaption.probe=5"])


def test_a_probe_needs_the_stages_before_it(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 2)
    line = [STAGES, f"input={tmp_path / 'pictures'}", f"out={tmp_path / 'out'}", "engine=inline"]
    with pytest.raises(StageError, match=r"needs ingest to be done"):
        run_verb([*line, "stage=recaption", "recaption.probe=5"])


def make_line(
    key: str, source: str = "short", text: str = "a red house on a hill"
) -> dict[str, Any]:
    return {
        "key": key, "status": "ok", "attempt": f"{key}{source}", "source": source, "number": 0,
        "text_raw": text, "template": None, "template_digest": None, "prompt": "",
        "alt_used": False, "parent": "", "backend": "transformers", "model": "m", "revision": "",
        "model_digest": "", "processor_digest": "", "dtype": "bfloat16", "sampling": "{}",
        "finish_reason": "stop", "prompt_tokens": 1, "visual_tokens": 1, "tokens": 50,
        "mean_logprob": None, "crop_top": 0.0, "crop_left": 0.0, "crop_height": 8.0,
        "crop_width": 8.0, "image_height": 8, "image_width": 8, "similarity": None,
        "similarity_sentence": None, "verified": None, "seconds": 0.5, "latency_s": 0.25,
        "model_reported": "",
    }  # fmt: skip


def make_probed(num_pictures: int, num_bad: int) -> Probed:
    lines = [make_line(f"{number:020d}") for number in range(num_pictures)]
    reasons = ["refusal"] * num_bad + ["ok"] * (num_pictures - num_bad)
    return Probed(
        lines=lines, reasons=reasons, num_pictures=num_pictures, num_kept=7_200_000,
        num_new=num_pictures, loading_s=2.0,
    )  # fmt: skip


def test_hours_and_prices_are_the_probes_scaled() -> None:
    probed = make_probed(200, 20)
    cost = reckon(probed, num_processes=4, gpu_price=2.5)
    # 7.2 million pictures at half a second each are 1,000 hours of one device.
    assert cost.device_hours == pytest.approx(1000)
    assert cost.wall_hours == pytest.approx(250)
    assert cost.price == pytest.approx(2500)
    assert cost.price_accepted == pytest.approx(2500 / (7200 * 0.9))
    assert reckon(probed, num_pictures=72_000).device_hours == pytest.approx(10)
    assert reckon(probed).price is None


def test_every_figure_is_a_line() -> None:
    probed = make_probed(200, 20)
    said = list(describe_probe(probed, reckon(probed, num_processes=4, gpu_price=2.5), 4))
    interval = wilson_interval(0.9, 200)
    share = f"90.0 % (95 %: {100 * interval.low:.1f} to {100 * interval.high:.1f} %)"
    assert said == [
        "probe       200 of 7,200,000 kept pictures, 200 captions",
        "model       transformers m bfloat16",
        "loading     2.0 s",
        "captions/s  2 in one process",
        "tokens/s    100 written",
        "latency     0.25 s a caption, 0.25 s at the 95th percentile",
        f"accepted    {share} of pictures have a good caption",
        f"            {share} of 200 captions in short",
        "rejected    refusal 20",
        "pictures    7,200,000 to caption",
        "wall hours  250 with 4 processes",
        "GPU-hours   1,000",
        "cost        2,500.00, 0.386 for 1,000 accepted captions",
    ]


def test_several_captions_of_a_picture_count_as_one_trial() -> None:
    lines = [make_line(f"{number:020d}") for number in range(50) for _ in range(4)]
    probed = Probed(
        lines=lines, reasons=["ok"] * 200, num_pictures=50, num_kept=50, num_new=200, loading_s=0
    )
    low = 100 * wilson_interval(1.0, 50).low
    said = "\n".join(describe_probe(probed, reckon(probed), 1))
    assert f"100.0 % (95 %: {low:.1f} to 100.0 %) of 200 captions in short" in said


def test_judging_a_probe_follows_thresholds_and_those_of_a_source() -> None:
    lines = [
        make_line("0" * 20),
        make_line("1" * 20, text="I'm sorry, but I cannot describe this image."),
        make_line("2" * 20, source="tags", text="house, hill"),
        make_line("3" * 20, text="house, hill"),
        make_line("4" * 20) | {"status": "captioner_error", "finish_reason": "error"},
    ]
    request = parse_request(["judge.by_source.tags.min_words=1"])
    assert judge_lines(request, lines) == [
        "ok", "refusal", "ok", "too_short", "captioner_error",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "count"),
    [
        (EngineConfig(name="inline"), 1),
        (EngineConfig(name="local", num_workers=3), 3),
        (EngineConfig(name="slurm", num_workers=16), 16),
        (EngineConfig(name="cluster", address="tcp://host:1"), 1),
    ],
)
def test_processes_are_those_that_the_engine_would_start(engine: EngineConfig, count: int) -> None:
    assert count_processes(engine) == count


def test_a_probe_of_less_than_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"recaption.probe: must be >= 0"):
        parse_request(["recaption.probe=-5"])

"""The small demo goes the whole way, resumes, and reruns only what depends on a change."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CURATE = str(Path(sys.executable).with_name("curate"))
SMALL = (
    "pipeline=demo",
    "toyweb.num_images=240",
    "toyweb.num_prompts=12",
    "ingest.shard_size=120",
    "bucket.shard_size=64",
    "train.num_samples=384",
    "train.batch_size=32",
    "train.model.depth=1",
    "sample.num_steps=2",
    "sample.num_untrained=4",
    "evaluate.allow_small=true",
    "engine.num_workers=2",
)
CURATION = "stage=ingest..encode"


def curate(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    done = subprocess.run([CURATE, *arguments], capture_output=True, text=True, timeout=280)
    assert not check or done.returncode == 0, done.stderr
    return done


def digests(out: Path) -> dict[str, dict[str, str]]:
    """Collect the sha256 of every committed file: stage/shard -> file -> digest."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(out.glob("*/*.done.json")):
        marker = json.loads(path.read_text())
        name = f"{path.parent.name}/{path.name.removesuffix('.done.json')}"
        found[name] = {file: facts["sha256"] for file, facts in marker["files"].items()}
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the small demo once."""
    out = tmp_path_factory.mktemp("demo") / "out"
    curate("run", *SMALL, f"out={out}")
    return out


def test_every_stage_is_done_and_samples_are_conserved(demo: Path) -> None:
    lines = curate("status", f"out={demo}").stdout.splitlines()
    assert len(lines) == 15
    for line in lines[1:]:
        name, _, seen, kept, dropped, failed, state = line.replace(",", "").split()
        assert state == "done", line
        assert int(seen) == int(kept) + int(dropped) + int(failed), name
    assert int(lines[1].replace(",", "").split()[2]) == 240


def test_results_and_report_hold_the_numbers(demo: Path) -> None:
    results = json.loads((demo / "evaluate" / "results.json").read_text())
    names = {number["name"] for number in results["numbers"]}
    assert {"color.f1", "count.accuracy", "exact_scene"} <= names
    truth = {(row["stage"], row["what"], row["measure"]): row for row in results["truth"]}
    assert truth["ingest", "good and failed rows told apart", "accuracy"]["value"] == 1.0
    assert truth["dedup", "exact duplicates", "recall"]["value"] == 1.0
    assert truth["dedup", "exact duplicates", "precision"]["value"] == 1.0
    assert truth["decontaminate", "leaked prompts", "recall"]["value"] == 1.0
    assert truth["decontaminate", "leaked prompts", "precision"]["value"] == 1.0
    assert truth["judge", "planted faults of captions", "recall"]["value"] >= 0.98
    assert truth["judge", "planted faults of captions", "precision"]["value"] >= 0.98
    # The one copy of so small a site may have an alt text that filter drops.
    assert truth["decontaminate", "leaked pictures", "precision"]["value"] in (None, 1.0)
    page = (demo / "report" / "index.html").read_text()
    assert page.count("<img") > 50
    for outside in ('src="http', "url(http", "<script", "@import", "<link"):
        assert outside not in page


def test_a_second_run_changes_nothing(demo: Path) -> None:
    before = digests(demo)
    done = curate("run", *SMALL, f"out={demo}")
    assert all(" 0 ran" in line for line in done.stdout.splitlines() if "ran," in line)
    assert digests(demo) == before


def test_a_threshold_reruns_the_filter_alone(demo: Path) -> None:
    plan = curate("plan", *SMALL, f"out={demo}", "filter.similarity.min=0.9").stdout
    lines = {line.split()[0]: line for line in plan.splitlines() if not line.startswith(" ")}
    assert "done" in lines["annotate"]
    assert "stale" in lines["filter"]
    assert "similarity.min" in plan
    assert "waits for" in lines["dedup"]


def test_other_workers_give_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curate("run", *SMALL, f"out={out}", CURATION, "engine.num_workers=1")
    expected = digests(demo)
    found = digests(out)
    assert found
    assert found == {name: expected[name] for name in found}


def test_kills_at_any_moment_change_no_byte(demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for stage in ("annotate", "bucket", "train"):
        process = subprocess.Popen(
            [CURATE, "run", *SMALL, f"out={out}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 200
        while not (out / stage / ".work").exists() and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    curate("run", *SMALL, f"out={out}")
    assert digests(out) == digests(demo)

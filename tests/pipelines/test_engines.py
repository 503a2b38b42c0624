"""Every engine gives the same bytes, disturbed or not; a change reruns what it concerns."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kills import children, make_folder, snapshot
from curate.core.lock import claim_out
from curate.core.store import LocalStore
from tests.core.test_cluster import Cluster

CURATE = str(Path(sys.executable).with_name("curate"))
STAGES = "stages=[ingest,annotate,filter,dedup]"
NUM_SHARDS = 4
CHEAP = (
    STAGES,
    "models=toy",
    "annotate.annotators=[pixels,hashes,phash,caption_text,clip]",
    "ingest.shard_size=6",
    "engine.retry_pause_s=0",
)


# Without the network: a run takes 2 s instead of 5.
PLAIN = tuple(text.replace(",clip]", "]") for text in CHEAP)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input") / "pictures"
    make_folder(folder, 6 * NUM_SHARDS, seed=0)
    return folder


@pytest.fixture(scope="module")
def straight(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run once in this process, undisturbed."""
    out = tmp_path_factory.mktemp("straight") / "out"
    curate("run", *CHEAP, f"input={pictures}", f"out={out}", "engine=inline")
    return out


def curate(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([CURATE, *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def ran(output: str) -> dict[str, int]:
    """Read how many shards of each stage ran."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+) ran,", output, re.M)}


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_bytes_of_none(
    straight: Path, pictures: Path, tmp_path: Path, num_workers: int
) -> None:
    out = tmp_path / "out"
    curate("run", *CHEAP, f"input={pictures}", f"out={out}", f"engine.num_workers={num_workers}")
    assert snapshot(out) == snapshot(straight)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    cluster.close()


def test_a_cluster_of_other_processes_gives_the_same_bytes_and_tells_its_dashboard(
    straight: Path, pictures: Path, tmp_path: Path, cluster: Cluster
) -> None:
    out = tmp_path / "out"
    said = curate(
        "run", *CHEAP, f"input={pictures}", f"out={out}",
        "engine=cluster", f"engine.address={cluster.address}",
    )  # fmt: skip
    assert snapshot(out) == snapshot(straight)
    assert re.search(r"dask dashboard: http://127\.0\.0\.1:\d+/status", said)


@pytest.mark.parametrize(("victim", "code"), [("client", -9), ("worker", 0)])
def test_a_kill_changes_no_byte(
    straight: Path, pictures: Path, tmp_path: Path, victim: str, code: int
) -> None:
    out = tmp_path / "out"
    line = [CURATE, "run", *CHEAP, f"input={pictures}", f"out={out}", "engine.num_workers=2"]
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for_file(out / "annotate" / ".work", process)
    os.kill(max(children(process.pid)) if victim == "worker" else process.pid, signal.SIGKILL)
    assert process.wait(timeout=150) == code
    curate(*line[1:])
    assert snapshot(out) == snapshot(straight)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_by_signal_is_clean_and_the_run_goes_on_later(
    straight: Path, pictures: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    line = [CURATE, "run", *CHEAP, f"input={pictures}", f"out={out}", "engine.num_workers=2"]
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for_file(out / "annotate" / ".work", process)
    os.killpg(process.pid, number)  # as a terminal does: the workers get it too
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said.splitlines()[-1].endswith("run the same line again to go on")
    assert "Traceback" not in said
    curate(*line[1:])
    assert snapshot(out) == snapshot(straight)


def wait_for_file(path: Path, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_a_second_run_on_the_same_out_is_refused(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = [CURATE, "run", *CHEAP, f"input={pictures}", f"out={out}", "engine=inline"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_file(out / "annotate" / ".work", process)
        process.send_signal(signal.SIGSTOP)  # it lives, and holds what it owns
        said = curate(*line[1:], code=2)
        assert f"one run at a time, got {out} in use by pid {process.pid} on" in said
        status = curate("status", f"out={out}")
        assert f"running: pid {process.pid} on" in status
        assert re.search(r"^  (annotate|filter|dedup): \d+/\d+ shards", status, re.M)
    finally:
        process.kill()
        process.wait()
    assert "running" not in curate("status", f"out={out}")


def test_each_change_reruns_what_it_concerns_and_plan_says_why(
    straight: Path, pictures: Path, tmp_path: Path
) -> None:
    out, mine = tmp_path / "out", tmp_path / "pictures"
    shutil.copytree(pictures, mine)
    line = [*PLAIN, f"input={mine}", f"out={out}", "engine=inline"]
    curate("run", *line)
    assert ran(curate("run", *line)) == dict.fromkeys(("ingest", "annotate", "filter", "dedup"), 0)

    said = curate("plan", *line, "filter.min_side.min=90")
    assert "4 by config min_side.min: None -> 90.0" in said
    # All pictures pass it too, so the verdicts have the same bytes and dedup nothing to do.
    counts = ran(curate("run", *line, "filter.min_side.min=90"))
    assert counts == {"ingest": 0, "annotate": 0, "filter": 4, "dedup": 0}

    caption = mine / "00007.txt"
    caption.write_text("another caption")
    again = [*line, "filter.min_side.min=90"]
    plan = curate("plan", *again)
    assert re.search(r"ingest +1 stale, 3 done", plan)
    counts = ran(curate("run", *again))
    assert (counts["ingest"], counts["annotate"], counts["filter"]) == (1, 1, 1)

    assert ran(curate("run", *again, "seed=1"))["annotate"] == 4


def test_damage_is_named_to_the_member_and_mended_alone(
    straight: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(straight, out)
    assert "0 damaged" in curate("verify", f"out={out}")
    tar = out / "ingest" / "00001.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1  # inside the first member's payload
    tar.write_bytes(data)
    (out / "filter" / "00002.parquet").unlink()
    for path in (out / "dedup").glob("00003.*"):
        path.unlink()
    assert "1 SHARDS LOST" in curate("status", f"out={out}")
    said = curate("verify", f"out={out}", code=2)
    assert "damaged dedup/00003.done.json: is missing, and its shard with it" in said
    assert re.search(r"damaged ingest/00001\.tar: .*damaged members: [0-9a-f]{20}\.png\n", said)
    assert "damaged filter/00002.parquet: is missing" in said
    assert "3 damaged" in said
    with claim_out(LocalStore(out)):  # another run owns it: nothing may be taken away from it
        said = curate("verify", f"out={out}", "--repair", code=2)
    assert "one run at a time" in said
    assert (out / "ingest" / "00001.done.json").exists()
    said = curate("verify", f"out={out}", "--repair")
    assert ran(said) == {"ingest": 1, "filter": 1, "dedup": 1}
    assert snapshot(out) == snapshot(straight)


def test_a_run_goes_on_without_a_quarantined_shard_and_says_so(
    pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = [*CHEAP, "stages=[ingest,annotate,filter,dedup,recaption,judge,bucket]"]
    line += ["bucket.resolutions=[64]", f"input={pictures}", f"out={out}", "engine=inline"]
    curate("run", *line)
    # As if recaption had given up one shard: its files gone, a quarantine of the same task there.
    marker = json.loads((out / "recaption" / "00001.done.json").read_text())
    for path in (out / "recaption").glob("00001.*"):
        path.unlink()
    quarantine = {"fingerprint": marker["fingerprint"], "causes": ["x"] * 3, "traceback": ""}
    (out / "recaption" / "00001.quarantine.json").write_text(json.dumps(quarantine))
    said = curate("run", *line, code=3)
    assert "quarantined 00001: tried 3 times: x" in said
    assert "retry_quarantined=true" in said
    assert re.search(r"bucket +\d+ ran, .* kept 18 of 18", said)
    status = curate("status", f"out={out}")
    assert re.search(r"recaption +3 +18 +18 .* done, 1 quarantined", status)
    assert "quarantined recaption/00001: tried 3 times: x" in status
    said = curate("run", *line, "retry_quarantined=true")
    assert ran(said)["recaption"] == 1
    assert re.search(r"bucket .* kept 24 of 24", said)


def test_status_of_a_finished_run_adds_up(straight: Path) -> None:
    lines = curate("status", f"out={straight}").splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["ingest", "annotate", "filter", "dedup"]
    assert all(line.endswith("done") for line in lines[1:])


def test_stale_outputs_are_read_only_when_asked_for(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = [*PLAIN, f"input={pictures}", f"out={out}", "engine=inline"]
    curate("run", *line)
    change = "filter.min_side.min=97"  # drops all of them
    said = curate("run", *line, change, "stage=dedup", code=2)
    assert "needs filter to be done for this config, got: config min_side.min" in said
    assert "keep_stale=true" in said
    said = curate("run", *line, change, "stage=dedup", "keep_stale=true")
    assert "filter is read as it is, though config min_side.min" in said
    assert ran(said) == {"dedup": 0}
    assert "kept 24 of 24" in said


def test_what_is_no_longer_in_the_input_leaves_every_stage(pictures: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "pictures"
    shutil.copytree(pictures, mine)
    line = [*PLAIN, f"input={mine}", f"out={out}", "engine=inline"]
    curate("run", *line)
    for number in range(18, 24):
        (mine / f"{number:05d}.png").unlink()
    curate("run", *line, "stage=ingest")
    plan = curate("plan", *line)
    assert re.search(r"annotate +1 stale, 3 done", plan)
    assert "1 by shards that are no longer planned" in plan
    said = curate("run", *line, "stage=filter", "filter.min_side.min=10", code=2)
    assert "needs annotate to be done for this config" in said
    curate("run", *line)
    for stage in ("ingest", "annotate", "filter", "dedup"):
        assert len(list((out / stage).glob("0*.done.json"))) == 3


def test_stages_with_a_hole_between_them_do_not_build_on_what_the_first_will_change(
    pictures: Path, tmp_path: Path
) -> None:
    out, mine = tmp_path / "out", tmp_path / "pictures"
    shutil.copytree(pictures, mine)
    line = [*PLAIN, f"input={mine}", f"out={out}", "engine=inline"]
    curate("run", *line)
    (mine / "00003.txt").write_text("another caption")
    said = curate("run", *line, "stage=ingest,dedup", code=2)
    assert "needs annotate to be done for this config, got: ingest must run first" in said


def test_a_damaged_marker_of_an_input_drops_no_shard(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = [*PLAIN, f"input={pictures}", f"out={out}", "engine=inline"]
    curate("run", *line)
    marker = out / "ingest" / "00001.done.json"
    marker.write_bytes(marker.read_bytes()[:40])
    said = curate("run", *line, "stage=annotate", "keep_stale=true", code=2)
    assert "ingest/00001.done.json: must be a marker of this version" in said
    assert (out / "annotate" / "00001.done.json").exists()

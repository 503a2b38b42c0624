"""The job that SLURM gets says what the config says."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest

from curate.core.engine_config import EngineConfig, SlurmConfig
from curate.core.errors import StageError
from curate.core.slurm import check_script, make_slurm_cluster, open_slurm_cluster


def script(**slurm: object) -> list[str]:
    config = EngineConfig(
        name="slurm",
        gpus_per_worker=2,
        slurm=SlurmConfig(interface="lo", **slurm),  # type: ignore[arg-type]
    )
    with make_slurm_cluster(config) as cluster:
        return cluster.job_script().splitlines()


def test_the_job_script_says_what_the_config_says(tmp_path: Path) -> None:
    lines = script(
        queue="gpu",
        account="lab",
        walltime="01:30:00",
        memory="16GB",
        cpus=4,
        directives=["--gres=gpu:2"],
        prologue=["module load cuda"],
        log_folder=f"{tmp_path}/logs",
    )
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A lab",
        "#SBATCH -t 01:30:00",
        "#SBATCH --mem=15G",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --gres=gpu:2",
        "#SBATCH --no-requeue",
        "module load cuda",
        "export PYTHONSAFEPATH=1",
    ):
        assert line in lines
    worker = lines[-1].split()
    assert worker[:3] == [sys.executable, "-m", "distributed.cli.dask_worker"]
    given = dict(pairwise(worker))  # of an option given twice, the last one holds
    assert given["--nthreads"] == "1"
    assert given["--resources"] == "GPU=2"
    assert given["--memory-limit"] == "0"
    assert lines.index("module load cuda") < len(lines) - 1


def test_empty_fields_leave_the_sites_defaults(tmp_path: Path) -> None:
    text = "\n".join(script(log_folder=f"{tmp_path}/logs"))
    assert "#SBATCH -p" not in text
    assert "#SBATCH -A" not in text


def test_a_machine_without_slurm_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(StageError, match="slurm needs sbatch, got none on the path"),
        open_slurm_cluster(EngineConfig(name="slurm")),
    ):
        pytest.fail("a cluster without SLURM")


def test_a_refused_job_is_one_line_with_what_sbatch_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: no such partition' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StageError, match=r"got 'sbatch: error: no such partition'"):
        check_script("#!/bin/sh\n")

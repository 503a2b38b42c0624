"""Start Dask workers as SLURM jobs: the only dask-jobqueue import of the project.

One job is one worker with one task at a time. A job that ends (time limit, scancel, a node that
dies) is replaced; its task counts as one failed try and runs again elsewhere.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from typing import Any

from curate.core.engine_config import EngineConfig
from curate.core.errors import StageError

_HEAL_AFTER_S = 5  # a lost job is replaced after this; dask waits 15 s; chosen by us
_ORPHAN_S = 30  # a job that starts after its client is gone ends itself; chosen by us


@contextlib.contextmanager
def open_slurm_cluster(config: EngineConfig) -> Generator[Any]:
    """Ask SLURM for `engine.num_workers` jobs and keep as many alive until the block ends.

    Raises:
        StageError: dask-jobqueue or sbatch is missing, or SLURM refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise StageError(
            "engine: slurm needs sbatch, got none on the path; run this on a login node of SLURM"
        )
    from dask import config as dask_config

    dask_config.set({"distributed.deploy.lost-worker-timeout": f"{_HEAL_AFTER_S}s"})
    with make_slurm_cluster(config) as cluster:
        check_script(cluster.job_script())
        count = config.num_workers or 1
        cluster.adapt(minimum=count, maximum=count, interval="1s")
        yield cluster


def make_slurm_cluster(config: EngineConfig) -> Any:
    """Make a SLURMCluster with no jobs yet.

    Raises:
        StageError: dask-jobqueue is not installed.
    """
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise StageError(
            "engine: slurm needs dask-jobqueue, got no such package; "
            "run `pip install 'latentmill[cluster]'`"
        ) from error
    slurm = config.slurm
    resources = ["--resources", f"GPU={config.gpus_per_worker:g}"] if config.gpus_per_worker else []
    scheduler = {"dashboard_address": f":{config.dashboard_port}"}
    if slurm.interface:
        scheduler["interface"] = slurm.interface
    return SLURMCluster(
        job_name="latentmill",
        queue=slurm.queue or None,
        account=slurm.account or None,
        walltime=slurm.walltime,
        cores=1,  # of Dask: one task at a time
        processes=1,
        job_cpu=slurm.cpus,
        memory=slurm.memory,
        interface=slurm.interface or None,
        scheduler_options=scheduler,
        python=sys.executable,
        death_timeout=_ORPHAN_S,
        job_extra_directives=["--no-requeue", *slurm.directives],
        job_script_prologue=["export PYTHONSAFEPATH=1", *slurm.prologue],
        worker_extra_args=["--memory-limit", "0", *resources],
        log_directory=slurm.log_folder,
    )


def check_script(script: str) -> None:
    """Ask SLURM whether it would take the job: dask-jobqueue only logs a refusal, and waits.

    Raises:
        StageError: with what sbatch said.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            ["sbatch", "--test-only", file.name], capture_output=True, text=True, timeout=60
        )
    if done.returncode:
        said = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
        raise StageError(
            f"engine.slurm: must describe a job that SLURM takes, got {said!r}; "
            "change queue, account, memory, cpus or directives"
        )

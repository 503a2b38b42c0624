"""Say where tasks run and how patient the engine is; nothing here changes a byte of any output."""

from __future__ import annotations

from dataclasses import dataclass, field

from curate.core.attempt import Patience
from curate.core.errors import ConfigError

ENGINES = ("inline", "local", "cluster", "slurm")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageHint:
    """Say what one task of a stage needs.

    Args:
        threads: of its networks; above 1, fewer tasks run at once. More threads sum in another
            order, so the last bits of scores may differ.
        memory_gb: fewer tasks run at once where the workers' memory would not hold; 0: no bound.
        gpus: of a worker's `GPU` resource; 0 runs anywhere.
    """

    threads: int = 1
    memory_gb: float = 0.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.threads < 1 or self.memory_gb < 0 or self.gpus < 0:
            raise ConfigError(
                "engine.hints: threads must be >= 1, memory_gb and gpus >= 0, "
                f"got {self.threads}, {self.memory_gb:g} and {self.gpus:g}; raise them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmConfig:
    """Describe the SLURM job of one worker, in the words of dask-jobqueue.

    Args:
        queue: partition; empty takes the site's default.
        account: to charge; empty takes the site's default.
        walltime: of a job, HH:MM:SS.
        memory: of a job, e.g. "16GB".
        cpus: of a job.
        interface: network interface of scheduler and workers, e.g. "ib0"; empty lets Dask choose.
        directives: further lines for `#SBATCH`, e.g. "--gres=gpu:1".
        prologue: shell lines before the worker starts, e.g. "module load cuda".
        log_folder: where jobs write their output.
    """

    queue: str = ""
    account: str = ""
    walltime: str = "04:00:00"
    memory: str = "8GB"
    cpus: int = 1
    interface: str = ""
    directives: list[str] = field(default_factory=list[str])
    prologue: list[str] = field(default_factory=list[str])
    log_folder: str = "slurm-logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Choose where tasks run.

    Args:
        name: "inline" (this process), "local" (a Dask LocalCluster, one process per worker),
            "cluster" (the scheduler at `address`) or "slurm" (workers as SLURM jobs).
        num_workers: worker processes of "local" (0: one per core), jobs of "slurm".
        tasks_per_worker: how many tasks are submitted ahead, per worker thread.
        tries: how often a failing task is tried before it is quarantined.
        retry_pause_s: before the second try; doubled before each further one.
        address: of the scheduler, e.g. "tcp://10.0.0.5:8786".
        connect_s: how long to wait for the scheduler and the first worker.
        dashboard_port: of the Dask dashboard of "local"; 0 takes a free one.
        gpus_per_worker: `GPU` resource of a worker that "local" or "slurm" starts.
        hints: stage -> what one of its tasks needs, e.g. engine.hints.encode.gpus=1.
        slurm: the job of one worker.
    """

    name: str = "local"
    num_workers: int = 0
    tasks_per_worker: int = 2
    tries: int = 3
    retry_pause_s: float = 0.5
    address: str = ""
    connect_s: float = 60.0
    dashboard_port: int = 0
    gpus_per_worker: float = 0.0
    hints: dict[str, StageHint] = field(default_factory=dict[str, StageHint])
    slurm: SlurmConfig = field(default_factory=SlurmConfig)

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise ConfigError(
                f"engine.name: must be one of {', '.join(ENGINES)}, got {self.name!r}; choose one"
            )
        if self.num_workers < 0 or self.tasks_per_worker < 1 or self.tries < 1:
            raise ConfigError(
                "engine: num_workers must be >= 0, tasks_per_worker and tries >= 1, got "
                f"{self.num_workers}, {self.tasks_per_worker} and {self.tries}; raise them"
            )
        if self.retry_pause_s < 0 or self.connect_s <= 0:
            raise ConfigError(
                "engine: retry_pause_s must be >= 0 and connect_s > 0, "
                f"got {self.retry_pause_s:g} and {self.connect_s:g}; raise them"
            )
        if (self.name == "cluster") != bool(self.address):
            raise ConfigError(
                "engine.address: must be set with engine=cluster and only there, "
                f"got {self.address!r} with engine={self.name}; "
                "write engine=cluster engine.address=tcp://HOST:PORT"
            )

    @property
    def patience(self) -> Patience:
        """Give how often a failing task is tried."""
        return Patience(tries=self.tries, pause_s=self.retry_pause_s)

    def hint(self, stage: str) -> StageHint:
        """Give what a stage's tasks need."""
        return self.hints.get(stage, StageHint())

"""Run training as a stage: encoded shards in, a model folder and its metrics out.

    encode/ -> train() with checkpoints in `place.scratch`
            -> model/ (averaged weights, as diffusers saves them), train.json, metrics.jsonl,
               00000.parquet (one row that sums up the run)

Not for the mathematics or the loop: see `flow.py`, `objective.py`, `loop.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa

from curate.core.errors import ShardError, StageError
from curate.core.latent_manifest import NAME
from curate.core.manifest import Task, marker_name
from curate.core.schema import OK, make_key, shard_name
from curate.core.shard import ShardWriter
from curate.core.stage import Place, Stage
from curate.core.store import Store, open_store
from train.card import CARD, MODEL_FOLDER, TrainCard, check_size
from train.config import TrainConfig
from train.store import EXCLUDED

if TYPE_CHECKING:
    from train.data import LatentSet
    from train.loop import TrainState

METRICS = "metrics.jsonl"
_SET = "_set"  # encode's task that writes the manifest; its marker names all shards' digests

TRAIN_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("samples_seen", pa.int64()),
        ("num_steps", pa.int64()),
        ("num_parameters", pa.int64()),
        ("num_train_samples", pa.int64()),
        ("loss", pa.float64()),
    ]
)


class TrainStage(Stage[TrainConfig]):
    """Train one model on all encoded shards; one task, which resumes from its own checkpoints."""

    name: ClassVar[str] = "train"
    version: ClassVar[int] = 2
    runs_in: ClassVar[Literal["worker", "client"]] = "client"

    def waves(self) -> Iterator[Sequence[Task]]:
        inputs: dict[str, str] = {}
        for number, (store, _) in enumerate(self._stores()):
            # Others are named by their place in the config: moving a store changes nothing.
            inputs |= _name_inputs(store, f"other-{number}" if number else store.name)
        yield [Task(shard=shard_name(0), inputs=inputs)]

    def run(self, task: Task, place: Place) -> Counter[str]:
        import torch

        from train.data import LatentSet
        from train.loop import make_identity, train

        config = self.config
        # Said outright, for Dask sets OMP_NUM_THREADS=1 in the process that starts its workers.
        torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
        try:
            with LatentSet(self._stores(), config.reading) as data:
                check_buckets(config, data)
                identity = make_identity(config, task.inputs, self.seed)
                state = train(config, data, place.scratch / "checkpoints", identity, self.seed)
                write_run(place.out, task.shard, config, data, state, self.seed)
                return Counter({"in": len(data), "kept": len(data)})
        except ShardError as error:  # of what is read: to try again would meet it again
            raise StageError(str(error)) from error

    def _stores(self) -> list[tuple[Store, float]]:
        others = [(open_store(url), weight) for url, weight in self.config.other_stores.items()]
        return [(self.inputs["encode"].store, 1.0), *others]


def _name_inputs(store: Store, prefix: str) -> dict[str, str]:
    """Name the store's state by the files that sum it up, for it may have 10^5 shards."""
    names = [NAME, marker_name(_SET), EXCLUDED]
    found = store.read_many(names)
    return {
        f"{prefix}/{name}": hashlib.sha256(data).hexdigest() for name, data in sorted(found.items())
    }


def check_buckets(config: TrainConfig, data: LatentSet) -> None:
    """Refuse buckets the model cannot take.

    Raises:
        ConfigError: a bucket is no whole number of tokens, or larger than the positional table.
    """
    for name in data.bucket_sizes:
        height, width = (int(side) for side in name.split("x"))
        check_size(config.model, data.space.downsample, height, width, f"bucket {name}")


def write_run(
    out: Path, shard: str, config: TrainConfig, data: LatentSet, state: TrainState, seed: int
) -> None:
    """Write the finished run's files; the model's weights become their averages."""
    from train.metrics import to_jsonl

    module = state.backbone.module
    card = TrainCard(
        seed=seed,
        samples_seen=state.samples_seen,
        num_parameters=sum(param.numel() for param in module.parameters()),
        space=data.space,
        config=config,
    )
    state.ema.copy_to(module.parameters())
    state.backbone.save(out / MODEL_FOLDER)
    (out / CARD).write_text(card.to_json())
    (out / METRICS).write_text(to_jsonl(state.lines))
    with ShardWriter(out, shard, TRAIN_SCHEMA, with_tar=False) as writer:
        writer.write(
            {
                "key": make_key("train", str(seed)),
                "status": OK,
                "samples_seen": card.samples_seen,
                "num_steps": config.num_steps,
                "num_parameters": card.num_parameters,
                "num_train_samples": len(data),
                "loss": state.lines[-1]["loss"],
            }
        )

"""Offer a loader as PyTorch's iterable data set, for loops that are not ours.

    LatentStream in DataLoader(batch_size=None, num_workers=0..k) or torchdata's StatefulDataLoader

The state is one number, the next step, of what was given out. Worker w of k reads steps w, w + k,
...; a data loader asks its workers in turns, so the order is the same for any k. Threads in the
training's own process are faster than workers, which copy every batch through pipes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from curate.core.errors import ConfigError
from train.batches import RawBatch
from train.data import BatchReader
from train.slot import Slot


class LatentStream(IterableDataset[RawBatch]):
    """Yield a rank's part of the batches of a plan, from any step on.

    Args:
        make_reader: opens the stores and plans; called once in each process that reads, so it must
            be picklable where workers are spawned (a function of a module, or a partial of one).
        first_step: where to begin, unless a state is loaded.
        end_step: None is without end.
        part: (rank, number of ranks).
    """

    def __init__(
        self,
        make_reader: Callable[[], BatchReader],
        *,
        first_step: int = 0,
        end_step: int | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._make_reader = make_reader
        self._end = end_step
        self._part = part
        self._first = first_step
        self._given = 0  # by this process, since `_first`
        self._loaded: Mapping[str, Any] | None = None
        self._reader: BatchReader | None = None

    def __iter__(self) -> Iterator[RawBatch]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        reader = self._open()
        if self._loaded is None:
            self._given = 0
        self._loaded = None
        while True:
            step = self._first + worker + self._given * num_workers
            if self._end is not None and step >= self._end:
                return
            planned = reader.plan.batch(step).part(*self._part)
            self._given += 1  # before the yield: the state is of what was given out
            # A new slot for each: a data loader holds several batches at a time.
            yield reader.read(planned, Slot())

    def state_dict(self) -> dict[str, Any]:
        """Give the cursor of this process and the plan that it belongs to."""
        digest = self._open().plan.digest()
        return {"first_step": self._first, "given": self._given, "plan": digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, with as many workers as then.

        Raises:
            ConfigError: the state is of another plan.
        """
        digest = self._open().plan.digest()
        if state["plan"] != digest:
            raise ConfigError(
                f"stream state: must be of this plan, {digest[:12]}, got {state['plan'][:12]}; "
                "use the same stores, weights, batch size and seed"
            )
        self._first, self._given = state["first_step"], state["given"]
        self._loaded = state

    def _open(self) -> BatchReader:
        if self._reader is None:
            self._reader = self._make_reader()
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}  # files and maps stay in their process

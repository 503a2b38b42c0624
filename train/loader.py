"""Read ahead of training: threads fill a ring of slots, batches come in the order of steps.

    plan -> step n + ahead: visits, ranges announced
         -> step n: read into a free slot            any thread
         -> delivered in order; its slot is free again when the next one is asked for

What comes does not depend on the number of threads. A thread takes the lowest step that no other
has taken together with a slot, so the step that the trainer waits for always has one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Self

from train.batches import RawBatch
from train.data import BatchReader
from train.plan import PlannedBatch
from train.slot import Slot
from train.visits import Visits

_SPARE_SLOTS = 3  # Source: storage.md, section 8: ring buffers of threads + 3


_Found = tuple[PlannedBatch, Visits]


class Loader:
    """Iterate over a rank's part of the batches [first_step, end_step).

    Args:
        reader: reads them.
        first_step: of the plan.
        end_step: None is without end.
        part: (rank, number of ranks); more generally one of the equal parts of a batch.
        num_threads: 0 reads when asked.
        ahead_steps: steps that are announced ahead; 0 is none.
        is_pinned: see `Slot`.
    """

    def __init__(
        self,
        reader: BatchReader,
        *,
        first_step: int = 0,
        end_step: int | None = None,
        part: tuple[int, int] = (0, 1),
        num_threads: int = 1,
        ahead_steps: int = 4,
        is_pinned: bool = False,
    ) -> None:
        self._reader = reader
        self._part = part
        self._end = end_step
        self._ahead = ahead_steps
        self._wanted = first_step  # what the trainer asks for next
        self._taken = first_step  # what a thread takes next
        self._announced = first_step
        self._visits: dict[int, Future[_Found]] = {}
        self._free = [Slot(is_pinned=is_pinned) for _ in range(num_threads + _SPARE_SLOTS)]
        self._held: Slot | None = None  # of the batch that the trainer has
        self._ready: dict[int, tuple[Slot, RawBatch | BaseException]] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"loader-{i}", daemon=True)
            for i in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[RawBatch]:
        return self

    def __next__(self) -> RawBatch:
        if self._held is not None:
            with self._changed:
                self._free.append(self._held)
                self._held = None
                self._changed.notify_all()
        if self._is_closed or (self._end is not None and self._wanted >= self._end):
            raise StopIteration
        slot, batch = self._wait() if self._threads else self._read_now()
        self._held = slot
        if isinstance(batch, BaseException):
            self.close()
            raise batch
        self._wanted += 1
        return batch

    @property
    def step(self) -> int:
        """Give the next step: the whole state, of what was taken and not of what was read."""
        return self._wanted

    def close(self) -> None:
        """Stop the threads; a read that is under way ends first."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _wait(self) -> tuple[Slot, RawBatch | BaseException]:
        with self._changed:
            while self._wanted not in self._ready:
                if self._is_closed:  # by another thread
                    raise StopIteration
                self._changed.wait()
            return self._ready.pop(self._wanted)

    def _read_now(self) -> tuple[Slot, RawBatch | BaseException]:
        slot = self._free.pop()
        try:
            return slot, self._read(self._wanted, slot)
        except BaseException as error:  # raised again when the loader is closed
            return slot, error

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            step, slot = taken
            try:
                result: RawBatch | BaseException = self._read(step, slot)
            except BaseException as error:
                result = error  # raised where the trainer asks for this step
            with self._changed:
                self._ready[step] = slot, result
                self._changed.notify_all()

    def _take(self) -> tuple[int, Slot] | None:
        with self._changed:
            while not self._is_closed and not self._free:
                self._changed.wait()
            if self._is_closed or (self._end is not None and self._taken >= self._end):
                return None
            self._taken += 1
            return self._taken - 1, self._free.pop()

    def _announce(self, step: int) -> None:
        """Find the visits of the steps up to this one plus `ahead`, and announce their ranges."""
        while (claimed := self._claim(step)) is not None:
            number, found = claimed
            try:
                planned = self._plan(number)
                visits = self._reader.visits(planned)
                if self._ahead:
                    self._reader.announce(visits)
                found.set_result((planned, visits))
            except BaseException as error:
                found.set_exception(error)  # raised where the step is read

    def _claim(self, step: int) -> tuple[int, Future[_Found]] | None:
        with self._changed:
            number = self._announced
            if number > step + self._ahead or (self._end is not None and number >= self._end):
                return None
            self._announced += 1
            found: Future[_Found] = Future()
            self._visits[number] = found
            return number, found

    def _read(self, step: int, slot: Slot) -> RawBatch:
        self._announce(step)
        with self._changed:
            found = self._visits.pop(step)
        planned, visits = found.result()
        return self._reader.read(planned, slot, visits)

    def _plan(self, step: int) -> PlannedBatch:
        return self._reader.plan.batch(step).part(*self._part)

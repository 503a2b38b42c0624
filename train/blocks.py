"""Order a bucket's samples for ever: epoch after epoch, every sample once in each.

    blocks  64 neighbours each               | s = 0    | s = 1    | ... | s = S-1  | rest
    strata  W neighbouring blocks each       | b b b .. | b b b .. | ... | b b b .. | b b
    window  one block of every stratum, W windows an epoch, S from 1024 to 2047
    inside a window all samples are shuffled

Which block a window takes of a stratum is a rotation that each stratum draws for each epoch, so no
order is ever computed as a whole: any step of 10^9 samples costs one window, 2 ms and 0.5 MB. Each
window is a stratified sample of the whole bucket. On sorted data a batch's mean therefore varies no
more than that of independent draws, where blocks dealt to windows at random give
1 + batch / window blocks = 1.25 for batches of 256; that is the worst that any data can meet here.
Blocks keep what is read near each other on the disk for the time of a window.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import derive_seed, make_rng

BLOCK = 64  # samples. Source: blocks of 64 and of 256 read at the same speed, storage.md section 2
WINDOW_BLOCKS = 1024  # chosen by us: at least, where there are so many; see above
# Chosen by us: 16 MB. With more buckets than this a window is made again at times, in 2 ms.
_CACHED_WINDOWS = 32
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epoch:
    """Hold what an epoch draws.

    Args:
        shifts: [S], int64, rotation of each stratum, in blocks.
        shift: rotation of the windows' labels.
        rest_shift: likewise, for who takes a block of the rest.
        short_window: the window that has the last, shorter block.
    """

    shifts: NDArray[np.int64]
    shift: int
    rest_shift: int
    short_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Hold one window.

    Args:
        blocks: [K], int64, the window's blocks.
        local: [samples of the window], uint32, place -> 64 * number of the block + sample in it.
    """

    blocks: NDArray[np.int64]
    local: NDArray[np.uint32]


class EndlessOrder:
    """Tell which sample the i-th item of an endless sequence is.

    Args:
        size: samples, >= 1.
        seed: the run's seed.
        name: of the sequence; another name gives another order.
    """

    def __init__(self, size: int, seed: int, *name: str | int) -> None:
        self.size = size
        self._seed = derive_seed(seed, "order", *name)
        num_blocks = -(-size // BLOCK)
        self._missing = num_blocks * BLOCK - size  # of the last block
        self._num_windows = max(1, num_blocks // WINDOW_BLOCKS)
        self._num_strata, self._num_rest = divmod(num_blocks, self._num_windows)
        # Windows follow each other in golden steps, so that neighbours in time take blocks that
        # are far from each other.
        self._stride = max(1, round(self._num_windows * _GOLDEN))
        while math.gcd(self._stride, self._num_windows) > 1:
            self._stride += 1

    def items(self, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Name the items [first, first + count).

        Returns:
            Each item's sample in [0, size), and its epoch, both [count], int64.
        """
        samples = np.empty(count, np.int64)
        epochs = np.empty(count, np.int64)
        done = 0
        while done < count:
            epoch, place = divmod(first + done, self.size)
            number, start, end = self._find_window(epoch, place)
            taken = min(end - place, count - done)
            window = _make_window(self, epoch, number)
            local = window.local[place - start : place - start + taken].astype(np.int64)
            samples[done : done + taken] = window.blocks[local // BLOCK] * BLOCK + local % BLOCK
            epochs[done : done + taken] = epoch
            done += taken
        return samples, epochs

    def make_window(self, epoch: int, number: int) -> _Window:
        """Choose a window's blocks and shuffle their samples."""
        drawn = _draw_epoch(self, epoch)
        width = self._num_windows
        label = (number * self._stride + drawn.shift) % width
        blocks = np.arange(self._num_strata) * width + (label + drawn.shifts) % width
        rest = (number + drawn.rest_shift) % width
        if rest < self._num_rest:
            blocks = np.append(blocks, self._num_strata * width + rest)
        size = BLOCK * len(blocks)
        if number == drawn.short_window:  # the last block is the highest, so it stands at the end
            size -= self._missing
        local = np.arange(size, dtype=np.uint32)
        make_rng(self._seed, "window", epoch, number).shuffle(local)
        return _Window(blocks=blocks, local=local)

    def draw_epoch(self, epoch: int) -> _Epoch:
        """Draw an epoch's rotations and find its short block."""
        width = self._num_windows
        rng = make_rng(self._seed, "epoch", epoch)
        shifts = rng.integers(0, width, self._num_strata)
        shift, rest_shift = rng.integers(0, width, 2).tolist()
        if self._num_rest:
            short = (self._num_rest - 1 - rest_shift) % width
        else:
            label = (width - 1 - int(shifts[-1])) % width
            short = (label - shift) * pow(self._stride, -1, width) % width
        return _Epoch(shifts=shifts, shift=shift, rest_shift=rest_shift, short_window=short)

    def _find_window(self, epoch: int, place: int) -> tuple[int, int, int]:
        """Give the number of a place's window and the places where it starts and ends."""
        drawn = _draw_epoch(self, epoch)
        number = min(place // (BLOCK * self._num_strata) + 1, self._num_windows - 1)
        while self._start(drawn, number) > place:
            number -= 1
        return number, self._start(drawn, number), self._start(drawn, number + 1)

    def _start(self, drawn: _Epoch, number: int) -> int:
        """Give the place of a window's first sample."""
        # Windows before this one with a block of the rest: those i < number for which
        # (i + rest_shift) % width < num_rest.
        turned = number + drawn.rest_shift
        wrapped = max(0, turned - self._num_windows)
        with_rest = (
            min(turned, self._num_rest) - min(drawn.rest_shift, self._num_rest)
            + min(wrapped, self._num_rest)
        )  # fmt: skip
        blocks = number * self._num_strata + with_rest
        return BLOCK * blocks - (self._missing if number > drawn.short_window else 0)


@functools.lru_cache(maxsize=4096)
def _draw_epoch(order: EndlessOrder, epoch: int) -> _Epoch:
    return order.draw_epoch(epoch)


@functools.lru_cache(maxsize=_CACHED_WINDOWS)
def _make_window(order: EndlessOrder, epoch: int, number: int) -> _Window:
    return order.make_window(epoch, number)

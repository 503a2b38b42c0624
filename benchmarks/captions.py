"""Time the search of captions for prompts, and of near captions beside datasketch.

    OMP_NUM_THREADS=1 python -m benchmarks.captions [--captions 100000] [--prompts 10000]

Words are drawn by Zipf's law from 30,000; captions have 4 to 25 of them, prompts 4 to 40. One
caption in a hundred is a leak, in turn: a prompt shouted, a prompt inside a longer caption, a
prompt with one word replaced; one in fifty is another caption without its last word. Printed are
CPU seconds of one process, for what is found the recall by kind of plant, and all else as false.
datasketch (`pip install datasketch`) hashes the same sets with as many permutations and the same
bands, and its candidates are counted exactly, too.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from curate.stages.duplicates.captions import collect_captions, count_near
from curate.stages.matching.minhash import NUM_BANDS, bands_of, jaccard
from curate.stages.matching.prompt_sets import Prompt
from curate.stages.matching.prompts import PromptIndex, PromptRules

MIN_JACCARD = 0.8
ROWS = 5  # of a band, as in `minhash.py`
_WORDS = [f"word{number}" for number in range(30_000)]
_WEIGHTS = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(_WORDS))))


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description="Time captions against prompts and each other.")
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--prompts", type=int, default=10_000)
    options = parser.parse_args()
    rng = random.Random(0)
    prompts = [Prompt(item=str(n), text=draw(rng, 4, 40)) for n in range(options.prompts)]
    captions = [draw(rng, 4, 25) for _ in range(options.captions)]
    measure_prompts(rng, prompts, list(captions))
    measure_near(captions)


def draw(rng: random.Random, least: int, most: int) -> str:
    """Draw a text of that many words."""
    return " ".join(rng.choices(_WORDS, cum_weights=_WEIGHTS, k=rng.randint(least, most)))


def measure_prompts(rng: random.Random, prompts: Sequence[Prompt], captions: list[str]) -> None:
    """Time the index and the search, and print what is found of each plant."""
    plants = (shouted, wrapped, changed)
    truth: dict[int, tuple[str, str]] = {}
    known = [prompt for prompt in prompts if len(prompt.text.split()) >= PromptRules().ngram]
    for number, row in enumerate(range(0, len(captions), 100)):
        prompt, plant = rng.choice(known), plants[number % len(plants)]
        captions[row] = plant(rng, prompt.text)
        truth[row] = (prompt.item, plant.__name__)
    index, seconds = timed(lambda: PromptIndex({"benchmark": prompts}))
    print(f"index of {len(prompts):,} prompts: {seconds:.2f} s")
    for name, rules in (("all kinds", None), ("no MinHash", PromptRules(min_jaccard=None))):
        index = PromptIndex({"benchmark": prompts}, rules)
        found, seconds = timed(lambda index=index: list(index.match(captions)))
        hits = {(match.row, match.item) for match in found}
        recalls = [
            f"{plant.__name__} {recall(hits, truth, plant.__name__):.3f}" for plant in plants
        ]
        false = len(hits - {(row, item) for row, (item, _) in truth.items()})
        rate = f"{len(captions) / seconds:,.0f} captions/s"
        print(f"{name}: {rate}; recall {', '.join(recalls)}; false {false}")


def recall(hits: set[tuple[int, str]], truth: dict[int, tuple[str, str]], plant: str) -> float:
    """Give the share of a plant's rows that were found with their prompt."""
    wanted = [(row, item) for row, (item, name) in truth.items() if name == plant]
    return sum(pair in hits for pair in wanted) / max(len(wanted), 1)


def shouted(rng: random.Random, text: str) -> str:
    """Write it in capitals, with a mark."""
    return f"{text.upper()}!"


def wrapped(rng: random.Random, text: str) -> str:
    """Put it between other words."""
    return f"{draw(rng, 1, 10)} {text} {draw(rng, 1, 10)}"


def changed(rng: random.Random, text: str) -> str:
    """Replace one word."""
    words = text.split()
    words[rng.randrange(len(words))] = "another"
    return " ".join(words)


def measure_near(captions: list[str]) -> None:
    """Time both ways to find near captions, in one process, and print how many pairs each finds."""
    for row in range(0, len(captions) - 1, 50):
        captions[row + 1] = captions[row].rpartition(" ")[0]
    ways: dict[str, Callable[[list[str]], int]] = {"ours": near_ours, "datasketch": near_peer}
    for name, way in ways.items():
        count, seconds = timed(lambda way=way: way(captions))
        print(f"near captions, {name}: {seconds:.1f} s, {count:,} pairs of {MIN_JACCARD} and more")


def near_ours(captions: list[str]) -> int:
    """Count the pairs of different captions."""
    known = collect_captions(captions).captions
    bands = bands_of(known.sets)
    ones = type(known)(texts=known.texts, samples=np.ones_like(known.samples), sets=known.sets)
    counts = [count_near(ones, bands[:, band], band, MIN_JACCARD) for band in range(NUM_BANDS)]
    return int(sum(count.sum() for count in counts)) // 2


def near_peer(captions: list[str]) -> int:
    """Count them by datasketch's MinHash and MinHashLSH."""
    from datasketch import MinHash, MinHashLSH

    known = collect_captions(captions).captions
    size = NUM_BANDS * ROWS
    lsh: Any = MinHashLSH(num_perm=size, params=(NUM_BANDS, ROWS))
    empty: Any = MinHash(num_perm=size, hashfunc=int)
    pairs: list[tuple[int, int]] = []
    for row, (start, end) in enumerate(itertools.pairwise(known.sets.ends.tolist())):
        minhash = empty.copy()
        minhash.update_batch(known.sets.values[start:end].tolist())
        pairs += [(other, row) for other in lsh.query(minhash)]
        lsh.insert(row, minhash)
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return int((jaccard(known.sets.take(left), known.sets.take(right)) >= MIN_JACCARD).sum())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Give the result and its CPU seconds."""
    start = time.process_time()
    return work(), time.process_time() - start


if __name__ == "__main__":
    main()

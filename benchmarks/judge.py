"""Measure judge: precision and recall of every rule against planted faults, and its speed.

    python -m benchmarks.judge [--good 4000] [--bad 400] [--rows 20000] [--real FILE.tsv]

`--real` takes a table with a column Prompt (PartiPrompts): texts of people, none of which a model
spoilt, so whatever is rejected but for its length counts against the rules.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa

from benchmarks.planted_captions import SPOIL, Planted, plant
from curate.captioners.caption_measures import RawCaptions, measure_captions
from curate.captioners.leaks import split_prompt
from curate.captioners.rules import find_reasons, judge_texts
from curate.captioners.thresholds import Thresholds


def measure_rules(planted: list[Planted]) -> dict[str, tuple[int, int, int]]:
    """Count for each rule the texts it must reject, those it does, and both.

    A rule that fires for a text with another fault is not wrong: a loop is too long, too. Rejected
    good texts count against every rule that rejects them.
    """
    judged = judge_texts(
        [one.text for one in planted],
        [one.prompt for one in planted],
        [one.finish_reason for one in planted],
    )
    true, found, right = Counter[str](), Counter[str](), Counter[str]()
    for one, judgement in zip(planted, judged, strict=True):
        true[one.fault] += 1
        for reason in judgement.reasons:
            found[reason] += not one.fault or one.fault == reason
            right[reason] += one.fault == reason
    return {rule: (true[rule], found[rule], right[rule]) for rule in SPOIL}


def measure_speed(planted: list[Planted], rows: int) -> float:
    """Give the captions that one core measures and judges in a second of its time."""
    texts = [one.text for one in planted if not one.fault]
    texts = (texts * (rows // len(texts) + 1))[:rows]
    raw = RawCaptions(
        texts=pa.array(texts),
        is_cut_off=pa.array([False] * rows),
        prompts=[split_prompt(planted[0].prompt)] * rows,
    )
    start = time.process_time()
    find_reasons(measure_captions(raw, trim=False), {}, Thresholds())
    return rows / (time.process_time() - start)


def count_rejected(path: Path) -> Counter[str]:
    """Judge the prompts of a table by people."""
    with path.open(encoding="utf-8", newline="") as stream:
        texts = [row["Prompt"] for row in csv.DictReader(stream, delimiter="\t", quoting=3)]
    judged = judge_texts(texts, [""] * len(texts), ["stop"] * len(texts))
    return Counter(judgement.status for judgement in judged)


def main() -> None:
    """Print a line for each rule, then the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--good", type=int, default=4000)
    parser.add_argument("--bad", type=int, default=400)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    planted = list(plant(options.good, options.bad))
    out = sys.stdout
    out.write(f"{'rule':<12}{'planted':>8}{'recall':>9}{'precision':>11}\n")
    for rule, (true, found, right) in measure_rules(planted).items():
        out.write(f"{rule:<12}{true:>8}{right / true:>9.4f}{right / max(found, 1):>11.4f}\n")
    out.write(f"speed: {measure_speed(planted, options.rows):,.0f} captions/s of CPU time\n")
    if options.real:
        out.write(f"{options.real}: {dict(count_rejected(options.real))}\n")


if __name__ == "__main__":
    main()

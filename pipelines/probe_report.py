"""Reckon from a probe what captioning all pictures takes, and say it in lines, one a figure."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curate.core.engine_config import EngineConfig
from curate.core.schema import OK
from curate.stages.recaptioning.rows import Line
from eval.intervals import wilson_interval

_HOUR_S = 3600.0
_LABEL = 12  # characters of the column of names


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """Hold what a probe found.

    Args:
        lines: of the journal, one for each attempt that the drawn pictures shall have.
        reasons: of each: "ok", or why it would be rejected.
        num_pictures: drawn.
        num_kept: pictures that are kept in all.
        num_new: attempts that were made now; the others' seconds are those of when they were made.
        loading_s: to load the models.
        device: what the hours are of: "GPU", "CPU" or "server".
    """

    lines: Sequence[Line]
    reasons: Sequence[str]
    num_pictures: int
    num_kept: int
    num_new: int
    loading_s: float
    device: str = "GPU"

    @property
    def seconds(self) -> float:
        """Give the time of all attempts, in one process."""
        return sum(line["seconds"] for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Say what captioning some pictures takes.

    Args:
        num_pictures: that shall be captioned.
        wall_hours: until all are done.
        device_hours: of all processes together.
        price: of them, in the currency of the hour's price; None without one.
        price_accepted: of a thousand accepted captions; None without a price or any.
    """

    num_pictures: int
    wall_hours: float
    device_hours: float
    price: float | None
    price_accepted: float | None


def reckon(
    probed: Probed, *, num_pictures: int = 0, num_processes: int = 1, gpu_price: float = 0.0
) -> Cost:
    """Scale the probe's time to more pictures.

    Args:
        probed: what the probe found.
        num_pictures: 0 for all that are kept.
        num_processes: that caption at once, each on a device of its own.
        gpu_price: of an hour of one device, whatever it is; 0 is unknown.
    """
    wanted = num_pictures or probed.num_kept
    share = wanted / probed.num_pictures
    device_hours = probed.seconds * share / _HOUR_S
    price = device_hours * gpu_price if gpu_price else None
    accepted = probed.reasons.count(OK) * share
    return Cost(
        num_pictures=wanted,
        wall_hours=device_hours / num_processes,
        device_hours=device_hours,
        price=price,
        price_accepted=1000 * price / accepted if price is not None and accepted else None,
    )


def count_processes(engine: EngineConfig) -> int:
    """Count the processes that a run would caption with; 1 for a cluster, which may have any."""
    if engine.name in ("inline", "cluster"):
        return 1
    return engine.num_workers or (os.cpu_count() or 1)


def describe_probe(probed: Probed, cost: Cost, num_processes: int) -> Iterator[str]:
    """Give the lines to print."""
    lines, seconds = probed.lines, probed.seconds
    num_captions, tokens = len(lines), sum(line["tokens"] for line in lines)
    before = num_captions - probed.num_new
    yield _line(
        "probe",
        f"{probed.num_pictures:,} of {probed.num_kept:,} kept pictures, {num_captions:,} captions"
        + (f", {before:,} of them made before" if before else ""),
    )
    shown = len({line["key"] for line in lines})
    if shown < probed.num_pictures:
        left_out = probed.num_pictures - shown
        yield _line("not asked", f"{left_out:,} pictures, which bucket will leave out")
    for name in dict.fromkeys(_name_model(line) for line in lines):
        yield _line("model", name)
    yield _line("loading", f"{probed.loading_s:.1f} s")
    if seconds:
        yield _line("captions/s", f"{_brief(num_captions / seconds)} in one process")
        yield _line("tokens/s", f"{_brief(tokens / seconds)} written")
        half, most = np.percentile([line["latency_s"] for line in lines], (50, 95)).tolist()
        yield _line(
            "latency", f"{_brief(half)} s a caption, {_brief(most)} s at the 95th percentile"
        )
    yield from _describe_shares(probed)
    processes = f"{num_processes} process" + ("es" if num_processes > 1 else "")
    yield _line("pictures", f"{cost.num_pictures:,} to caption")
    yield _line("wall hours", f"{_brief(cost.wall_hours)} with {processes}")
    yield _line(f"{probed.device}-hours", _brief(cost.device_hours))
    if cost.price is not None:
        each = (
            f", {_brief(cost.price_accepted)} for 1,000 accepted captions"
            if cost.price_accepted is not None
            else ""
        )
        yield _line("cost", f"{cost.price:,.2f}{each}")


def _describe_shares(probed: Probed) -> Iterator[str]:
    """Say how many captions are accepted, with intervals, and why others are not."""
    by_source: dict[str, list[str]] = {}
    accepted_keys: set[str] = set()
    for line, reason in zip(probed.lines, probed.reasons, strict=True):
        by_source.setdefault(line["source"], []).append(reason)
        accepted_keys |= {line["key"]} if reason == OK else set()
    every = len(accepted_keys) / probed.num_pictures
    yield _line("accepted", f"{_share(every, probed.num_pictures)} of pictures have a good caption")
    for source, reasons in by_source.items():
        rate = reasons.count(OK) / len(reasons)
        # Several captions of a picture share its difficulty: pictures are the trials.
        trials = min(len(reasons), probed.num_pictures)
        yield _line("", f"{_share(rate, trials)} of {len(reasons):,} captions in {source}")
    rejected = Counter(reason for reason in probed.reasons if reason != OK)
    if rejected:
        yield _line("rejected", ", ".join(f"{name} {n:,}" for name, n in rejected.most_common()))


def _share(rate: float, n: int) -> str:
    bounds = wilson_interval(rate, n)
    return f"{100 * rate:.1f} % (95 %: {100 * bounds.low:.1f} to {100 * bounds.high:.1f} %)"


def _name_model(line: Line) -> str:
    parts = (line["backend"], line["model"], line["dtype"], line["model_reported"])
    return " ".join(part for part in parts if part)


def _line(name: str, text: str) -> str:
    return f"{name:<{_LABEL}}{text}"


def _brief(number: float) -> str:
    """Write a number with three digits that count: 0.0123, 4.57, 123, 45,678."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"

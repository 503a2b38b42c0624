"""Turn measured attempts into verdicts: the rules of each source, then those about parents.

measures + pictures -> rules with the limits of the attempt's source -> reasons
a cut's parent rejected for more than its end -> the cut is rejected too
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.captioners.rules import RULES, find_reasons
from curate.captioners.thresholds import Thresholds
from curate.core.schema import KEY, OK, STATUS
from curate.stages.judging.attempts import ATTEMPTS

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

JUDGE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # "ok" or the first reason
        ("reasons", pa.list_(pa.string())),
        ("attempt", pa.string()),
        ("parent", pa.string()),
        ("source", pa.string()),
        ("number", pa.int32()),
        ("text", pa.string()),
        ("words", pa.int32()),
        ("boilerplate", pa.bool_()),
        ("repeated_frac", pa.float32()),
        ("looped", pa.int32()),
        ("compression", pa.float32()),
        ("hedges", pa.float32()),
        ("letters", pa.float32()),
        ("script_mix", pa.float32()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("pictures", pa.int32()),
        ("similarity", pa.float32()),
        ("similarity_sentence", pa.float32()),
        ("verified", pa.float32()),
        ("tokens", pa.int32()),
    ]
)
EVERY = "*"  # stands for all sources without thresholds of their own
_NAMES = tuple(rule.name for rule in RULES)
_PARENT = _NAMES.index("parent")
# What is wrong with the end of a caption, or with its length, says nothing against its start.
_OF_THE_END = np.array([name in ("cut_off", "too_long") for name in _NAMES])
# Captions of the web are the business of filter; all that is asked here is that there is a text.
_OF_THE_WEB = np.array([name in ("captioner_error", "empty") for name in _NAMES])


def judge_attempts(
    attempts: pa.Table, pictures: NDArray[np.int32], limits: Mapping[str, Thresholds]
) -> pa.Table:
    """Judge the attempts of a shard: JUDGE_SCHEMA, in their order.

    Args:
        attempts: as `measure_attempts` gives them.
        pictures: samples that have the attempt's text, [N].
        limits: source -> thresholds; `EVERY` for all others.
    """
    fired = _judge_by_source(attempts, pictures, limits)
    fired[np.flatnonzero(attempts["from_web"].to_numpy())] &= _OF_THE_WEB
    parents = attempts["parent_row"].to_numpy()
    is_rejected = np.asarray(fired[:, ~_OF_THE_END].any(axis=1))
    fired[:, _PARENT] = (parents >= 0) & is_rejected[np.maximum(parents, 0)]
    reasons = _list_reasons(fired)
    first = np.where(fired.any(axis=1), fired.argmax(axis=1), len(_NAMES))
    status = pa.array(np.array([*_NAMES, OK], object)[first], pa.string())
    own = {"status": status, "reasons": reasons, "pictures": pa.array(pictures)}
    columns = [own.get(name, attempts[name] if name in ATTEMPTS.names else None) for name in
               JUDGE_SCHEMA.names]  # fmt: skip
    return pa.table(columns, schema=JUDGE_SCHEMA)


def count_judged(judged: pa.Table, attempts: pa.Table, num_samples: int) -> Counter[str]:
    """Count samples, and attempts by source and reason.

    No caption drops a sample: "in" and "kept" are all of them, "without_caption" those for which
    no captioner wrote one that is accepted. The others count attempts: "accepted.SOURCE",
    "rejected.SOURCE.REASON" (the first one), "stripped.SOURCE" (of an opening).

    Args:
        judged: as `judge_attempts` gives it.
        attempts: of the same shard.
        num_samples: that captions were wanted for.
    """
    table = judged.append_column("from_web", attempts["from_web"])
    written = table.filter(pc.invert(table["from_web"]))
    accepted = written.filter(pc.equal(written[STATUS], OK))
    with_caption = pc.count_distinct(accepted[KEY]).as_py() if len(accepted) else 0
    counts = Counter(
        {"in": num_samples, "kept": num_samples, "without_caption": num_samples - with_caption}
    )
    for row in written.group_by(["source", STATUS]).aggregate([([], "count_all")]).to_pylist():
        outcome = "accepted" if row[STATUS] == OK else "rejected"
        name = f"{outcome}.{row['source']}"
        counts[name if row[STATUS] == OK else f"{name}.{row[STATUS]}"] += row["count_all"]
    for row in written.group_by("source").aggregate([("boilerplate", "sum")]).to_pylist():
        counts[f"stripped.{row['source']}"] += row["boilerplate_sum"] or 0
    return +counts


def _judge_by_source(
    attempts: pa.Table, pictures: NDArray[np.int32], limits: Mapping[str, Thresholds]
) -> NDArray[np.bool_]:
    """Hold each attempt against the limits of its source: [N, rules]."""
    sources: list[str] = attempts["source"].to_pylist()
    groups = np.array([source if source in limits else EVERY for source in sources], object)
    fired = np.zeros((len(attempts), len(RULES)), bool)
    for group, own in limits.items():
        rows = np.flatnonzero(groups == group)
        if len(rows):
            some = attempts.take(pa.array(rows))
            fired[rows] = find_reasons(some, _more_columns(some, pictures[rows]), own)
    return fired


def _more_columns(some: pa.Table, pictures: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """Give what rules read beside the measures of texts; null becomes NaN or ""."""
    columns: dict[str, NDArray[Any]] = {
        name: some[name].cast(pa.float64()).to_numpy()
        for name in ("similarity", "similarity_sentence", "verified", "language_score")
    }
    columns["language"] = np.array(some["language"].fill_null("").to_pylist(), object)
    columns["failed"] = np.array([one != OK for one in some[STATUS].to_pylist()], bool)
    columns["pictures"] = pictures
    return columns


def _list_reasons(fired: NDArray[np.bool_]) -> pa.Array:
    """Spell [N, rules] as a list of names for each row."""
    rows, rules = np.nonzero(fired)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(fired)))])
    names = pa.array(np.array(_NAMES, object)[rules], pa.string())
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), names)
